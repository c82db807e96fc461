//! What a log amounts to after each batch, and which batches may follow.
//!
//! One set of rules for both directions: the writer refuses a batch that breaks them as a bug, the
//! reader refuses a log that does as damage.

use super::{Batch, Entry, HardState, Mark, Snapshot};

/// The sum of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub hard_state: HardState,
    pub snapshot: Snapshot,
    /// Never below `snapshot.index` nor `hard_state.commit`.
    pub last_index: u64,
}

impl Standing {
    /// The sum after `batch`, or the rule it breaks.
    pub fn after(&self, batch: &Batch<'_>) -> Result<Standing, &'static str> {
        let mut next = *self;
        if let Some(mark) = batch.snapshot {
            next.mark(mark)?;
        }
        if let (Some(first), Some(last)) = (batch.entries.first(), batch.entries.last()) {
            next.extend(first, batch.entries)?;
            next.last_index = last.index;
        }
        if let Some(hard_state) = batch.hard_state {
            next.vote(hard_state)?;
        }
        Ok(next)
    }

    fn mark(&mut self, mark: Mark) -> Result<(), &'static str> {
        let snapshot = match mark {
            Mark::Taken(snapshot) if snapshot.index > self.last_index => {
                return Err("a snapshot is taken of entries the log does not have");
            }
            Mark::Installed(snapshot) if snapshot.index < self.hard_state.commit => {
                return Err("a snapshot is installed below the commit index");
            }
            Mark::Taken(snapshot) => snapshot,
            Mark::Installed(snapshot) => {
                self.last_index = snapshot.index;
                snapshot
            }
        };
        if snapshot.index < self.snapshot.index {
            return Err("a snapshot lies below the one before it");
        }
        if snapshot.index == u64::MAX {
            return Err("a snapshot has the last of all indexes");
        }
        self.snapshot = snapshot;
        Ok(())
    }

    fn extend(&self, first: &Entry, entries: &[Entry]) -> Result<(), &'static str> {
        if first.index > self.last_index + 1 {
            return Err("there is a gap between the log and the next entry");
        }
        if first.index <= self.hard_state.commit || first.index <= self.snapshot.index {
            return Err("a committed entry is replaced");
        }
        let follows = |pair: &[Entry]| {
            pair[0].index.checked_add(1) == Some(pair[1].index) && pair[0].term <= pair[1].term
        };
        if !entries.windows(2).all(follows) {
            return Err("entries are not consecutive");
        }
        if entries.iter().any(|entry| entry.index == u64::MAX) {
            return Err("an entry has the last of all indexes");
        }
        Ok(())
    }

    fn vote(&mut self, next: HardState) -> Result<(), &'static str> {
        let last = self.hard_state;
        if next.term < last.term {
            return Err("the term goes back");
        }
        if next.term == last.term && last.vote != 0 && next.vote != last.vote {
            return Err("the vote of a term is changed");
        }
        if next.commit < last.commit {
            return Err("the commit index goes back");
        }
        if next.commit > self.last_index {
            return Err("the commit index is ahead of the log");
        }
        self.hard_state = next;
        Ok(())
    }
}
