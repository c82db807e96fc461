//! The applier: the one thread that owns the state machine.
//!
//! A turn takes everything that is committed, applies it, shows it to readers, tells watchers, and
//! only then answers clients: whoever hears that a write is done finds it in the next read. Between
//! turns it does the housekeeping that must not delay anybody: hand checkpoints to the
//! checkpointer, move a compaction on by a step, answer questions about facts.
//!
//! Invariants:
//! - Only one checkpoint is on its way. What changes meanwhile goes into the next.
//! - Answers leave after the view that shows their effect.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::oneshot;

use super::checkpointer;
use super::driver::Input;
use super::membership::{self, Membership};
use super::progress::Progress;
use super::proposals::Answer;
use super::snapshots::Staged;
use super::{compaction, fatal, images, watches};
use crate::error::Fault;
use crate::lease::Deadlines;
use crate::limits;
use crate::machine::{self, LeaseEffect, Machine, Outcome};
use crate::metrics::Metrics;
use crate::mvcc::Reader;
use crate::pb::InternalRaftRequest;
use crate::raft::conf::Change;
use crate::raft::{Entry, EntryType};

/// How often clients of forwarded proposals are looked through.
const WEEDING_INTERVAL: Duration = Duration::from_secs(1);

/// A committed entry, with the client that waits for it if it came through this member.
pub(super) struct Committed {
    pub entry: Entry,
    pub waiting: Option<(Option<InternalRaftRequest>, Answer)>,
}

/// A question to the machine, asked on its own thread.
pub(super) type Question = Box<dyn FnOnce(&mut Machine) + Send>;

/// What the applier can be told.
pub(super) enum Job {
    Apply(Vec<Committed>),
    /// Proposals that went to the leader: who waits for them, by their ids.
    Expect(Vec<(u64, Answer)>),
    /// A received state takes the place of ours.
    Install(Staged),
    Ask(Question),
    /// Everything applied by now shall reach the engine; the reply comes when it has.
    Flush(oneshot::Sender<()>),
    /// The checkpoint that was on its way is durable.
    Checkpointed,
    /// The reply comes when every compaction accepted so far has removed its rows.
    AwaitCompaction(oneshot::Sender<()>),
    Stop,
}

/// What the applier is given at its start.
pub(super) struct Parts {
    pub machine: Machine,
    pub reader: Reader,
    pub membership: Membership,
    pub jobs: Receiver<Job>,
    pub driver: Sender<Input>,
    pub checkpointer: Sender<checkpointer::Job>,
    pub watches: Sender<watches::Input>,
    pub deadlines: Arc<Mutex<Deadlines>>,
    pub progress: Arc<Progress>,
    pub metrics: Arc<Metrics>,
    pub warning: Duration,
    pub clock: super::Clock,
    pub pace: compaction::Pace,
    pub images: images::Pace,
}

/// Starts the thread. It ends on [`Job::Stop`], after a last checkpoint.
pub(super) fn start(parts: Parts) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name("applier".into())
        .spawn(move || {
            let compaction = compaction::Progress::new(parts.pace);
            let mut applier = Applier {
                parts,
                compaction,
                in_flight: None,
                flushes: Vec::new(),
                dirty: false,
                last_checkpoint: Instant::now(),
                expected: HashMap::new(),
                weeded: Instant::now(),
                postponed: Vec::new(),
            };
            if let Err(fault) = applier.run() {
                fatal(&fault);
            }
        })
        .expect("the process may start threads")
}

struct Applier {
    parts: Parts,
    compaction: compaction::Progress,
    /// Who waits for the checkpoint that is on its way.
    in_flight: Option<Vec<oneshot::Sender<()>>>,
    /// Who waits for the next one.
    flushes: Vec<oneshot::Sender<()>>,
    /// Whether anything changed since the last checkpoint began.
    dirty: bool,
    last_checkpoint: Instant,
    /// Who waits for proposals that went to the leader, by their ids.
    expected: HashMap<u64, Answer>,
    /// When those were last looked through for clients that are gone.
    weeded: Instant,
    /// What came while a state was being installed.
    postponed: Vec<Job>,
}

