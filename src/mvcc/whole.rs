//! Whether rows that are read in order are all there were.
//!
//! A turned bit in a page of the engine can hide rows from a scan without a word. Main revisions
//! have no gaps, and neither have the subs of one, so behind the compact revision a row that is
//! missing leaves one. Absent: the last rows of a transaction, which nothing in the next one tells
//! of; whoever reads all rows holds them against what the engine has counted.

use super::revision::Revision;
use crate::error::Fault;
use crate::storage::engine::Table;

pub(super) struct Whole {
    /// Of what is not newer, compaction may have taken any.
    compacted: i64,
    /// The newest row read, or where the first one follows.
    last: Revision,
    is_broken: bool,
}

impl Whole {
    /// Of the rows that follow `last`.
    pub fn behind(last: Revision, compacted: i64) -> Self {
        // An empty store is at revision 1, which has no rows.
        let compacted = compacted.max(1);
        let first = Revision::new(compacted, Revision::SUB_MAX);
        Self { compacted, last: if last.main < compacted { first } else { last }, is_broken: false }
    }

    /// Takes note of the next row; whether it is the next one there was.
    pub fn goes_on_with(&mut self, revision: Revision) -> bool {
        if revision.main <= self.compacted {
            return true;
        }
        let Revision { main, sub } = self.last;
        let goes_on = [Revision::new(main, sub + 1), Revision::new(main + 1, 0)];
        self.is_broken = !goes_on.contains(&revision);
        self.last = revision;
        !self.is_broken
    }

    /// Refuses rows that do not follow each other up to main revision `to`.
    pub fn check(&self, to: i64) -> Result<(), Fault> {
        let what = match self.is_broken {
            true => "rows before it are missing",
            false if self.last.main < to => "rows after it are missing",
            false => return Ok(()),
        };
        Err(Fault::row(Table::Key.name(), &self.last.row_key(false), what))
    }
}
