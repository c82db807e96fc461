//! The store: the one writer's handle, and what a checkpoint takes from it.

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};

use super::buffer::{Appender, Held};
use super::index::{Facts, Head, Index};
use super::reader::{Published, Reader, Shared};
use super::revision::{KEY_BYTES_MAX, Revision};
use super::row::Fields;
use super::rows::Rows;
use super::state::State;
use super::txn::WriteTxn;
use crate::error::{Error, Fault};
use crate::storage::engine::{Engine, Table, Write};

const SCHEDULED_COMPACT_REV: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACT_REV: &[u8] = b"finishedCompactRev";

/// The writer. There is one, owned by whoever applies the log.
#[derive(Debug)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    pub(super) index: Index,
    pub(super) appender: Appender,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    /// The newest row that a batch has taken.
    taken: Revision,
    pub(super) newest: Revision,
    pub(super) meta: Vec<(&'static [u8], i64)>,
    pub(super) deletes: Vec<(Revision, bool)>,
}

impl Store {
    /// Opens the store an engine holds; an empty engine is a fresh store at revision 1.
    pub fn open(engine: Arc<dyn Engine>) -> Result<Self, Fault> {
        let view = engine.view()?;
        let meta = |key| -> Result<Option<i64>, Fault> {
            let Some(value) = view.get(Table::Meta, key)? else { return Ok(None) };
            Ok(Some(Revision::from_row_key(&value)?.0.main))
        };
        let finished = meta(FINISHED_COMPACT_REV)?;
        let scheduled = meta(SCHEDULED_COMPACT_REV)?;
        let mut index = Index::default();
        let mut newest = Revision::default();
        view.scan(Table::Key, &[], None, &mut |key, row| {
            let (revision, tombstone) = Revision::from_row_key(key)?;
            let fields = Fields::decode(row)?;
            let facts = Facts {
                revision,
                create_revision: fields.create_revision,
                version: fields.version,
            };
            index.put(fields.key, Head { facts, tombstone });
            newest = revision;
            Ok(ControlFlow::Continue(()))
        })?;
        drop(view);
        let compact_revision = finished.max(scheduled).unwrap_or(-1);
        let revision = newest.main.max(compact_revision).max(1);
        let published = Published { index: index.clone(), revision, compact_revision };
        let shared =
            Shared { published: ArcSwap::from_pointee(published), rows: Rows::new(engine) };
        Ok(Self {
            shared: Arc::new(shared),
            index,
            appender: Appender::default(),
            revision,
            compact_revision,
            taken: newest,
            newest,
            meta: Vec::new(),
            deletes: Vec::new(),
        })
    }

    /// A handle for readers.
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// The state with everything applied so far, published or not.
    pub fn state(&self) -> State<'_> {
        State {
            shared: &self.shared,
            index: &self.index,
            revision: self.revision,
            compact_revision: self.compact_revision,
        }
    }

    /// The current main revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Begins a write transaction.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// Shows everything applied so far to readers.
    pub fn publish(&mut self) {
        self.shared.published.store(Arc::new(Published {
            index: self.index.clone(),
            revision: self.revision,
            compact_revision: self.compact_revision,
        }));
    }

    /// What changed since the last batch was taken, for the checkpointer to commit.
    ///
    /// Cheap: the rows are shared, and laid out as writes only by [`Batch::writes`].
    pub fn take_writes(&mut self) -> Batch {
        let from = std::mem::replace(&mut self.taken, self.newest);
        Batch {
            held: self.shared.rows.buffer.hold(),
            from,
            to: self.newest,
            deletes: std::mem::take(&mut self.deletes),
            meta: std::mem::take(&mut self.meta),
        }
    }

    /// Makes every revision below `revision` unreadable; deletion follows in steps.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compact_revision {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRev);
        }
        self.compact_revision = revision;
        self.meta.push((SCHEDULED_COMPACT_REV, revision));
        self.meta.push((FINISHED_COMPACT_REV, revision));
        Ok(())
    }
}

/// The changes between two checkpoints, to be committed in one engine transaction.
#[derive(Debug)]
pub struct Batch {
    held: Held,
    /// The newest row already taken before.
    from: Revision,
    to: Revision,
    deletes: Vec<(Revision, bool)>,
    meta: Vec<(&'static [u8], i64)>,
}

impl Batch {
    /// The newest row in it; what to call `checkpointed` with after the commit.
    pub fn revision(&self) -> Revision {
        self.to
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.from == self.to && self.deletes.is_empty() && self.meta.is_empty()
    }

    /// Appends the changes, in the order they must be written: rows, deletions, meta.
    pub fn writes(&self, writes: &mut Vec<Write>) {
        let after = Revision::new(self.from.main, self.from.sub + 1);
        let rows: Vec<_> = match self.from < self.to {
            true => self.held.range(after, self.to).collect(),
            false => Vec::new(),
        };
        let mut keys = BytesMut::with_capacity((rows.len() + self.deletes.len()) * KEY_BYTES_MAX);
        let mut key = |revision: Revision, tombstone| {
            revision.put_row_key(tombstone, &mut keys);
            keys.split().freeze()
        };
        writes.reserve(rows.len() + self.deletes.len() + self.meta.len());
        for row in rows {
            let key = key(row.revision, row.tombstone);
            writes.push(Write::Put { table: Table::Key, key, value: row.bytes.clone() });
        }
        for (revision, tombstone) in &self.deletes {
            writes.push(Write::Delete { table: Table::Key, key: key(*revision, *tombstone) });
        }
        for (name, main) in &self.meta {
            let value = key(Revision::new(*main, 0), false);
            writes.push(Write::Put { table: Table::Meta, key: Bytes::from_static(name), value });
        }
    }
}
