//! Compaction: giving up the history below a revision.
//!
//! It takes effect at once: reads below fail. Removing what nobody can read any more follows in
//! steps of bounded size between apply batches. A step walks the undo log, where every record is a
//! state that was replaced. What was replaced at or below the compact revision is garbage, and so
//! is a tombstone below it; nothing else is. So the cost is that of the garbage, not of the keys.
//!
//! ```text
//!   revision   3   5   7   8    compact at 7:   row 3 was replaced by 5   goes
//!   key a      put put     put                  row 5 is what 7 sees      stays
//!   key b      put     del                      row 3 was replaced by 7   goes
//!                                               tombstone 7 is at, not below, and stays
//! ```
//!
//! Invariants:
//! - For every key the newest row at or below the compact revision stays, unless it is a tombstone
//!   below it. A tombstone *at* it stays, for watchers that start there.
//! - `scheduledCompactRev` is in the batch that has the first deletion or an earlier one,
//!   `finishedCompactRev` in the batch that has the last; in between a restart resumes.
//! - No deletion is handed out before readers were shown the compact revision, nor before the hash
//!   of this compaction has pinned the rows it needs.

use std::collections::VecDeque;

use bytes::Bytes;

use super::hash::{Gate, HashJob};
use super::index::{Index, Sequence};
use super::revision::Revision;
use super::store::Store;
use crate::error::Error;
use crate::marks::{Mark, mark};
use crate::planted::{Mistake, planted};
use crate::storage::keys;

/// Deletions that may wait to be taken; more are not produced until a batch took them.
const DELETES_WAITING_MAX: usize = 1 << 16;

/// What a step of compaction achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to compact, or to resume.
    Done,
    /// The budget is used up; call again.
    More,
    /// Nothing can be done until the state is published, a batch is taken or a hash job has begun.
    Waiting,
}

/// The garbage that is still to be removed, and how far that has come.
#[derive(Debug, Default)]
pub struct Compactor {
    /// Compactions accepted and not finished, in order.
    queue: VecDeque<Compaction>,
    /// The oldest undo record not yet looked at.
    cursor: Sequence,
    /// Tombstones not yet removed, oldest first, with their keys.
    tombstones: VecDeque<(Revision, Bytes)>,
}

#[derive(Debug)]
struct Compaction {
    at: i64,
    /// The hash of what is removed, until somebody takes it to compute it.
    job: Option<HashJob>,
    gate: Gate,
}

impl Compactor {
    /// Notes a deletion that some later compaction has to remove.
    pub fn tombstone(&mut self, revision: Revision, key: Bytes) {
        self.tombstones.push_back((revision, key));
    }

    /// What an image keeps: how far the undo log was looked at, and the tombstones that are left.
    pub fn remembered(&self) -> (Sequence, VecDeque<(Revision, Bytes)>) {
        (self.cursor, self.tombstones.clone())
    }

    /// A compactor that remembers what an image kept.
    pub fn remembering(cursor: Sequence, tombstones: VecDeque<(Revision, Bytes)>) -> Self {
        Self { queue: VecDeque::new(), cursor, tombstones }
    }

    /// Forgets what a finished compaction at `at` removed, as far as it is still remembered.
    pub fn finished(&mut self, at: i64, index: &mut Index) {
        while let Some((replaced, next)) = index.replaced(self.cursor) {
            if replaced.by > at {
                break;
            }
            self.cursor = next;
        }
        while let Some((revision, key)) = self.tombstones.front() {
            if revision.main >= at {
                break;
            }
            index.forget(key, *revision);
            self.tombstones.pop_front();
        }
        index.drop_history(self.cursor);
    }

    /// Takes up a compaction that a restart interrupted.
    pub fn resume(&mut self, at: i64) {
        mark(Mark::CompactionResumed);
        // Some of its rows are gone, so its hash cannot be told any more.
        self.queue.push_back(Compaction { at, job: None, gate: Gate::open() });
    }

    fn has_tombstone_at(&self, main: i64) -> bool {
        let from = self.tombstones.partition_point(|(revision, _)| revision.main < main);
        self.tombstones.get(from).is_some_and(|(revision, _)| revision.main == main)
    }
}

impl Store {
    /// Makes every revision below `revision` unreadable. Readers see it at the next publication.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compact_revision {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRev);
        }
        if !self.compactor.queue.is_empty() {
            mark(Mark::CompactionsQueued);
        }
        if self.compactor.has_tombstone_at(revision) {
            mark(Mark::CompactedAtTombstone);
        }
        let gate = Gate::closed();
        let job = HashJob {
            shared: self.shared.clone(),
            index: self.index.clone(),
            previous: self.compact_revision,
            at: revision,
            keeps_tombstone: self.compactor.has_tombstone_at(revision),
            gate: gate.clone(),
        };
        self.compactor.queue.push_back(Compaction { at: revision, job: Some(job), gate });
        self.compact_revision = revision;
        self.meta.push((keys::SCHEDULED_COMPACT_REV, revision));
        Ok(())
    }

    /// The hash to compute for a compaction just accepted; run it on a thread of its own.
    ///
    /// Who takes it must run or drop it: deletions wait for it to begin. If nobody takes it before
    /// the first step, the hash is given up.
    pub fn compaction_job(&mut self) -> Option<HashJob> {
        self.compactor.queue.iter_mut().find_map(|compaction| compaction.job.take())
    }

    /// Removes up to about `budget` rows of garbage.
    pub fn compact_step(&mut self, budget: usize) -> Step {
        let mut budget = budget;
        let published = self.shared.published.load().compact_revision;
        while let Some(compaction) = self.compactor.queue.front_mut() {
            let at = compaction.at;
            // Dropping the job nobody took opens the gate.
            compaction.job = None;
            if published < at || !compaction.gate.is_open() {
                return Step::Waiting;
            }
            if self.deletes.len() >= DELETES_WAITING_MAX {
                return Step::Waiting;
            }
            if !self.remove_replaced(at, &mut budget) || !self.remove_tombstones(at, &mut budget) {
                return Step::More;
            }
            self.index.drop_history(self.compactor.cursor);
            self.meta.push((keys::FINISHED_COMPACT_REV, at));
            self.compactor.queue.pop_front();
        }
        Step::Done
    }

    /// Removes rows that were replaced at or below `at`; says whether that is all of them.
    fn remove_replaced(&mut self, at: i64, budget: &mut usize) -> bool {
        while let Some((replaced, next)) = self.index.replaced(self.compactor.cursor) {
            if replaced.by > at {
                break;
            }
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            // Replaced tombstones are removed with all other tombstones.
            if !replaced.tombstone {
                self.deletes.push((replaced.revision, false));
            }
            self.compactor.cursor = next;
        }
        true
    }

    /// Removes tombstones below `at`; says whether that is all of them.
    fn remove_tombstones(&mut self, at: i64, budget: &mut usize) -> bool {
        while let Some((revision, key)) = self.compactor.tombstones.front() {
            let early = i64::from(planted(Mistake::TombstoneDropped));
            if revision.main >= at + early {
                break;
            }
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            // The key may live again; then only the row goes.
            self.index.forget(key, *revision);
            self.deletes.push((*revision, true));
            self.compactor.tombstones.pop_front();
        }
        true
    }
}
