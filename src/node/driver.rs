//! The driver: the one thread that owns the raft core.
//!
//! ```text
//!  clients ──propose, read──▶ ┌────────┐ ──append, sync──▶ log
//!  peers ────messages───────▶ │ driver │ ──messages──────▶ peers
//!  clock ────tick───────────▶ │        │
//!  others ───completions────▶ └────────┘ ──committed─────▶ applier
//! ```
//!
//! Each turn takes everything that waits in the inbox, offers all proposals to raft as one batch,
//! sends what may leave, has the rest made durable, and hands on what that commits. The thread
//! waits between turns, and nothing else does: the driver itself is a value with a `turn`. It never
//! waits for the state machine, nor for a peer. While its member is alone it waits for the disk,
//! see [`Log`]; so a client's patience is measured where the client waits, not here.
//!
//! Invariants:
//! - Channels out of here are unbounded, so that nobody but the disk can block the driver; what
//!   bounds them is that proposals are refused while too much is uncommitted or unapplied.
//! - What a message promises is on disk before it leaves: the core sees to that, as long as writes
//!   are reported in order and none before its time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use flume::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::applier::{self, Committed};
use super::arrivals::Arrivals;
use super::haste::Haste;
use super::heartbeats::Heartbeats;
use super::log::Log;
use super::missing::Missing;
use super::progress::Progress;
use super::proposals::{Answer, Claim, Proposal, Proposals};
use super::queues::Queues;
use super::reads::Reads;
use super::sendings::Sendings;
use super::snapshots::{self, Staged};
use super::transport::Transport;
use super::{Clock, clock, start_thread};
use crate::error::{Error, Fault};
use crate::lease::Deadlines;
use crate::limits;
use crate::machine::Applied;
use crate::marks::{Mark, mark};
use crate::metrics::Metrics;
use crate::planted::{Mistake, planted};
use crate::raft::conf::Change;
use crate::raft::{Core, Entry, Message, MessageType, Refusal, Work};
use crate::storage::wal::Spare;

mod offers;
mod stands;

use offers::client_error;
use states::Installing;
mod states;

/// A question to the core, asked on its own thread.
pub(super) type Question = Box<dyn FnOnce(&Core) + Send>;

