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
}

impl Whole {
    /// Of the rows that follow `last`.
    pub fn behind(last: Revision, compacted: i64) -> Self {
        // An empty store is at revision 1, which has no rows.
        let compacted = compacted.max(1);
        let first = Revision::new(compacted, Revision::SUB_MAX);
        Self { compacted, last: if last.main < compacted { first } else { last } }
    }

    /// Takes note of the next row, and refuses one that is not the next there was.
    pub fn follow(&mut self, revision: Revision) -> Result<(), Fault> {
        if revision.main <= self.compacted {
            return Ok(());
        }
        let Revision { main, sub } = std::mem::replace(&mut self.last, revision);
        match [Revision::new(main, sub + 1), Revision::new(main + 1, 0)].contains(&revision) {
            true => Ok(()),
            false => Err(self.fault("rows before it are missing")),
        }
    }

    /// Refuses to end before main revision `to`.
    pub fn end(&self, to: i64) -> Result<(), Fault> {
        match self.last.main < to {
            true => Err(self.fault("rows after it are missing")),
            false => Ok(()),
        }
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault::row(Table::Key.name(), &self.last.row_key(false), what)
    }
}
