//! The driver: the one thread that owns the raft core.
//!
//! ```text
//!  clients ──propose, read──▶ ┌────────┐ ──append, sync──▶ log
//!  clock ────tick───────────▶ │ driver │
//!  others ───completions────▶ └────────┘ ──committed──▶ applier
//! ```
//!
//! Each turn takes everything that waits in the inbox, offers all proposals to raft as one batch,
//! makes what follows durable with one sync, and hands on what that commits. The driver never
//! waits for the state machine. It does wait for the disk, see [`LogWriter`]; so a client's
//! patience is measured where the client waits, not here.
//!
//! Invariants:
//! - Channels out of here are unbounded, so that nobody but the disk can block the driver; what
//!   bounds them is that proposals are refused while too much is uncommitted or unapplied.
//! - A proposal waits under the index raft gave it. If another term's entry is committed there, it
//!   is lost and its client is told to ask again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::oneshot;

use super::applier::{self, Committed};
use super::fatal;
use super::log_writer::LogWriter;
use super::progress::Progress;
use crate::error::{Error, Fault};
use crate::limits;
use crate::machine::{Applied, Reply};
use crate::metrics::Metrics;
use crate::pb::InternalRaftRequest;
use crate::raft::conf::Change;
use crate::raft::{ConfState, Core, Entry, Proposed, Refusal, Role, Work};
use crate::storage::wal::Spare;

/// A command on its way through the log, with whoever waits for it.
pub(super) struct Proposal {
    /// The encoded request, as the log keeps it.
    pub payload: Bytes,
    /// The same request, so that the member that proposed it need not decode it.
    pub request: InternalRaftRequest,
    pub reply: oneshot::Sender<Result<Reply, Error>>,
}

/// What the driver can be told.
pub(super) enum Input {
    Propose(Proposal),
    /// The applier came to the index that was [awaited](Progress::awaited).
    Applied,
    /// The applier reached a configuration change and needs the configuration it makes.
    ConfChange {
        index: u64,
        change: Change,
        reply: Sender<ConfState>,
    },
    /// Everything up to here is in the engine, durably.
    Checkpointed(Applied),
    /// A segment reserved for the log, or why there is none.
    Stock(Result<Spare, Fault>),
    /// A reader waits until applied state shows everything acknowledged before now.
    Read(oneshot::Sender<Result<(), Error>>),
    Stop,
}

/// A proposal in the log, waiting for its commit.
struct Waiting {
    index: u64,
    term: u64,
    request: InternalRaftRequest,
    reply: oneshot::Sender<Result<Reply, Error>>,
}

/// What the driver is given at its start.
pub(super) struct Parts {
    pub core: Core,
    pub member_id: u64,
    pub tick: Duration,
    pub catchup_entries: u64,
    pub inbox: Receiver<Input>,
    pub log: LogWriter,
    pub applier: Sender<applier::Job>,
    pub progress: Arc<Progress>,
    pub metrics: Arc<Metrics>,
}

/// Starts the thread. It ends on [`Input::Stop`].
pub(super) fn start(parts: Parts) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name("driver".into())
        .spawn(move || {
            let driver = Driver {
                parts,
                waiting: VecDeque::new(),
                reads: Vec::new(),
                opening: None,
                applied: 0,
            };
            if let Err(fault) = driver.run() {
                fatal(&fault);
            }
        })
        .expect("the process may start threads")
}

struct Driver {
    parts: Parts,
    /// Proposals in the log, by index.
    waiting: VecDeque<Waiting>,
    /// Readers that came before this member knew itself to lead.
    reads: Vec<oneshot::Sender<Result<(), Error>>>,
    /// As a new leader: the last index of the log it took over. Reads open when it is applied.
    opening: Option<u64>,
    /// What raft knows to be applied.
    applied: u64,
}