/// What the driver can be told.
pub(super) enum Input {
    Propose(Proposal),
    /// A change of members; the answer comes when it is applied here.
    ProposeChange {
        change: Change,
        reply: Answer,
    },
    /// The applier came to the index that was [awaited](Progress::awaited).
    Applied,
    /// The applier reached a configuration change and needs the configuration it makes.
    ConfChange {
        index: u64,
        change: Change,
    },
    /// Everything up to here is in the engine, durably.
    Checkpointed(Applied),
    /// Writes up to this number are on disk.
    Persisted(u64),
    /// A segment reserved for the log, or why there is none.
    Stock(Result<Spare, Fault>),
    /// Readers wait until applied state shows everything acknowledged before now.
    Readers,
    /// A peer says something.
    Message(Box<Message>),
    /// Messages to a peer were lost.
    Unreachable(u64),
    /// A peer's connections were closed from its end: its process may have died.
    Disconnected(u64),
    /// How sending a state to a peer ended.
    SnapshotSent {
        to: u64,
        arrived: bool,
    },
    /// A state came, and lies ready beside ours.
    Snapshot {
        message: Box<Message>,
        staged: Staged,
    },
    /// Leadership is to move; the answer says whether it begins to.
    Transfer {
        to: u64,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Ask(Question),
    Stop,
}

/// What the driver is given at its start.
pub(super) struct Parts {
    pub core: Core,
    pub member_id: u64,
    pub tick: Duration,
    pub missing: Missing,
    /// How long readers wait.
    pub patience: Duration,
    /// Whether to stand soon after the start if nobody leads.
    pub stands_at_start: bool,
    pub catchup_entries: u64,
    pub inbox: Receiver<Input>,
    pub queues: Queues,
    pub readers: Arrivals,
    pub log: Log,
    pub applier: Sender<applier::Job>,
    pub peers: Arc<dyn Transport>,
    pub snapshots: snapshots::Sending,
    pub deadlines: Arc<Mutex<Deadlines>>,
    pub clock: Clock,
    /// Wakes whoever has duties when leadership comes or goes.
    pub duties: mpsc::UnboundedSender<()>,
    pub progress: Arc<Progress>,
    pub metrics: Arc<Metrics>,
}

/// Starts the thread. It ends on [`Input::Stop`].
pub(super) fn start(parts: Parts) -> thread::JoinHandle<()> {
    start_thread("driver", move || run(parts))
}

fn run(parts: Parts) -> Result<(), Fault> {
    let inbox = parts.inbox.clone();
    let mut driver = Driver::begin(parts, clock::now())?;
    loop {
        let first = match inbox.recv_deadline(driver.due()) {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            waited => waited.ok(),
        };
        if driver.turn(first, clock::now())?.is_stop() {
            return Ok(());
        }
    }
}

pub(super) struct Driver {
    parts: Parts,
    /// The moment of this turn.
    now: Instant,
    next_tick: Instant,
    proposals: Proposals,
    reads: Reads,
    /// Proposals of peers that came while leadership moves, to be handed on.
    held_messages: Vec<Message>,
    /// Questions of peers' readers that came before this leader's first commit.
    held_questions: Vec<Message>,
    haste: Haste,
    heartbeats: Heartbeats,
    sending: Sendings,
    /// Peers that took no state, and when another may be sent.
    refused: Vec<(Instant, u64)>,
    /// A state that was received and not yet wanted by raft.
    staged: Option<Staged>,
    installing: Option<Installing>,
    /// As a new leader: the last index of the log it took over. A lone member's reads open when it
    /// is applied.
    opening: Option<u64>,
    /// What raft knows to be applied.
    applied: u64,
}

impl Driver {
    /// A driver that has done what there is to do before the first input.
    pub fn begin(parts: Parts, now: Instant) -> Result<Self, Fault> {
        let reads = Reads::new(parts.readers.clone(), parts.patience);
        let stands_at_start = parts.stands_at_start;
        let mut driver = Self {
            heartbeats: Heartbeats::new(parts.tick),
            now,
            next_tick: now + parts.tick,
            parts,
            proposals: Proposals::default(),
            reads,
            held_messages: Vec::new(),
            held_questions: Vec::new(),
            haste: Haste::new(stands_at_start),
            sending: Sendings::default(),
            refused: Vec::new(),
            staged: None,
            installing: None,
            opening: None,
            applied: 0,
        };
        driver.await_applied();
        driver.stand_alone();
        driver.settle_in();
        driver.follow_up()?;
        Ok(driver)
    }

    #[cfg(debug_assertions)]
    pub fn status(&self) -> crate::raft::Status {
        self.parts.core.status()
    }

    #[cfg(debug_assertions)]
    pub fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    #[cfg(debug_assertions)]
    pub fn followers(&self) -> Vec<crate::raft::Progress> {
        self.parts.core.progress()
    }

    #[cfg(debug_assertions)]
    pub fn load(&self) -> super::sim::Load {
        let status = self.parts.core.status();
        super::sim::Load {
            inbox: self.parts.queues.counts(),
            held: self.proposals.held(),
            waiting: self.proposals.pending() as usize,
            messages_held: self.held_messages.len(),
            questions_held: self.held_questions.len(),
            readers: self.reads.waiting(),
            entries: (status.last_index + 1).saturating_sub(status.first_index),
            reads_beside_others: self.parts.progress.read_open.load(Ordering::Acquire)
                && !self.is_alone(),
            ..super::sim::Load::default()
        }
    }

    /// When the next turn is due, whether or not there is an input.
    pub fn due(&self) -> Instant {
        let dues = [self.haste.due(), self.reads.due()];
        dues.into_iter().flatten().fold(self.next_tick, Instant::min)
    }

