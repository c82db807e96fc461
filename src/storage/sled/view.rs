//! A view of the sled engine: the tree, corrected by what later commits replaced.

use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::Shared;
use super::rows::{Raw, head_key};
use super::versions::Undo;
use crate::error::Fault;
use crate::storage::engine::{Found, Table, View, Visit};

/// Rows a scan reads before it looks for what later commits replaced.
const SCAN_ROWS: usize = 256;

/// A head key and what was read for it.
type Row = (Vec<u8>, Raw);

pub struct SledView {
    shared: Arc<Shared>,
    commit: u64,
}

impl SledView {
    pub fn new(shared: Arc<Shared>) -> Self {
        let commit = shared.versions.lock().open();
        Self { shared, commit }
    }

    /// Reads rows of the tree from `from` on; says whether it came to the end of the range.
    fn read_rows(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<(Vec<Row>, bool), Fault> {
        let mut rows = Vec::new();
        let mut heads = self.shared.tree.range::<&[u8], _>((from, to));
        while rows.len() < SCAN_ROWS {
            let Some(row) = heads.next() else { return Ok((rows, true)) };
            let (head, found) = row.map_err(|error| self.shared.fault("read", error))?;
            let raw = self.shared.read_chunks(&head, Some(found))?;
            rows.push((head.to_vec(), raw));
        }
        Ok((rows, false))
    }
}

impl Drop for SledView {
    fn drop(&mut self) {
        self.shared.versions.lock().close(self.commit);
    }
}

impl View for SledView {
    fn get_each(&self, table: Table, keys: &[&[u8]], found: &mut Found<'_>) -> Result<(), Fault> {
        for (at, key) in keys.iter().enumerate() {
            let head = head_key(table, key);
            // The order matters: see `versions`.
            let raw = self.shared.read(&head)?;
            let undone = self.shared.versions.lock().get(self.commit, &head);
            match undone {
                Some(old) => found(at, old.as_deref())?,
                None => raw.with(table, key, |value| found(at, value))?,
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Fault> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let end = to.map_or_else(|| vec![table as u8 + 1], |to| head_key(table, to));
        let end = Bound::Excluded(&end[..]);
        let mut from = Bound::Included(head_key(table, from));
        loop {
            let start = from.as_ref().map(|from| &from[..]);
            let (rows, done) = self.read_rows(start, end)?;
            let last = rows.last().map(|(head, _)| head.clone());
            let upto = last.as_deref().filter(|_| !done).map_or(end, Bound::Included);
            let undone = self.shared.versions.lock().range(self.commit, (start, upto));
            let merged = Merge { rows: rows.into_iter().peekable(), undone };
            if merged.visit(table, visit)?.is_break() || done {
                return Ok(());
            }
            from = Bound::Excluded(last.expect("only the end of the range gives no rows"));
        }
    }
}

/// Rows of the tree and rows to show in their place, both in key order.
struct Merge<I: Iterator<Item = Row>> {
    rows: Peekable<I>,
    undone: Undo,
}

impl<I: Iterator<Item = Row>> Merge<I> {
    fn visit(mut self, table: Table, visit: &mut Visit<'_>) -> Result<ControlFlow<()>, Fault> {
        for (head, old) in std::mem::take(&mut self.undone) {
            while let Some((before, raw)) = self.rows.next_if(|(row, _)| *row < head) {
                if show(table, &before, &raw, visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            self.rows.next_if(|(row, _)| *row == head);
            if let Some(old) = old
                && visit(&head[1..], &old)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        for (head, raw) in self.rows {
            if show(table, &head, &raw, visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn show(
    table: Table,
    head: &[u8],
    raw: &Raw,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, Fault> {
    let key = &head[1..];
    raw.with(table, key, |value| {
        let value = value.expect("a row of the tree has a head");
        visit(key, value)
    })
}
