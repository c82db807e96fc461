//! The applier's main work: committed entries in, rows shown, watchers told, clients answered.

use std::sync::atomic::Ordering;
use std::time::Instant;
use std::vec;

use prost::Message as _;

use super::super::proposals::Answer;
use super::super::{clock, fatal, tally, watches};
use super::detours::{Awaited, Judged};
use super::{Applier, Committed, Input};
use crate::error::{Error, Fault};
use crate::machine::{self, LeaseEffect, Outcome, Reply};
use crate::marks::{Mark, mark};
use crate::mvcc::Changes;
use crate::pb::InternalRaftRequest;
use crate::planted::{Mistake, planted};
use crate::raft::{Entry, EntryType};

/// What was applied and not shown yet.
pub(super) struct Turn {
    began: Instant,
    last: Option<u64>,
    answers: Vec<(Answer, Result<Reply, Error>)>,
    changes: Vec<Changes>,
    counts: machine::Counts,
}

impl Turn {
    pub fn begin(now: Instant, entries: usize) -> Self {
        let (answers, changes) = (Vec::with_capacity(entries), Vec::new());
        Self { began: now, last: None, answers, changes, counts: machine::Counts::default() }
    }
}

impl Applier {
    pub(super) fn apply(&mut self, entries: vec::IntoIter<Committed>) -> Result<(), Fault> {
        let turn = Turn::begin(self.now, entries.len());
        self.go_on(turn, entries)
    }

    /// Applies what is left of a batch and shows what came of it; or a part, up to a change of
    /// members that raft must make first, or to what memory there is for rows.
    pub(super) fn go_on(
        &mut self,
        mut turn: Turn,
        mut entries: vec::IntoIter<Committed>,
    ) -> Result<(), Fault> {
        while let Some(Committed { entry, waiting }) = entries.next() {
            let (request, mut reply) = waiting.unzip();
            let index = entry.index;
            // A conf change may be empty too, so the type comes first.
            let outcome = if entry.entry_type == EntryType::EntryConfChange as i32 {
                match self.judge(&entry, reply.take())? {
                    Judged::Rejected(outcome, told) => {
                        reply = told;
                        outcome
                    }
                    Judged::Accepted(changing) => {
                        self.await_conf_state(changing, entries);
                        break;
                    }
                }
            } else {
                self.apply_one(entry, request.flatten(), &mut reply)?
            };
            self.note(&mut turn, index, outcome, reply);
            if self.is_full() {
                mark(Mark::ApplyAwaitedCheckpoint);
                self.awaited = Some(Awaited::Room(entries));
                break;
            }
        }
        self.show(turn);
        if matches!(self.awaited, Some(Awaited::Room(_))) && self.in_flight.is_none() {
            self.checkpoint(false);
        }
        Ok(())
    }

    fn apply_one(
        &mut self,
        entry: Entry,
        request: Option<InternalRaftRequest>,
        reply: &mut Option<Answer>,
    ) -> Result<Outcome, Fault> {
        let machine = &mut self.parts.machine;
        if entry.data.is_empty() {
            machine.advance(entry.index, entry.term);
            return Ok(Outcome::done());
        }
        let request = match request {
            Some(request) => request,
            None => {
                let request = InternalRaftRequest::decode(entry.data.clone()).map_err(|error| {
                    Fault::Broken(format!("log entry {} is not a command: {error}", entry.index))
                })?;
                let id = request.header.as_ref().map_or(0, |header| header.id);
                *reply = self.expected.remove(&id);
                request
            }
        };
        machine.apply(machine::Entry { index: entry.index, term: entry.term, request })
    }

    /// Notes what an entry amounted to.
    pub(super) fn note(
        &mut self,
        turn: &mut Turn,
        index: u64,
        outcome: Outcome,
        reply: Option<Answer>,
    ) {
        self.note_leases(&outcome.leases);
        turn.changes.extend(outcome.changes);
        turn.counts.add(outcome.counts);
        turn.last = Some(index);
        if let Some(reply) = reply {
            turn.answers.push((reply, outcome.reply));
        }
    }

    fn show(&mut self, turn: Turn) {
        let Turn { began, last, answers, changes, counts } = turn;
        let Some(last) = last else { return };
        tally(&self.parts.metrics, &counts);
        if !planted(Mistake::AnswerBeforeShown) || last.is_multiple_of(2) {
            self.parts.machine.store_mut().publish();
        }
        self.publish_members();
        self.dirty = true;
        // After the publication: whoever opens a stream from here on starts with what it shows.
        let mut changes = changes;
        if planted(Mistake::EventsLost) && changes.len() > 1 {
            changes.truncate(changes.len() / 2);
        }
        if !changes.is_empty() && self.parts.progress.streams.load(Ordering::SeqCst) > 0 {
            // The watch thread is gone only when the node stops.
            let _ = self.parts.watches.send(watches::Input::Changes(changes));
        }
        self.begin_compaction();
        self.parts.progress.applied.store(last, Ordering::SeqCst);
        for (reply, answer) in answers {
            let _ = reply.send(answer);
        }
        if self.parts.progress.awaited.load(Ordering::SeqCst) {
            let _ = self.parts.driver.send(Input::Applied);
        }
        let took = clock::since(began);
        self.parts.metrics.apply_seconds.observe(took.as_secs_f64());
        if took > self.parts.warning {
            self.parts.metrics.slow_applies.inc();
            tracing::warn!(took_ms = took.as_millis() as u64, "apply request took too long");
        }
    }

    /// Starts what a compaction in the batch entails: watchers hear of it, its hash is computed
    /// beside, its rows are removed step by step.
    fn begin_compaction(&mut self) {
        let Some(job) = self.parts.machine.store_mut().compaction_job() else { return };
        let compacted = self.parts.reader.compact_revision();
        let _ = self.parts.watches.send(watches::Input::Compacted(compacted));
        self.compaction.begin(self.now);
        let hashing = self.parts.errands.send("compaction-hash", async move {
            if let Err(fault) = job.run() {
                fatal(&fault);
            }
        });
        if let Err(error) = hashing {
            tracing::warn!(%error, "a compaction goes without its hash");
        }
    }

    pub(super) fn publish_members(&self) {
        let machine = &self.parts.machine;
        self.parts.membership.publish(machine.members(), machine.cluster_version());
    }

    fn note_leases(&mut self, effects: &[LeaseEffect]) {
        if effects.is_empty() {
            return;
        }
        let now = self.parts.clock.now_ms();
        let mut deadlines = self.parts.deadlines.lock();
        for effect in effects {
            match *effect {
                LeaseEffect::Granted { id, ttl } => {
                    self.parts.metrics.leases_granted.inc();
                    deadlines.granted(id, ttl, now);
                }
                LeaseEffect::Revoked { id } => {
                    self.parts.metrics.leases_revoked.inc();
                    deadlines.revoked(id);
                }
                LeaseEffect::Checkpointed { id, remaining_ttl } => {
                    deadlines.checkpointed(id, remaining_ttl, now);
                }
            }
        }
    }
}