impl Applier {
    fn run(&mut self) -> Result<(), Fault> {
        loop {
            match self.parts.jobs.recv_timeout(self.patience()) {
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return self.finish(),
                Ok(job) => self.take(job)?,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.compaction.step(&mut self.parts.machine) {
                self.parts.images.compacted();
            }
            self.maybe_checkpoint();
            self.weed();
        }
    }

    /// Forgets clients that have lost their patience: their proposals may never come back.
    fn weed(&mut self) {
        if !self.expected.is_empty() && self.weeded.elapsed() >= WEEDING_INTERVAL {
            self.expected.retain(|_, reply| !reply.is_closed());
            self.weeded = Instant::now();
        }
    }

    /// How long to wait for a job before the next piece of housekeeping is due.
    fn patience(&self) -> Duration {
        if let Some(pause) = self.compaction.due_in() {
            return pause;
        }
        if self.dirty && self.in_flight.is_none() {
            limits::CHECKPOINT_INTERVAL.saturating_sub(self.last_checkpoint.elapsed())
        } else {
            limits::CHECKPOINT_INTERVAL
        }
    }

    fn take(&mut self, job: Job) -> Result<(), Fault> {
        match job {
            Job::Apply(entries) => self.apply(entries)?,
            Job::Expect(expected) => self.expected.extend(expected),
            Job::Install(staged) => self.install(staged)?,
            Job::Ask(question) => question(&mut self.parts.machine),
            Job::Flush(reply) => self.flushes.push(reply),
            Job::Checkpointed => {
                for waiter in self.in_flight.take().into_iter().flatten() {
                    let _ = waiter.send(());
                }
            }
            Job::AwaitCompaction(reply) => self.compaction.wait(reply),
            Job::Stop => unreachable!("the loop ends on stop"),
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Committed>) -> Result<(), Fault> {
        let started = Instant::now();
        let Some(last) = entries.last().map(|committed| committed.entry.index) else {
            return Ok(());
        };
        let mut answers = Vec::with_capacity(entries.len());
        let mut changes = Vec::new();
        for Committed { entry, waiting } in entries {
            let (request, mut reply) = waiting.unzip();
            let outcome = self.apply_one(entry, request.flatten(), &mut reply)?;
            self.note_leases(&outcome.leases);
            changes.extend(outcome.changes);
            if let Some(reply) = reply {
                answers.push((reply, outcome.reply));
            }
        }
        self.parts.machine.store_mut().publish();
        self.publish_members();
        self.dirty = true;
        // After the publication: whoever opens a stream from here on starts with what it shows.
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
        let took = started.elapsed();
        self.parts.metrics.apply_seconds.observe(took.as_secs_f64());
        if took > self.parts.warning {
            self.parts.metrics.slow_applies.inc();
            tracing::warn!(took_ms = took.as_millis() as u64, "apply request took too long");
        }
        Ok(())
    }

    /// Lets a received state take the place of ours: on disk first, then for readers, then for
    /// watchers, who are fed from its history.
    fn install(&mut self, staged: Staged) -> Result<(), Fault> {
        let applied = staged.applied;
        // A checkpoint under way is of the old state, and goes into it.
        while self.in_flight.is_some() {
            match self.parts.jobs.recv() {
                Ok(Job::Checkpointed) => self.take(Job::Checkpointed)?,
                Ok(job) => self.postponed.push(job),
                Err(_) => return Ok(()),
            }
        }
        let (reply, answer) = crossbeam_channel::bounded(1);
        let _ = self.parts.checkpointer.send(checkpointer::Job::Install { staged, reply });
        let engine = answer.recv().map_err(|_| Fault::Broken("the checkpointer is gone".into()))?;
        self.parts.machine.install(engine)?;
        self.dirty = false;
        self.compaction = compaction::Progress::new(self.parts.pace);
        self.publish_members();
        let _ = self.parts.watches.send(watches::Input::Restored);
        self.parts.progress.committed.fetch_max(applied.index, Ordering::SeqCst);
        self.parts.progress.applied.store(applied.index, Ordering::SeqCst);
        let _ = self.parts.driver.send(Input::Applied);
        for job in std::mem::take(&mut self.postponed) {
            self.take(job)?;
        }
        Ok(())
    }

    /// Starts what a compaction in the batch entails: watchers hear of it, its hash is computed
    /// beside, its rows are removed step by step.
    fn begin_compaction(&mut self) {
        let Some(job) = self.parts.machine.store_mut().compaction_job() else { return };
        let compacted = self.parts.reader.compact_revision();
        let _ = self.parts.watches.send(watches::Input::Compacted(compacted));
        self.compaction.begin();
        let hashing = thread::Builder::new().name("compaction-hash".into()).spawn(move || {
            if let Err(fault) = job.run() {
                fatal(&fault);
            }
        });
        if let Err(error) = hashing {
            tracing::warn!(%error, "a compaction goes without its hash");
        }
    }

    fn apply_one(
        &mut self,
        entry: Entry,
        request: Option<InternalRaftRequest>,
        reply: &mut Option<Answer>,
    ) -> Result<Outcome, Fault> {
        let machine = &mut self.parts.machine;
        // A conf change may be empty too, so the type comes first.
        if entry.entry_type == EntryType::EntryConfChange as i32 {
            return self.apply_conf_change(&entry, reply);
        }
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

    fn apply_conf_change(
        &mut self,
        entry: &Entry,
        reply: &mut Option<Answer>,
    ) -> Result<Outcome, Fault> {
        let change = Change::decode(&entry.data).map_err(|error| {
            Fault::Broken(format!("log entry {} is not a conf change: {error}", entry.index))
        })?;
        if reply.is_none() {
            *reply = self.expected.remove(&change.id);
        }
        let wanted = membership::wanted(&change)?;
        let (index, term) = (entry.index, entry.term);
        if self.parts.machine.check_change(&wanted).is_err() {
            // Raft hears nothing of it: for raft an entry without effect is one like any other.
            return Ok(self.parts.machine.change_members(index, term, wanted, None));
        }
        let (told, answer) = crossbeam_channel::bounded(1);
        let _ = self.parts.driver.send(Input::ConfChange { index, change, reply: told });
        let conf_state = answer.recv().map_err(|_| Fault::Broken("the driver is gone".into()))?;
        let made = super::records::stored_conf_state(conf_state);
        Ok(self.parts.machine.change_members(index, term, wanted, Some(made)))
    }

    fn publish_members(&self) {
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

    fn maybe_checkpoint(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let due = self.dirty
            && (self.last_checkpoint.elapsed() >= limits::CHECKPOINT_INTERVAL
                || self.parts.reader.buffered_bytes() >= limits::CHECKPOINT_BYTES);
        if due || !self.flushes.is_empty() {
            self.checkpoint(false);
        }
    }

    fn checkpoint(&mut self, last: bool) {
        let with_image = self.parts.images.take(&self.parts.reader, last);
        let checkpoint = self.parts.machine.take_checkpoint(with_image);
        let _ = self.parts.checkpointer.send(checkpointer::Job::Commit(Box::new(checkpoint)));
        self.in_flight = Some(std::mem::take(&mut self.flushes));
        self.dirty = false;
        self.last_checkpoint = Instant::now();
    }

    /// The last checkpoint before the thread ends, so that a restart has nothing to replay.
    fn finish(&mut self) -> Result<(), Fault> {
        // One more in any case, for the image that comes with it.
        let mut last = false;
        while self.in_flight.is_some() || self.dirty || !last {
            if self.in_flight.is_none() {
                last = true;
                self.checkpoint(last);
            }
            match self.parts.jobs.recv() {
                Ok(Job::Checkpointed) => self.take(Job::Checkpointed)?,
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
}