    /// Takes the first input and all that wait behind it, notes the time, and does what follows.
    pub fn turn(&mut self, first: Option<Input>, now: Instant) -> Result<Next, Fault> {
        self.now = now;
        if let Some(first) = first
            && self.take_all(first)?.is_stop()
        {
            return Ok(Next::Stop);
        }
        if now >= self.next_tick {
            self.tick();
        }
        if self.haste.is_due(now) {
            mark(Mark::StoodInHaste);
            // Refused if this member cannot win; then somebody else's haste or time decides.
            let _ = self.parts.core.campaign();
        }
        self.ask();
        self.follow_up()?;
        Ok(Next::GoOn)
    }

    fn take_all(&mut self, first: Input) -> Result<Next, Fault> {
        let (mut proposals, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(input) = next {
            self.parts.queues.taken(&input);
            if let Input::Propose(proposal) = input {
                bytes += proposal.payload.len();
                proposals.push(proposal);
            } else if self.take(input)?.is_stop() {
                return Ok(Next::Stop);
            }
            let full = bytes >= limits::PROPOSAL_BATCH_BYTES_MAX
                || proposals.len() >= limits::PROPOSAL_BATCH_MAX;
            next = if full { None } else { self.parts.inbox.try_recv().ok() };
        }
        self.propose(proposals);
        Ok(Next::GoOn)
    }

    fn tick(&mut self) {
        self.parts.core.tick();
        self.offer_held();
        self.send_states_again();
        self.stand_at_start();
        if !self.leads() {
            self.proposals.forget_gone();
        }
        let leader = self.parts.progress.leader.load(Ordering::Acquire);
        self.parts.missing.look(leader != 0, self.now);
        self.next_tick = (self.next_tick + self.parts.tick).max(self.now);
    }

    /// Does what follows from the inputs taken, until nothing is left to do.
    fn follow_up(&mut self) -> Result<(), Fault> {
        self.work()?;
        while self.catch_up()? {
            self.work()?;
        }
        if let Some(staged) = self.staged.take() {
            // raft did not want it: it has what the state would bring.
            mark(Mark::SnapshotUnwanted);
            staged.discard()?;
        }
        let (slow, failed) = self.reads.take_counts();
        self.parts.metrics.read_indexes_slow.inc_by(slow);
        self.parts.metrics.read_indexes_failed.inc_by(failed);
        self.parts.progress.pending.store(self.proposals.pending(), Ordering::Relaxed);
        self.parts.log.tidy()
    }

    /// Up to where the log may go: entries behind what the engine has are kept for followers that
    /// lag, but only so many, and so many bytes; more for one that is just catching up. One stays
    /// in any case: recovery takes the term of the log's beginning from it.
    fn droppable(&self, applied: u64) -> u64 {
        let core = &self.parts.core;
        let within = |oldest, bytes| core.first_within(oldest, applied, bytes);
        let entries = if self.is_alone() { 1 } else { self.parts.catchup_entries.max(1) };
        let oldest = within(applied.saturating_sub(entries), limits::CATCHUP_BYTES_MAX);
        let is_up = |id| self.parts.peers.active_since(id).is_some();
        let slowest = self.sending.slowest(&core.progress(), core.status().first_index, is_up);
        let slowest = slowest.map(|index| within(index, limits::FOLLOWING_BYTES_MAX));
        slowest.into_iter().chain([applied.saturating_sub(1)]).fold(oldest, u64::min)
    }

    fn is_alone(&self) -> bool {
        let conf = self.parts.core.conf_state();
        conf.voters == [self.parts.member_id] && conf.learners.is_empty()
    }

    fn is_sole_voter(&self) -> bool {
        self.parts.core.conf_state().voters == [self.parts.member_id]
    }

    /// Whether readers may be answered at once, if it leads. A learner, too, may apply and show
    /// what this member has yet to apply.
    fn may_open(&self) -> bool {
        self.is_alone() || planted(Mistake::LearnerUnseen) && self.is_sole_voter()
    }

    fn leads(&self) -> bool {
        self.parts.progress.leader.load(Ordering::Acquire) == self.parts.member_id
    }

    /// A sole voter need not wait for an election timeout: it leads as soon as it may.
    fn stand_alone(&mut self) {
        if self.is_sole_voter() {
            // Refused while its log is being applied; it is asked again after that.
            let _ = self.parts.core.campaign();
        }
    }

    fn take(&mut self, input: Input) -> Result<Next, Fault> {
        match input {
            Input::Propose(_) => unreachable!("proposals are gathered by the caller"),
            Input::ProposeChange { change, reply } => self.propose_change(&change, reply),
            // Looked at in every turn.
            Input::Applied | Input::Readers => {}
            Input::ConfChange { index, change } => {
                let applied = self.parts.core.apply_conf_change(index, &change)?;
                if applied.removed {
                    self.parts.progress.removed.store(true, Ordering::Release);
                }
                self.settle_in();
                // The applier awaits this; it is gone only when the node stops.
                let _ = self.parts.applier.send(applier::Job::ConfState(applied.conf_state));
            }
            Input::Checkpointed(applied) => self.checkpointed(applied)?,
            Input::Persisted(number) => self.persisted(number),
            Input::Stock(spare) => self.parts.log.stock(spare)?,
            Input::Message(message) => self.hear(*message)?,
            Input::Unreachable(id) => self.parts.core.report_unreachable(id),
            Input::Disconnected(id) => self.disconnected(id),
            Input::SnapshotSent { to, arrived } => {
                self.snapshot_sent(to, arrived);
            }
            Input::Snapshot { message, staged } => self.snapshot(*message, staged)?,
            Input::Transfer { to, reply } => {
                let begun = self.parts.core.transfer_leader(to);
                let _ = reply.send(begun.map_err(|refusal| client_error(&refusal)));
            }
            Input::Ask(question) => question(&self.parts.core),
            Input::Stop => return Ok(Next::Stop),
        }
        Ok(Next::GoOn)
    }

    /// Lets go of what the engine has, but for what others may need.
    fn checkpointed(&mut self, applied: Applied) -> Result<(), Fault> {
        // What is in the engine was applied; raft must know before its log ends there.
        self.catch_up()?;
        if self.installing.is_some() {
            return Ok(());
        }
        if applied.index == 0 {
            return Ok(());
        }
        let keep = self.droppable(applied.index);
        self.parts.core.compact(keep);
        if planted(Mistake::LogReleasedEarly) {
            let ahead = Applied { index: self.applied.max(applied.index), ..applied };
            return self.parts.log.release(ahead, ahead.index);
        }
        self.parts.log.release(applied, keep)
    }

    /// Hears a peer. What it says is checked by the core and changes nothing if it is refused.
    fn step(&mut self, message: Message) -> Result<(), Fault> {
        let proposal = message.msg_type() == MessageType::MsgPropose;
        let question = message.msg_type() == MessageType::MsgReadIndex;
        let kept = (proposal || question).then(|| message.clone());
        let (from, kind) = (message.from, message.msg_type());
        let Err(refusal) = self.parts.core.step(message) else { return Ok(()) };
        match (&refusal, kept) {
            (Refusal::LogLost { .. }, _) => {
                mark(Mark::LogLossHeard);
                return Err(Fault::Forgotten(refusal.to_string()));
            }
            (_, Some(message)) if proposal && self.may_hold(&message, &refusal) => {
                self.hold(message);
                self.hand_on();
            }
            // A reader's question, which can be put as soon as this leader has committed.
            (Refusal::TermUncommitted, Some(message)) => {
                mark(Mark::ReadHeldForLeader);
                self.held_questions.push(message);
                self.held_questions.truncate(limits::PROPOSALS_HELD_MAX);
            }
            (_, _) => {
                let from = format!("{from:x}");
                tracing::debug!(from, ?kind, %refusal, "a message is refused");
            }
        }
        Ok(())
    }

    /// Tells raft how far the applier has come, and whoever waits for that; whether it moved.
    ///
    /// The applier publishes its index and wakes nobody: raft needs it soon, not at once. Only
    /// while something waits for it is it asked to.
    fn catch_up(&mut self) -> Result<bool, Fault> {
        let index = self.parts.progress.applied.load(Ordering::SeqCst);
        if index <= self.applied {
            return Ok(false);
        }
        self.applied = index;
        if let Some(installed) = self.installing.take_if(|installing| installing.index <= index) {
            self.parts.core.on_persisted(installed.persisted);
            self.proposals.overtaken(installed.index);
            tracing::info!(index = installed.index, "installed a snapshot");
        }
        if self.installing.is_none() {
            self.parts.core.on_applied(index);
        }
        if self.parts.progress.leader.load(Ordering::Acquire) == 0 {
            self.stand_alone();
        }
        if self.opening.is_some_and(|opening| index >= opening) && self.may_open() {
            self.opening = None;
            self.parts.progress.read_open.store(true, Ordering::Release);
            self.reads.open();
        }
        self.reads.applied(index);
        self.settle_in();
        self.await_applied();
        Ok(true)
    }

    /// Makes the member's ways those of its present place: alone, or among peers.
    fn settle_in(&mut self) {
        if !self.may_open() {
            self.parts.progress.read_open.store(false, Ordering::Release);
        } else if self.leads() && !self.parts.progress.read_open.load(Ordering::Acquire) {
            // Alone again: reads open when what others may have acknowledged is applied.
            let last = self.parts.core.status().last_index;
            self.opening.get_or_insert(last);
        }
        self.parts.log.move_to(!self.is_alone());
    }

    /// Asks the applier to be told of its next index, as long as anything waits for it: an
    /// election, a new leader's readers, a snapshot. Called before its index is looked at.
    fn await_applied(&mut self) {
        let leads = self.parts.progress.leader.load(Ordering::Acquire) != 0;
        let waits = !leads
            || self.opening.is_some()
            || self.reads.await_applied()
            || self.installing.is_some();
        self.parts.progress.awaited.store(waits, Ordering::SeqCst);
    }

    /// Puts the readers' question, if they have one and it can be put.
    fn ask(&mut self) {
        if self.parts.progress.read_open.load(Ordering::Acquire) {
            self.reads.open();
        }
        if !self.reads.wants_to_ask(self.now) {
            return;
        }
        // Refused without a leader, or before its first commit: it is put again, and soon.
        if let Ok(id) = self.parts.core.read_index() {
            self.reads.asked(id, self.now);
        }
    }

    /// Does everything raft wants done by now.
    fn work(&mut self) -> Result<(), Fault> {
        loop {
            while let Some(work) = self.parts.core.work() {
                self.hand_out(work)?;
            }
            let Some(number) = self.parts.log.sync()? else { return Ok(()) };
            self.persisted(number);
        }
    }

    fn hand_out(&mut self, work: Work) -> Result<(), Fault> {
        for message in work.messages {
            self.send(message);
        }
        if let Some(persist) = work.persist {
            if let Some(snapshot) = &persist.snapshot {
                self.install(persist.number, snapshot.get_metadata().index)?;
            }
            self.parts.log.append(persist)?;
        }
        if let Some(standing) = work.standing {
            self.stand(standing);
        }
        for (id, index) in work.reads {
            self.reads.answer(id, index);
        }
        for id in work.reads_lost {
            self.reads.lost(id);
        }
        self.reads.applied(self.applied);
        if self.reads.await_applied() {
            self.await_applied();
        }
        self.ask();
        if !work.committed.is_empty() {
            let committed = work.committed.into_iter().map(|entry| self.claim(entry)).collect();
            let _ = self.parts.applier.send(applier::Job::Apply(committed));
            if self.leads() {
                // Readers that came before this leader's first commit may ask now.
                self.ask();
                for question in std::mem::take(&mut self.held_questions) {
                    let _ = self.parts.core.step(question);
                }
            }
        }
        Ok(())
    }

    /// Joins a committed entry with the proposal that waits for it.
    fn claim(&mut self, entry: Entry) -> Committed {
        self.parts.progress.committed.store(entry.index, Ordering::Release);
        let waiting = match self.proposals.claim(entry.index, entry.term) {
            Claim::Nobody => None,
            Claim::Client(request, reply) => Some((request, reply)),
        };
        Committed { entry, waiting }
    }
}

/// Whether the driver goes on.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Stop,
}

impl Next {
    pub fn is_stop(&self) -> bool {
        *self == Next::Stop
    }
}
