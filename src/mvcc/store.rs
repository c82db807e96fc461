//! The store: the one writer's handle, and what a checkpoint takes from it.

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::buffer::{Appender, Held};
use super::compact::Compactor;
use super::image::Image;
use super::index::{Facts, Head, Index};
use super::reader::{Published, Reader, Shared};
use super::revision::{KEY_BYTES_MAX, Revision};
use super::row::Fields;
use super::rows::Rows;
use super::state::State;
use super::txn::WriteTxn;
use super::whole::Whole;
use crate::error::Fault;
use crate::limits;
use crate::storage::engine::{Engine, Table, View, Write, count_bytes};
use crate::storage::keys;

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
    pub(super) compactor: Compactor,
}

impl Store {
    /// Opens the store an engine holds; an empty engine is a fresh store at revision 1.
    ///
    /// A compaction that was interrupted goes on with the next steps.
    pub fn open(engine: Arc<dyn Engine>) -> Result<Self, Fault> {
        Self::open_with(engine, None)
    }

    /// As [`Store::open`], and sooner with an image of an earlier state of the same engine. One
    /// that does not serve any more is not used.
    pub fn open_with(engine: Arc<dyn Engine>, image: Option<Image>) -> Result<Self, Fault> {
        let loaded = Loaded::from(&*engine.view()?, image)?;
        let shared = Shared {
            published: ArcSwap::from_pointee(loaded.published()),
            rows: Rows::new(engine),
            hashes: Mutex::default(),
        };
        Ok(loaded.into_store(Arc::new(shared)))
    }

    /// Puts the state another engine holds in place of this one; readers keep their handles.
    ///
    /// For a member that fell behind and was sent a snapshot: the other state is a later one of the
    /// same history.
    pub fn restore(&mut self, engine: Arc<dyn Engine>) -> Result<(), Fault> {
        let loaded = Loaded::from(&*engine.view()?, None)?;
        // The order matters to readers: whoever finds the buffer empty must find the new engine.
        self.shared.rows.replace_engine(engine);
        self.shared.rows.clear();
        self.shared.published.store(Arc::new(loaded.published()));
        *self = loaded.into_store(Arc::clone(&self.shared));
        Ok(())
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

    /// Bytes of all rows, those not yet in the engine included.
    pub fn live_bytes(&self) -> Result<i64, Fault> {
        self.reader().live_bytes()
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
}

/// What an engine holds.
struct Loaded {
    index: Index,
    newest: Revision,
    revision: i64,
    compact_revision: i64,
    compactor: Compactor,
}

impl Loaded {
    fn from(view: &dyn View, image: Option<Image>) -> Result<Self, Fault> {
        let meta = |key: &[u8]| match view.get(Table::Meta, key)? {
            Some(value) => possible(Table::Meta, key, keys::decode_compact_revision(key, &value)?),
            None => Ok(-1),
        };
        let finished = meta(keys::FINISHED_COMPACT_REV)?;
        let scheduled = meta(keys::SCHEDULED_COMPACT_REV)?;
        let image = match image {
            Some(image) if serves(&image, view, scheduled.max(finished))? => Some(image),
            Some(_) | None => None,
        };
        let (mut index, mut newest, mut compactor) = match image {
            Some(Image { index, newest, cursor, tombstones }) => {
                (index, newest, Compactor::remembering(cursor, tombstones))
            }
            None => Default::default(),
        };
        let is_whole = newest.main == 0;
        let whole = Whole::behind(newest, finished.max(scheduled));
        let found = read_rows(view, whole, &mut newest, &mut index, &mut compactor)?;
        if is_whole {
            // A row that damage hides would be a key that nobody knows of.
            let others = Table::ALL.into_iter().filter(|table| *table != Table::Key);
            view.check_found(found + count_bytes(view, others)?)?;
        }
        compactor.finished(finished, &mut index);
        if scheduled > finished {
            compactor.resume(scheduled);
        }
        let compact_revision = finished.max(scheduled);
        // The newest rows may be compacted away; the revision must not fall behind that.
        let revision = newest.main.max(compact_revision).max(1);
        Ok(Self { index, newest, revision, compact_revision, compactor })
    }

    fn published(&self) -> Published {
        let index = self.index.clone();
        Published { index, revision: self.revision, compact_revision: self.compact_revision }
    }

    fn into_store(self, shared: Arc<Shared>) -> Store {
        Store {
            shared,
            index: self.index,
            appender: Appender::default(),
            revision: self.revision,
            compact_revision: self.compact_revision,
            taken: self.newest,
            newest: self.newest,
            meta: Vec::new(),
            deletes: Vec::new(),
            compactor: self.compactor,
        }
    }
}

/// Takes up the rows behind `newest`, all of them if it is none; how many bytes they have.
fn read_rows(
    view: &dyn View,
    mut whole: Whole,
    newest: &mut Revision,
    index: &mut Index,
    compactor: &mut Compactor,
) -> Result<u64, Fault> {
    let from = match newest.main {
        0 => Bytes::new(),
        _ => Revision::new(newest.main, newest.sub + 1).row_key(false),
    };
    let (mut last, mut found) = (None, 0);
    view.scan(Table::Key, &from, None, &mut |key, row| {
        found += (key.len() + row.len()) as u64;
        let (revision, tombstone) = Revision::from_row_key(key)?;
        if possible(Table::Key, key, revision.main)? == 0 {
            return Err(Fault::row(Table::Key.name(), key, "before the first revision"));
        }
        // A put and a deletion have different keys, and may not share a place in history.
        if last.replace(revision) == Some(revision) {
            return Err(Fault::row(Table::Key.name(), key, "a second row of its revision"));
        }
        whole.follow(revision)?;
        let fields = Fields::decode(row)?;
        let facts = Facts {
            revision,
            create_revision: fields.create_revision,
            version: fields.version,
            leased: fields.lease != 0,
        };
        index.put(fields.key, Head { facts, tombstone });
        if tombstone {
            compactor.tombstone(revision, Bytes::copy_from_slice(fields.key));
        }
        *newest = revision;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// A revision that a row names, if there can be later ones.
fn possible(table: Table, key: &[u8], main: i64) -> Result<i64, Fault> {
    match main <= limits::REVISION_MAX {
        true => Ok(main),
        false => Err(Fault::row(table.name(), key, "a revision beyond the last there is")),
    }
}

/// Whether an image is one of an earlier state of this engine, and no compaction was accepted
/// since that may have removed rows the image should have seen.
fn serves(image: &Image, view: &dyn View, compacted: i64) -> Result<bool, Fault> {
    let newest = image.newest();
    let mut known = false;
    for tombstone in [false, true] {
        known |= view.get(Table::Key, &newest.row_key(tombstone))?.is_some();
    }
    Ok(known && compacted <= newest.main)
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
        let mut row_keys =
            BytesMut::with_capacity((rows.len() + self.deletes.len()) * KEY_BYTES_MAX);
        let mut key = |revision: Revision, tombstone| {
            revision.put_row_key(tombstone, &mut row_keys);
            row_keys.split().freeze()
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
            let value = Bytes::copy_from_slice(&keys::encode_compact_revision(*main));
            writes.push(Write::Put { table: Table::Meta, key: Bytes::from_static(name), value });
        }
    }
}
