//! The applier: the one owner of the state machine, and its thread.
//!
//! A turn takes everything that is committed, applies it, shows it to readers, tells watchers, and
//! only then answers clients: whoever hears that a write is done finds it in the next read. Then
//! comes the housekeeping that must not delay anybody: hand checkpoints to the checkpointer, move
//! a compaction on by a step, answer questions about facts.
//!
//! A turn never waits. For what the driver or the checkpointer must do first, the applier notes
//! what it [awaits](Awaited) and puts off every other job until it has come.
//!
//! Invariants:
//! - Only one checkpoint is on its way. What changes meanwhile goes into the next, and what that
//!   may come to is bounded: faster than the engine takes rows, nothing is applied.
//! - Answers leave after the view that shows their effect.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use flume::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::checkpointer;
use super::driver::{Input, Next};
use super::errands::Errands;
use super::membership::Membership;
use super::progress::Progress;
use super::proposals::Answer;
use super::snapshots::Staged;
use super::{clock, compaction, images, start_thread, watches};
use crate::error::Fault;
use crate::lease::Deadlines;
use crate::limits;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::mvcc::Reader;
use crate::pb::InternalRaftRequest;
use crate::raft::{ConfState, Entry};
use crate::storage::engine::Engine;

use detours::Awaited;

mod apply;
mod detours;

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
    /// What a change of members makes of raft's configuration.
    ConfState(ConfState),
    /// A received state takes the place of ours.
    Install(Staged),
    /// It has: here is the engine that holds it.
    Installed(Arc<dyn Engine>),
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
    pub room: Room,
    pub errands: Errands,
}

/// How much memory applied rows may take on their way into the engine, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// This much makes a checkpoint due at once.
    pub due: u64,
    /// With this much, nothing is applied until the checkpoint is there.
    pub full: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { due: limits::CHECKPOINT_BYTES, full: limits::CHECKPOINT_AWAITED_BYTES }
    }
}

/// Starts the thread. It ends on [`Job::Stop`], after a last checkpoint.
pub(super) fn start(parts: Parts) -> thread::JoinHandle<()> {
    start_thread("applier", move || run(parts))
}

fn run(parts: Parts) -> Result<(), Fault> {
    let jobs = parts.jobs.clone();
    let mut applier = Applier::new(parts, clock::now());
    loop {
        let job = match jobs.recv_deadline(applier.due()) {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            waited => waited.ok(),
        };
        if applier.turn(job, clock::now())?.is_stop() {
            return Ok(());
        }
    }
}

pub(super) struct Applier {
    parts: Parts,
    /// The moment of this turn.
    now: Instant,
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
    awaited: Option<Awaited>,
    /// What came meanwhile.
    postponed: VecDeque<Job>,
    ending: Ending,
}

/// How far the applier is on the way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Not,
    /// Nothing is taken any more; the last checkpoint is still to be begun.
    Asked,
    LastCheckpoint,
}

impl Applier {
    pub fn new(parts: Parts, now: Instant) -> Self {
        Self {
            now,
            compaction: compaction::Progress::new(parts.pace, now),
            in_flight: None,
            flushes: Vec::new(),
            dirty: false,
            last_checkpoint: now,
            expected: HashMap::new(),
            weeded: now,
            awaited: None,
            postponed: VecDeque::new(),
            ending: Ending::Not,
            parts,
        }
    }

    /// How many clients wait for what went to the leader, and how many jobs are put off.
    #[cfg(debug_assertions)]
    pub fn load(&self) -> (usize, usize) {
        (self.expected.len(), self.postponed.len())
    }

    /// Takes a job, if there is one, and does the housekeeping that is due.
    pub fn turn(&mut self, job: Option<Job>, now: Instant) -> Result<Next, Fault> {
        self.now = now;
        if let Some(job) = job {
            self.take_or_postpone(job)?;
        }
        while self.awaited.is_none()
            && let Some(job) = self.postponed.pop_front()
        {
            self.take(job)?;
        }
        if self.ending != Ending::Not {
            return Ok(self.finish());
        }
        if self.awaited.is_none() {
            if self.compaction.step(&mut self.parts.machine, now) {
                self.parts.images.compacted();
            }
            self.maybe_checkpoint();
            self.weed();
        }
        Ok(Next::GoOn)
    }

