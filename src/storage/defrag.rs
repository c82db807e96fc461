//! Online defragmentation: an engine's rows copied into a fresh engine while commits go on.
//!
//! ```text
//!   commit   step   commit   step    commit   step   ...   done   swap
//!     │  └──mirror──┐  │  └──mirror──┐  │  └──mirror──┐       │
//!   source ─rows──► copy ─more rows─► copy ─────────► copy = source
//! ```
//!
//! The owner of the engine, who makes all its commits, calls [`Defrag::step`] between them, each
//! step copying some rows. Whatever it commits to the source it passes through [`Defrag::mirror`]
//! and commits to the copy: the changes to rows that are copied already. Rows further on are copied
//! later, as they are then. So the copy needs no second pass, nothing has to hold still, deletions
//! included, and when the last row is copied both engines hold the same: the owner takes the copy
//! in the source's place between two commits. Nobody waits for more than one step, and only those
//! who wait for the owner; readers keep the views they have and get new ones.
//!
//! Invariants:
//! - Rows before the position are equal in both engines whenever the owner holds neither.
//! - The copy is good for nothing until it is done. Only then does it get the source's name, and
//!   a crash before leaves a file to be thrown away.
//!
//! Deliberately absent: files and names, which differ by engine. redb's copy is opened under
//! another name and takes over by [`Redb::rename`](super::redb::Redb::rename), open as it is; sled
//! has to be closed, its directory renamed, and opened again.

use std::ops::{ControlFlow, Range};

use bytes::{Bytes, BytesMut};

use super::engine::{Engine, Table, Write};
use crate::error::Fault;

/// What a row costs beside its bytes, so that many small rows do not make a long step.
const ROW_OVERHEAD_BYTES: usize = 32;

/// Whether there is more to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    Done,
}

/// A defragmentation under way: how far the copy has come.
#[derive(Debug, Default)]
pub struct Defrag {
    /// Tables before this one, of [`Table::ALL`], are copied.
    tables: usize,
    /// Rows of this table with keys before this one are copied.
    before: Vec<u8>,
    started: bool,
}

impl Defrag {
    /// A defragmentation that has copied nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies about `budget_bytes` of rows from `source` to `copy`, one at least, in one commit. A
    /// source that has not shown all of its rows when it is done is damaged.
    pub fn step(
        &mut self,
        source: &dyn Engine,
        copy: &dyn Engine,
        budget_bytes: usize,
    ) -> Result<Progress, Fault> {
        if !self.started {
            require_empty(copy)?;
            self.started = true;
        }
        let mut batch = Batch::default();
        let view = source.view()?;
        while let Some(table) = Table::ALL.get(self.tables) {
            let mut last = None;
            view.scan(*table, &self.before, None, &mut |key, value| {
                if batch.is_full(budget_bytes) {
                    return Ok(ControlFlow::Break(()));
                }
                last = Some(batch.push(*table, key, value));
                Ok(ControlFlow::Continue(()))
            })?;
            if batch.is_full(budget_bytes) {
                if let Some(last) = last {
                    // The least key after the last.
                    self.before = [&batch.arena[last], &[0]].concat();
                }
                break;
            }
            self.tables += 1;
            self.before.clear();
        }
        drop(view);
        copy.commit(&batch.writes())?;
        let progress = self.progress();
        if progress == Progress::Done {
            source.view()?.check_found(copy.used_bytes()?)?;
        }
        Ok(progress)
    }

    /// What the copy must be told of a commit to the source.
    pub fn mirror(&self, writes: &[Write]) -> Vec<Write> {
        writes.iter().filter(|write| self.is_copied(write)).cloned().collect()
    }

    /// Whether the copy holds what the source holds.
    pub fn progress(&self) -> Progress {
        if self.tables == Table::COUNT { Progress::Done } else { Progress::More }
    }

    fn is_copied(&self, write: &Write) -> bool {
        match Table::ALL.get(self.tables) {
            Some(table) if *table == write.table() => write.key()[..] < self.before[..],
            Some(table) => write.table() < *table,
            None => true,
        }
    }
}

fn require_empty(copy: &dyn Engine) -> Result<(), Fault> {
    let view = copy.view()?;
    for table in Table::ALL {
        view.scan(table, b"", None, &mut |_, _| {
            Err(Fault::Broken(format!("the copy already has rows in {}", table.name())))
        })?;
    }
    Ok(())
}

/// Rows on their way, in one allocation.
#[derive(Default)]
struct Batch {
    arena: BytesMut,
    rows: Vec<(Table, Range<usize>, Range<usize>)>,
    spent: usize,
}

impl Batch {
    /// Takes a row; returns where its key is.
    fn push(&mut self, table: Table, key: &[u8], value: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(key);
        let middle = self.arena.len();
        self.arena.extend_from_slice(value);
        self.rows.push((table, start..middle, middle..self.arena.len()));
        self.spent += key.len() + value.len() + ROW_OVERHEAD_BYTES;
        start..middle
    }

    fn is_full(&self, budget_bytes: usize) -> bool {
        !self.rows.is_empty() && self.spent >= budget_bytes
    }

    fn writes(self) -> Vec<Write> {
        let arena: Bytes = self.arena.freeze();
        let rows = self.rows.into_iter();
        rows.map(|(table, key, value)| Write::Put {
            table,
            key: arena.slice(key),
            value: arena.slice(value),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
