//! Where rows are found: the buffer first, then the engine.
//!
//! Invariants:
//! - The buffer is held before the engine view is opened. A row that leaves the buffer was
//!   committed before, so it is found in one of the two unless compaction removed it.
//! - A batch of lookups opens at most one engine view and asks it in revision order.

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};

use super::buffer::{Buffer, Held};
use super::revision::{KEY_BYTES_MAX, Revision};
use crate::error::Fault;
use crate::storage::engine::{Engine, Table, View};

/// Rows copied from the engine share buffers of about this size.
const COPY_BYTES: usize = 64 << 10;

/// What a scan calls for each row: its revision, whether it is a tombstone, its bytes.
pub type Visit<'a> = dyn FnMut(Revision, bool, &[u8]) -> Result<ControlFlow<()>, Fault> + 'a;

/// The rows of a store, wherever they are.
#[derive(Debug)]
pub struct Rows {
    pub buffer: Buffer,
    engine: ArcSwap<Arc<dyn Engine>>,
}

impl Rows {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { buffer: Buffer::new(), engine: ArcSwap::from_pointee(engine) }
    }

    /// The engine in use.
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine.load())
    }

    /// Puts another engine with the same rows in place of this one.
    pub fn replace_engine(&self, engine: Arc<dyn Engine>) {
        self.engine.store(Arc::new(engine));
    }

    /// The row of the live state at `revision`; `None` if compaction removed it.
    pub fn get(&self, revision: Revision) -> Result<Option<Bytes>, Fault> {
        if let Some(row) = self.buffer.hold().get(revision) {
            return Ok(Some(row.bytes.clone()));
        }
        self.engine().view()?.get(Table::Key, &revision.row_key(false))
    }

    /// The rows of live states, in the order asked; `None` where compaction removed one.
    pub fn gather(&self, wanted: &[Revision]) -> Result<Vec<Option<Bytes>>, Fault> {
        let held = self.buffer.hold();
        let buffered = |revision| held.get(revision).map(|row| row.bytes.clone());
        let mut rows: Vec<Option<Bytes>> = wanted.iter().map(|at| buffered(*at)).collect();
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
        let mut copies = BytesMut::new();
        self.engine().view()?.get_each(Table::Key, &keys, &mut |at, row| {
            rows[missing[at]] = row.map(|row| copy(row, &mut copies));
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

/// Copies a row behind others in a shared buffer: one allocation for many rows of an answer.
fn copy(row: &[u8], copies: &mut BytesMut) -> Bytes {
    if copies.capacity() - copies.len() < row.len() {
        *copies = BytesMut::with_capacity(row.len().max(COPY_BYTES));
    }
    copies.extend_from_slice(row);
    copies.split().freeze()
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
