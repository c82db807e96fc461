//! The newest revisions, kept so that a watcher a little behind needs no scan of history.
//!
//! Two watchers meet here: the one whose stream was slow for a moment, and the one that starts
//! right after a list. It is also what lets a watcher that catches up from history under constant
//! writes arrive: the scan need only reach the oldest revision kept here.
//!
//! Invariant: every event with `first` ≤ revision ≤ the hub's revision is here.

use std::collections::VecDeque;

use super::batch::Batch;
use super::limits::Limits;

/// A window of revisions that ends at the hub's revision.
#[derive(Debug, Default)]
pub(super) struct Recent {
    batches: VecDeque<Batch>,
    first: i64,
    bytes: usize,
}

impl Recent {
    /// An empty window after `revision`.
    pub fn after(revision: i64) -> Self {
        Self { batches: VecDeque::new(), first: revision + 1, bytes: 0 }
    }

    /// Whether every event from `revision` on is here.
    pub fn covers(&self, revision: i64) -> bool {
        revision >= self.first
    }

    /// Adds the next revision and lets go of the oldest ones beyond the limits.
    pub fn push(&mut self, batch: Batch, limits: &Limits) {
        assert!(batch.revision >= self.first, "revisions ascend");
        self.bytes += batch.size_bytes();
        self.batches.push_back(batch);
        while self.batches.len() > limits.recent_revisions || self.bytes > limits.recent_bytes {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.size_bytes();
            self.first = oldest.revision + 1;
        }
    }

    /// The revisions from `revision` on, ascending.
    pub fn from(&mut self, revision: i64) -> impl Iterator<Item = &mut Batch> {
        assert!(self.covers(revision), "asked only for what is here");
        let start = self.batches.partition_point(|batch| batch.revision < revision);
        self.batches.range_mut(start..)
    }
}
