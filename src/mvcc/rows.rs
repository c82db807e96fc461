//! Where rows are found: the buffer first, then the cache, then the engine.
//!
//! Invariants:
//! - The buffer is held before the engine view is opened. A row that leaves the buffer was
//!   committed before, so it is found in one of the two unless compaction removed it.
//! - A batch of lookups opens at most one engine view and asks it in revision order.

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::buffer::{Buffer, Held};
use super::cache::RowCache;
use super::revision::{KEY_BYTES_MAX, Revision};
use crate::error::Fault;
use crate::limits;
use crate::planted::{Mistake, planted};
use crate::storage::engine::{Engine, Table, View};

/// What a scan calls for each row: its revision, whether it is a tombstone, its bytes.
pub type Visit<'a> = dyn FnMut(Revision, bool, &[u8]) -> Result<ControlFlow<()>, Fault> + 'a;

/// The rows of a store, wherever they are.
#[derive(Debug)]
pub struct Rows {
    pub buffer: Buffer,
    cache: RowCache,
    engine: ArcSwap<Arc<dyn Engine>>,
}

impl Rows {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        let cache = RowCache::new(limits::ROW_CACHE_BYTES);
        Self { buffer: Buffer::new(), cache, engine: ArcSwap::from_pointee(engine) }
    }

    /// The engine in use.
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine.load())
    }

    /// Puts another engine with the same rows in place of this one.
    pub fn replace_engine(&self, engine: Arc<dyn Engine>) {
        self.engine.store(Arc::new(engine));
    }

    /// Forgets every row in memory: the engine was replaced by one that holds another history.
    pub fn clear(&self) {
        if planted(Mistake::CacheKeptOnInstall) {
            return;
        }
        self.buffer.clear();
        self.cache.clear();
    }

    /// The row in memory at `revision`.
    fn at_hand(&self, held: &Held, revision: Revision) -> Option<Bytes> {
        match held.get(revision) {
            Some(row) => Some(row.bytes.clone()),
            None => self.cache.get(revision),
        }
    }

    /// The row of the live state at `revision`; `None` if compaction removed it.
    pub fn get(&self, revision: Revision) -> Result<Option<Bytes>, Fault> {
        if let Some(row) = self.at_hand(&self.buffer.hold(), revision) {
            return Ok(Some(row));
        }
        let row = self.engine().view()?.get(Table::Key, &revision.row_key(false))?;
        if let Some(row) = &row {
            self.cache.insert(revision, row);
        }
        Ok(row)
    }

    /// The rows of live states, in the order asked; `None` where compaction removed one.
    pub fn gather(&self, wanted: &[Revision]) -> Result<Vec<Option<Bytes>>, Fault> {
        let held = self.buffer.hold();
        let at_hand = |at: &Revision| self.at_hand(&held, *at);
        let mut rows: Vec<Option<Bytes>> = wanted.iter().map(at_hand).collect();
        let mut missing: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].is_none()).collect();
        if missing.is_empty() {
            return Ok(rows);
        }
        missing.sort_unstable_by_key(|at| wanted[*at]);
        let mut bytes = Vec::with_capacity(missing.len() * KEY_BYTES_MAX);
        let mut ends = Vec::with_capacity(missing.len());
        for at in &missing {
            wanted[*at].put_row_key(false, &mut bytes);
            ends.push(bytes.len());
        }
        let mut start = 0;
        let key = |end: &usize| &bytes[std::mem::replace(&mut start, *end)..*end];
        let keys: Vec<&[u8]> = ends.iter().map(key).collect();
        self.engine().view()?.get_each(Table::Key, &keys, &mut |at, row| {
            let row = row.map(Bytes::copy_from_slice);
            if let Some(row) = &row {
                self.cache.insert(wanted[missing[at]], row);
            }
            rows[missing[at]] = row;
            Ok(())
        })?;
        Ok(rows)
    }

    /// All rows of this moment, held still.
    pub fn pin(&self) -> Result<Pinned, Fault> {
        let held = self.buffer.hold();
        Ok(Pinned { held, view: self.engine().view()? })
    }
}

/// The rows of one moment.
pub struct Pinned {
    held: Held,
    view: Box<dyn View>,
}

impl Pinned {
    /// Visits rows with `from` ≤ revision ≤ `to`, in order.
    pub fn scan(&self, from: Revision, to: Revision, visit: &mut Visit<'_>) -> Result<(), Fault> {
        let after = Revision::new(to.main, to.sub + 1);
        // Everything older than the buffer's first row is in the engine.
        let buffered = self.held.first().map_or(after, |first| first.min(after));
        if from < buffered {
            let mut going = ControlFlow::Continue(());
            let (from, to) = (from.row_key(false), buffered.row_key(false));
            self.view.scan(Table::Key, &from, Some(&to), &mut |key, value| {
                let (revision, tombstone) = Revision::from_row_key(key)?;
                going = visit(revision, tombstone, value)?;
                Ok(going)
            })?;
            if going.is_break() {
                return Ok(());
            }
        }
        for row in self.held.range(from.max(buffered), to) {
            if visit(row.revision, row.tombstone, &row.bytes)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