    /// Forgets clients that have lost their patience: their proposals may never come back.
    fn weed(&mut self) {
        let age = self.now.saturating_duration_since(self.weeded);
        if !self.expected.is_empty() && age >= WEEDING_INTERVAL {
            self.expected.retain(|_, reply| !reply.is_closed());
            self.weeded = self.now;
        }
    }

    /// When the next piece of housekeeping is due, if no job comes before.
    pub fn due(&self) -> Instant {
        if self.awaited.is_some() {
            return self.now + limits::CHECKPOINT_INTERVAL;
        }
        if let Some(step) = self.compaction.due() {
            return step;
        }
        let from =
            if self.dirty && self.in_flight.is_none() { self.last_checkpoint } else { self.now };
        from + limits::CHECKPOINT_INTERVAL
    }

    fn take_or_postpone(&mut self, job: Job) -> Result<(), Fault> {
        let is_news = matches!(job, Job::Checkpointed | Job::ConfState(_) | Job::Installed(_));
        if self.awaited.is_some() && !is_news {
            self.postponed.push_back(job);
            return Ok(());
        }
        self.take(job)
    }

    fn take(&mut self, job: Job) -> Result<(), Fault> {
        if self.ending != Ending::Not && !matches!(job, Job::Checkpointed) {
            return Ok(());
        }
        match job {
            Job::Apply(entries) => self.apply(entries.into_iter())?,
            Job::Expect(expected) => self.expected.extend(expected),
            Job::ConfState(conf_state) => self.changed(conf_state)?,
            Job::Install(staged) => self.install(staged),
            Job::Installed(engine) => self.installed(engine)?,
            Job::Ask(question) => question(&mut self.parts.machine),
            Job::Flush(reply) => self.flushes.push(reply),
            Job::Checkpointed => self.checkpointed()?,
            Job::AwaitCompaction(reply) => self.compaction.wait(reply, self.now),
            Job::Stop => self.ending = Ending::Asked,
        }
        Ok(())
    }

    /// Whether a checkpoint must be there before anything else is applied.
    fn is_full(&self) -> bool {
        self.parts.reader.buffer_memory() >= self.parts.room.full
    }

    fn maybe_checkpoint(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let age = self.now.saturating_duration_since(self.last_checkpoint);
        let due = self.dirty
            && (age >= limits::CHECKPOINT_INTERVAL
                || self.parts.reader.buffer_memory() >= self.parts.room.due);
        if due || !self.flushes.is_empty() {
            self.checkpoint(false);
        }
    }

    pub(super) fn checkpoint(&mut self, last: bool) {
        let with_image = self.parts.images.take(&self.parts.reader, last);
        let checkpoint = self.parts.machine.take_checkpoint(with_image);
        let _ = self.parts.checkpointer.send(checkpointer::Job::Commit(Box::new(checkpoint)));
        self.in_flight = Some(std::mem::take(&mut self.flushes));
        self.dirty = false;
        self.last_checkpoint = self.now;
    }

    fn checkpointed(&mut self) -> Result<(), Fault> {
        for waiter in self.in_flight.take().into_iter().flatten() {
            let _ = waiter.send(());
        }
        match self.awaited.take() {
            Some(Awaited::Checkpoint(staged)) => self.install(staged),
            Some(Awaited::Room(rest)) => self.apply(rest)?,
            other => self.awaited = other,
        }
        Ok(())
    }

    /// The last checkpoint before the end, so that a restart has nothing to replay. It is taken in
    /// any case, for the image that comes with it.
    fn finish(&mut self) -> Next {
        if self.in_flight.is_some() {
            return Next::GoOn;
        }
        if self.ending == Ending::LastCheckpoint {
            return Next::Stop;
        }
        self.ending = Ending::LastCheckpoint;
        self.checkpoint(true);
        Next::GoOn
    }
}
