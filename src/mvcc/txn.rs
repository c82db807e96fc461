//! A write transaction: all changes of one applied command, under one main revision.
//!
//! Invariants:
//! - There is no rollback. Whoever applies a command checks everything that may refuse it first.
//! - Changes are numbered from sub revision 0; a transaction without changes leaves no trace.
//! - Reads inside see the changes made so far.

use bytes::Bytes;

use super::index::{Facts, Head};
use super::revision::Revision;
use super::row::{self, Fields};
use super::state::State;
use super::store::Store;
use crate::span::Span;

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    Delete,
}

/// One change to one key, as watchers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub kind: Kind,
    /// Whether the transaction made the key; such an event has no `prev_kv`.
    pub created: bool,
    pub key: Bytes,
    /// The encoded KeyValue of the event; a deletion's has only key and mod_revision.
    pub row: Bytes,
}

/// The changes of one write transaction, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The main revision after the transaction.
    pub revision: i64,
    pub events: Vec<Change>,
}

/// A write transaction in progress.
#[derive(Debug)]
#[must_use = "changes count only after end()"]
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    events: Vec<Change>,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(store: &'a mut Store) -> Self {
        Self { store, events: Vec::new() }
    }

    /// The main revision reads see now: one more than at the start once something changed.
    pub fn revision(&self) -> i64 {
        self.store.revision + i64::from(!self.events.is_empty())
    }

    /// The state with the changes made so far.
    pub fn state(&self) -> State<'_> {
        State { revision: self.revision(), ..self.store.state() }
    }

    /// Writes a key; returns what the index knew of it before, if it was live.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Option<Facts> {
        let revision = self.next();
        let before = self.store.index.head(key).and_then(Head::live);
        let facts = Facts {
            revision,
            create_revision: before.map_or(revision.main, |before| before.create_revision),
            // As etcd's: a row that was restored may have any.
            version: before.map_or(0, |before| before.version).wrapping_add(1),
            leased: lease != 0,
        };
        let row = Fields { value, lease, ..Fields::of(key, facts) }.encode();
        self.store.index.put(key, Head { facts, tombstone: false });
        self.store.add_row(revision, false, &row);
        // As clients decide it: by the numbers in the row.
        let created = facts.create_revision == revision.main;
        self.events.push(Change {
            revision,
            kind: Kind::Put,
            created,
            key: row::key_of(&row),
            row,
        });
        before
    }

    /// Deletes the live keys of a span in key order; returns how many there were.
    pub fn delete_range(&mut self, span: &Span) -> i64 {
        let mut doomed = Vec::new();
        self.state().visit(span, &mut |key, facts| {
            doomed.push((key.to_vec(), facts));
            std::ops::ControlFlow::Continue(())
        });
        for (key, facts) in &doomed {
            self.delete(key, *facts);
        }
        doomed.len() as i64
    }

    fn delete(&mut self, key: &[u8], before: Facts) {
        let revision = self.next();
        self.store.index.put(key, Head { facts: Facts { revision, ..before }, tombstone: true });
        let stored = Fields { key, ..Fields::default() }.encode();
        self.store.compactor.tombstone(revision, row::key_of(&stored));
        self.store.add_row(revision, true, &stored);
        let row = Fields { key, mod_revision: revision.main, ..Fields::default() }.encode();
        let kind = Kind::Delete;
        self.events.push(Change { revision, kind, created: false, key: row::key_of(&row), row });
    }

    fn next(&self) -> Revision {
        let sub = u32::try_from(self.events.len()).expect("fewer changes than keys in memory");
        assert!(sub < Revision::SUB_MAX, "a transaction has fewer than 2^30 changes");
        Revision::new(self.store.revision + 1, sub)
    }

    /// Ends the transaction and hands out its changes.
    pub fn end(mut self) -> Changes {
        self.store.revision += i64::from(!self.events.is_empty());
        Changes { revision: self.store.revision, events: std::mem::take(&mut self.events) }
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        assert!(
            self.events.is_empty() || std::thread::panicking(),
            "a transaction that changed something was not ended"
        );
    }
}

impl Store {
    fn add_row(&mut self, revision: Revision, tombstone: bool, row: &Bytes) {
        assert!(self.newest < revision, "history only grows");
        self.appender.append(&self.shared.rows.buffer, revision, tombstone, row);
        self.newest = revision;
    }
}
