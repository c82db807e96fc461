//! Where rows are found: the buffer first, then the engine.
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
use super::revision::Revision;
use crate::error::Fault;
use crate::storage::engine::{Engine, Table};

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
        let mut found: Vec<Option<Bytes>> = wanted
            .iter()
            .map(|revision| held.get(*revision).map(|row| row.bytes.clone()))
            .collect();
        let mut missing: Vec<usize> = (0..wanted.len()).filter(|at| found[*at].is_none()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        missing.sort_unstable_by_key(|at| wanted[*at]);
        let view = self.engine().view()?;
        for at in missing {
            found[at] = view.get(Table::Key, &wanted[at].row_key(false))?;
        }
        Ok(found)
    }

    /// Visits every row with `from` ≤ revision ≤ `to` in order: key, tombstone or not, bytes.
    pub fn scan(
        &self,
        from: Revision,
        to: Revision,
        visit: &mut dyn FnMut(Revision, bool, &Bytes) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let held = self.buffer.hold();
        self.scan_held(&held, from, to, visit)
    }

    /// [`Rows::scan`] with the buffer already held.
    pub fn scan_held(
        &self,
        held: &Held,
        from: Revision,
        to: Revision,
        visit: &mut dyn FnMut(Revision, bool, &Bytes) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let after = Revision::new(to.main, to.sub + 1);
        let buffered = held.first().map_or(after, |first| first.min(after));
        if from < buffered {
            let view = self.engine().view()?;
            let mut going = ControlFlow::Continue(());
            let to = buffered.row_key(false);
            view.scan(Table::Key, &from.row_key(false), Some(&to), &mut |key, value| {
                let (revision, tombstone) = Revision::from_row_key(key)?;
                going = visit(revision, tombstone, &Bytes::copy_from_slice(value))?;
                Ok(going)
            })?;
            if going.is_break() {
                return Ok(());
            }
        }
        for row in held.range(from.max(buffered), to) {
            if visit(row.revision, row.tombstone, &row.bytes)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