impl Driver {
    fn run(mut self) -> Result<(), Fault> {
        self.parts.log.order();
        self.await_applied();
        self.stand_alone();
        self.turn()?;
        let mut next_tick = Instant::now() + self.parts.tick;
        let mut proposals = Vec::new();
        loop {
            match self.parts.inbox.recv_deadline(next_tick) {
                Ok(input) => {
                    let mut bytes = 0;
                    let mut next = Some(input);
                    while let Some(input) = next {
                        if let Input::Propose(proposal) = input {
                            bytes += proposal.payload.len();
                            proposals.push(proposal);
                        } else if self.take(input)?.is_stop() {
                            return Ok(());
                        }
                        let full = bytes >= limits::PROPOSAL_BATCH_BYTES_MAX
                            || proposals.len() >= limits::PROPOSAL_BATCH_MAX;
                        next = if full { None } else { self.parts.inbox.try_recv().ok() };
                    }
                    self.propose(&mut proposals);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let now = Instant::now();
            if now >= next_tick {
                self.parts.core.tick();
                next_tick = (next_tick + self.parts.tick).max(now);
            }
            self.turn()?;
        }
    }

    /// Does what follows from the inputs taken, until nothing is left to do.
    fn turn(&mut self) -> Result<(), Fault> {
        self.work()?;
        while self.catch_up() {
            self.work()?;
        }
        self.parts.progress.pending.store(self.waiting.len() as u64, Ordering::Relaxed);
        self.parts.log.tidy()
    }

    /// How many entries the state machine no longer needs are kept for followers that lag. One
    /// stays in any case: recovery takes the term of the log's beginning from it.
    fn entries_to_keep(&self) -> u64 {
        if self.is_alone() { 1 } else { self.parts.catchup_entries.max(1) }
    }

    fn is_alone(&self) -> bool {
        let conf = self.parts.core.conf_state();
        conf.voters == [self.parts.member_id] && conf.learners.is_empty()
    }

    /// A sole voter need not wait for an election timeout: it leads as soon as it may.
    fn stand_alone(&mut self) {
        if self.parts.core.conf_state().voters == [self.parts.member_id] {
            // Refused while its log is being applied; it is asked again after that.
            let _ = self.parts.core.campaign();
        }
    }

    fn take(&mut self, input: Input) -> Result<Next, Fault> {
        match input {
            Input::Propose(_) => unreachable!("proposals are gathered by the caller"),
            // Looked at in every turn.
            Input::Applied => {}
            Input::ConfChange { index, change, reply } => {
                let applied = self.parts.core.apply_conf_change(index, &change)?;
                // The applier waits for this; it is gone only when the node stops.
                let _ = reply.send(applied.conf_state);
            }
            Input::Checkpointed(applied) => {
                // What is in the engine was applied; raft must know before its log ends there.
                self.catch_up();
                let keep = applied.index.saturating_sub(self.entries_to_keep());
                self.parts.core.compact(keep);
                self.parts.log.release(applied, keep)?;
            }
            Input::Stock(spare) => self.parts.log.stock(spare)?,
            Input::Read(reply) if self.parts.progress.read_open.load(Ordering::Acquire) => {
                let _ = reply.send(Ok(()));
            }
            Input::Read(reply) => self.reads.push(reply),
            Input::Stop => return Ok(Next::Stop),
        }
        Ok(Next::GoOn)
    }

    /// Tells raft how far the applier has come, and whoever waits for that; whether it moved.
    ///
    /// The applier publishes its index and wakes nobody: raft needs it soon, not at once. Only
    /// while something waits for it is it asked to.
    fn catch_up(&mut self) -> bool {
        let index = self.parts.progress.applied.load(Ordering::SeqCst);
        if index <= self.applied {
            return false;
        }
        self.applied = index;
        self.parts.core.on_applied(index);
        if self.parts.progress.leader.load(Ordering::Acquire) == 0 {
            self.stand_alone();
        }
        if self.opening.is_some_and(|opening| index >= opening) {
            self.opening = None;
            self.parts.progress.read_open.store(true, Ordering::Release);
        }
        if self.parts.progress.read_open.load(Ordering::Acquire) {
            for reader in self.reads.drain(..) {
                let _ = reader.send(Ok(()));
            }
        }
        self.await_applied();
        true
    }

    /// Asks the applier to be told of its next index, as long as anything waits for it: an election
    /// or a new leader's readers. Called before its index is looked at.
    fn await_applied(&mut self) {
        let leads = self.parts.progress.leader.load(Ordering::Acquire) != 0;
        self.parts.progress.awaited.store(!leads || self.opening.is_some(), Ordering::SeqCst);
    }

    /// Offers all proposals to raft as one batch.
    fn propose(&mut self, proposals: &mut Vec<Proposal>) {
        if proposals.is_empty() {
            return;
        }
        let payloads = proposals.iter().map(|proposal| proposal.payload.clone()).collect();
        match self.parts.core.propose(payloads) {
            Ok(Proposed::Appended { first, term }) => {
                for (index, proposal) in (first..).zip(proposals.drain(..)) {
                    let Proposal { request, reply, .. } = proposal;
                    self.waiting.push_back(Waiting { index, term, request, reply });
                }
            }
            Ok(Proposed::Forwarded { .. }) => {
                unreachable!("a single member has nobody to forward to")
            }
            Err(refusal) => {
                let error = client_error(&refusal);
                self.parts.metrics.proposals_failed.inc_by(proposals.len() as u64);
                for proposal in proposals.drain(..) {
                    let _ = proposal.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Does everything raft wants done by now.
    fn work(&mut self) -> Result<(), Fault> {
        loop {
            while let Some(work) = self.parts.core.work() {
                self.hand_out(work)?;
            }
            let Some(number) = self.parts.log.sync()? else { return Ok(()) };
            self.parts.core.on_persisted(number);
        }
    }

    fn hand_out(&mut self, work: Work) -> Result<(), Fault> {
        assert!(work.messages.is_empty(), "a single member has nobody to write to");
        if let Some(persist) = work.persist {
            self.parts.log.append(persist)?;
        }
        if let Some(standing) = work.standing {
            let progress = &self.parts.progress;
            let leads = standing.role == Role::Leader;
            if progress.leader.swap(standing.leader, Ordering::AcqRel) != standing.leader
                && standing.leader != 0
            {
                self.parts.metrics.leader_changes.inc();
            }
            progress.term.store(standing.term, Ordering::Release);
            self.opening = leads.then(|| self.parts.core.status().last_index);
            progress.read_open.store(false, Ordering::Release);
            tracing::info!(role = ?standing.role, term = standing.term, "raft role changed");
            self.await_applied();
        }
        if !work.committed.is_empty() {
            let committed = work.committed.into_iter().map(|entry| self.claim(entry)).collect();
            let _ = self.parts.applier.send(applier::Job::Apply(committed));
        }
        Ok(())
    }

    /// Joins a committed entry with the proposal that waits for it.
    fn claim(&mut self, entry: Entry) -> Committed {
        self.parts.progress.committed.store(entry.index, Ordering::Release);
        while self.waiting.front().is_some_and(|waiting| waiting.index < entry.index) {
            self.lose();
        }
        let front = self.waiting.front();
        if front.is_none_or(|waiting| waiting.index != entry.index) {
            return Committed { entry, waiting: None };
        }
        if front.is_some_and(|waiting| waiting.term != entry.term) {
            self.lose();
            return Committed { entry, waiting: None };
        }
        let waiting = self.waiting.pop_front().map(|waiting| (waiting.request, waiting.reply));
        Committed { entry, waiting }
    }

    fn lose(&mut self) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.parts.metrics.proposals_failed.inc();
            let _ = waiting.reply.send(Err(Error::TimeoutDueToLeaderFail));
        }
    }
}

/// Whether the driver's loop goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl Next {
    fn is_stop(&self) -> bool {
        *self == Next::Stop
    }
}

/// What a client is told when raft does not take its proposal.
fn client_error(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Overloaded => Error::RequestTooManyRequests,
        Refusal::NoLeader | Refusal::TermUncommitted | Refusal::CatchingUp => Error::NoLeader,
        Refusal::NotLeader { .. } | Refusal::Transferring { .. } => Error::LeaderChanged,
        Refusal::ConfChangePending
        | Refusal::RemovesLeader
        | Refusal::DemotesVoter
        | Refusal::RemovesLastVoter
        | Refusal::NotVoter(_)
        | Refusal::NotMember(_)
        | Refusal::Removed
        | Refusal::LogLost { .. }
        | Refusal::BadChange(_)
        | Refusal::Malformed(_) => Error::Stopped,
    }
}
