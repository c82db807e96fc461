//! The state at one moment: what a reader's view, the applier between entries and a running write
//! transaction all look at, and the rules of reading it.
//!
//! A state is an index and the revision it stands for. Asked about an older revision it answers
//! from history, down to the compact revision; below that everything is [`Error::Compacted`].

use std::ops::ControlFlow;

use bytes::Bytes;

use super::index::{Facts, Index, NOW, Visit};
use super::reader::Shared;
use super::revision::Revision;
use crate::error::{Error, Failure, Fault};
use crate::span::Span;
use crate::storage::engine::Table;

/// The state at one moment, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    pub(super) shared: &'a Shared,
    pub(super) index: &'a Index,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
}

impl State<'_> {
    /// The main revision this state stands for.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The oldest revision that can be read; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// The revision a request's `revision` means to the index; refused if out of reach.
    pub fn resolve(&self, revision: i64) -> Result<i64, Error> {
        if revision > self.revision {
            return Err(Error::FutureRev);
        }
        if (if revision <= 0 { self.revision } else { revision }) < self.compact_revision {
            return Err(Error::Compacted);
        }
        // Counting is fastest for "now", so say so wherever it is true.
        Ok(if revision <= 0 || revision == self.revision { NOW } else { revision })
    }

    /// What the index knows of a live key.
    pub fn get(&self, key: &[u8]) -> Option<Facts> {
        self.index.get(key, NOW)
    }

    /// Visits the live keys of a span in key order, without touching rows.
    pub fn visit(&self, span: &Span, visit: &mut Visit<'_>) {
        self.index.visit(span, NOW, visit);
    }

    /// The number of live keys of a span.
    pub fn count(&self, span: &Span) -> i64 {
        self.index.count(span, NOW)
    }

    /// The row of a state this index told about.
    pub fn row(&self, facts: Facts) -> Result<Bytes, Failure> {
        match self.shared.rows.get(facts.revision)? {
            Some(row) => Ok(row),
            None => Err(self.missing(self.revision, facts.revision)),
        }
    }

    /// The rows of states this index told about, as of `at`.
    pub(super) fn rows(&self, at: i64, wanted: &[Revision]) -> Result<Vec<Bytes>, Failure> {
        let found = self.shared.rows.gather(wanted)?;
        let row = |(row, revision): (Option<Bytes>, &Revision)| {
            row.ok_or_else(|| self.missing(at.min(self.revision), *revision))
        };
        found.into_iter().zip(wanted).map(row).collect()
    }

    /// Why a row the index knew is gone: compaction has passed `at` meanwhile, or damage hides it.
    fn missing(&self, at: i64, revision: Revision) -> Failure {
        let compact_revision = self.shared.published.load().compact_revision;
        if at < compact_revision.max(self.compact_revision) {
            return Error::Compacted.into();
        }
        Fault::row(Table::Key.name(), &revision.row_key(false), "it is missing").into()
    }

    /// Whether any key of `span` is live.
    pub fn any(&self, span: &Span) -> bool {
        let mut any = false;
        self.visit(span, &mut |_, _| {
            any = true;
            ControlFlow::Break(())
        });
        any
    }
}
