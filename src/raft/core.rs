//! The consensus core: inputs go in, work comes out, nothing happens by itself.
//!
//! See the room's chapter for the contract with the driver and for the guards.

use ::raft::eraftpb::{ConfState, Entry, EntryType, HardState, Message, MessageType};
use ::raft::{Config, RawNode, SnapshotStatus, StateRole};
use bytes::Bytes;

use super::boot::{Boot, recover};
use super::conf::{self, BadChange, Change};
use super::guard::{self, Malformed};
use super::log::{Boundary, Log};
use super::reads::{Reads, Reign};
use super::work::{Outbox, Persist, ReadId, Role, Standing, Work};
use crate::error::Fault;

/// The most bytes of entries in one append message, unless a single entry is larger.
const APPEND_BYTES_MAX: u64 = 512 * 1024;
/// The most append messages on their way to a follower; more entries wait for its answers.
const APPENDS_IN_FLIGHT_MAX: usize = 256;
/// The most bytes of proposals that a quorum has not confirmed; more are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most bytes of committed entries in one `Work`; the rest comes in the next.
const COMMITTED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why the core did not take an input. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no leader")]
    NoLeader,
    #[error("{leader:x} is the leader")]
    NotLeader { leader: u64 },
    #[error("leadership is moving to {to:x}")]
    Transferring { to: u64 },
    #[error("the leader has not committed an entry in its term yet")]
    TermUncommitted,
    #[error("too many bytes are uncommitted")]
    Overloaded,
    #[error("a conf change is not applied yet")]
    ConfChangePending,
    #[error("the leader cannot remove itself, leadership must move first")]
    RemovesLeader,
    #[error("a voter cannot become a learner")]
    DemotesVoter,
    #[error("the last voter cannot be removed")]
    RemovesLastVoter,
    #[error("{0:x} is not a voter")]
    NotVoter(u64),
    #[error("{0:x} is not a member")]
    NotMember(u64),
    #[error("this member must catch up before it can campaign")]
    CatchingUp,
    #[error("this member has been removed")]
    Removed,
    /// The leader has our acknowledgement of entries that we do not have: this disk has lost data,
    /// or another disk took over this id. Nothing heals it, so the driver should stop the node.
    #[error("the leader has committed {commit} with us, but our log ends at {last}")]
    LogLost { commit: u64, last: u64 },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    BadChange(#[from] BadChange),
}

/// Where a proposal went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// Into our log as leader: the payloads lie from index `first` on. If another term's entry is
    /// committed at such an index, that payload is lost.
    Appended { first: u64, term: u64 },
    /// To the leader, in a message that may be lost or refused without an answer.
    Forwarded { leader: u64 },
}

/// A conf change that took effect.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfApplied {
    /// To be stored together with the index of the change.
    pub conf_state: ConfState,
    /// Whether the change removed this member. It proposes nothing any more, but the others may
    /// still need its vote: see the room's chapter.
    pub removed: bool,
}

/// One member's part in the consensus.
pub struct Core {
    pub(super) node: RawNode<Log>,
    seed: u64,
    outbox: Outbox,
    /// The hard state that was last handed out for writing.
    written: HardState,
    /// As of the last applied conf change.
    pub(super) conf_state: ConfState,
    /// Index and conf state of a received snapshot that the state machine has not installed yet.
    /// raft-rs already lives by it, `conf_state` does not.
    installing: Option<(u64, ConfState)>,
    reads: Reads,
    standing: Standing,
    removed: bool,
}

impl Core {
    /// A core that goes on where recovery ends. `boot` is believed only as far as it is consistent.
    pub fn new(boot: Boot) -> Result<Core, Fault> {
        let config = Config {
            id: boot.id,
            election_tick: boot.election_tick,
            heartbeat_tick: boot.heartbeat_tick,
            applied: boot.applied,
            max_size_per_msg: APPEND_BYTES_MAX,
            max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: !boot.no_pre_vote,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            ..Config::default()
        };
        let (seed, conf_state) = (boot.seed, conf::sorted(boot.conf_state.clone()));
        let reads = Reads::new(boot.id, boot.seed);
        let written = boot.hard_state.clone();
        let log = recover(boot)?;
        let node = RawNode::new(&config, log, &super::drain::logger())
            .map_err(|error| Fault::Broken(format!("raft cannot start: {error}")))?;
        let standing = Standing { role: Role::Follower, leader: 0, term: node.raft.term };
        let mut core = Core {
            node,
            seed,
            outbox: Outbox::default(),
            written,
            conf_state,
            installing: None,
            reads,
            standing,
            removed: false,
        };
        core.settle();
        Ok(core)
    }

    /// Lets one tick of time pass.
    pub fn tick(&mut self) {
        if self.must_not_campaign() {
            return;
        }
        self.node.tick();
        self.settle();
    }

    /// Starts an election now instead of at the end of the timeout. For a member that knows it is
    /// alone: it need not wait for anybody.
    pub fn campaign(&mut self) -> Result<(), Refusal> {
        self.refuse_if_removed()?;
        if !self.node.raft.promotable() {
            return Err(Refusal::NotVoter(self.node.raft.id));
        }
        if self.must_not_campaign() {
            return Err(Refusal::CatchingUp);
        }
        self.node.campaign().map_err(|error| self.explain(error, 0))?;
        self.settle();
        Ok(())
    }

    /// Forgets a leader that is known to be gone, so that this member may be asked for its vote at
    /// once. If it is not gone after all, its next message is heard as ever.
    pub fn lose_leader(&mut self, leader: u64) {
        let raft = &mut self.node.raft;
        if leader != 0 && raft.leader_id == leader && raft.state == StateRole::Follower {
            let term = raft.term;
            raft.become_follower(term, 0);
            self.settle();
        }
    }

    /// Takes a message from a peer, whose identity the caller has verified.
    pub fn step(&mut self, message: Message) -> Result<(), Refusal> {
        guard::check(&message, self.node.raft.id)?;
        self.check_against_log(&message)?;
        match message.get_msg_type() {
            MessageType::MsgPropose => self.check_forwarded(&message)?,
            MessageType::MsgReadIndex => self.check_leads_surely()?,
            MessageType::MsgTimeoutNow if self.is_unready() => {
                return Err(Refusal::CatchingUp);
            }
            _ => {}
        }
        let (from, is_notice) = (message.from, self.is_notice(&message));
        self.node.step(message).map_err(|error| self.explain(error, from))?;
        if is_notice {
            self.outbox.withhold_repeated(&mut self.node.raft.msgs);
        }
        self.settle();
        Ok(())
    }

    /// Whether a leader only tells that it has committed more.
    fn is_notice(&self, message: &Message) -> bool {
        message.get_msg_type() == MessageType::MsgAppend
            && message.entries.is_empty()
            && message.commit > self.node.raft.raft_log.committed
    }

    /// Proposes commands, all or none of them, in one message.
    pub fn propose(&mut self, payloads: Vec<Bytes>) -> Result<Proposed, Refusal> {
        assert!(!payloads.is_empty(), "a proposal has content");
        let entry = |data: Bytes| {
            assert!(!data.is_empty(), "an empty entry is a new leader's announcement");
            Entry { data, ..Entry::default() }
        };
        self.propose_entries(payloads.into_iter().map(entry).collect())
    }

    /// Proposes a change of members. The leader refuses what raft-rs would silently turn into an
    /// empty entry, or into a dead leader.
    pub fn propose_conf_change(&mut self, change: &Change) -> Result<Proposed, Refusal> {
        self.refuse_if_removed()?;
        if self.leads() {
            self.check_conf_change(change)?;
        }
        self.propose_entries(vec![Entry {
            entry_type: EntryType::EntryConfChange as i32,
            data: change.encode(),
            ..Entry::default()
        }])
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<Proposed, Refusal> {
        self.refuse_if_removed()?;
        let raft = &self.node.raft;
        if let Some(to) = raft.lead_transferee {
            return Err(Refusal::Transferring { to });
        }
        let proposed = match (raft.state, raft.leader_id) {
            (StateRole::Leader, _) => {
                Proposed::Appended { first: raft.raft_log.last_index() + 1, term: raft.term }
            }
            (_, 0) => return Err(Refusal::NoLeader),
            (_, leader) => Proposed::Forwarded { leader },
        };
        let mut message = Message { from: raft.id, entries, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        self.node.raft.step(message).map_err(|error| self.explain(error, 0))?;
        self.settle();
        Ok(proposed)
    }

    /// Asks at which index a read that arrives now is linearizable. Every call is a new question,
    /// and costs a round of heartbeats on the leader: the driver keeps one in flight and lets the
    /// reads that arrive meanwhile share the next.
    ///
    /// An answer may never come (messages are lost without a trace), so ask again after a while.
    pub fn read_index(&mut self) -> Result<ReadId, Refusal> {
        self.refuse_if_removed()?;
        if self.node.raft.leader_id == 0 {
            return Err(Refusal::NoLeader);
        }
        if self.leads() {
            self.check_leads_surely()?;
        }
        let (id, context) = self.reads.ask(self.reign());
        self.node.read_index(context);
        Ok(id)
    }

    /// Asks a voter to take over. Proposals are refused until it has, or for an election timeout.
    pub fn transfer_leader(&mut self, to: u64) -> Result<(), Refusal> {
        self.refuse_if_removed()?;
        self.check_leads()?;
        if to == self.node.raft.id || !self.node.raft.prs().conf().voters().contains(to) {
            return Err(Refusal::NotVoter(to));
        }
        self.node.transfer_leader(to);
        Ok(())
    }

    /// Notes that messages to a peer were lost, so that they are sent again from the last one it
    /// confirmed.
    pub fn report_unreachable(&mut self, peer: u64) {
        self.node.report_unreachable(peer);
    }

    /// Notes how sending a snapshot ended. Without a report the peer waits for ever, so the sender
    /// needs a deadline that counts as a failure.
    pub fn report_snapshot(&mut self, peer: u64, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(peer, status);
    }

    /// What is to be done, until there is nothing. To be asked after every batch of inputs.
    pub fn work(&mut self) -> Option<Work> {
        loop {
            let mut work = Work::default();
            let has_ready = self.node.has_ready();
            if has_ready {
                self.take_ready(&mut work);
            }
            work.messages = self.outbox.take();
            work.reads_lost = self.reads.give_up((!self.removed).then(|| self.reign()));
            let standing = self.current_standing();
            if standing != self.standing {
                self.standing = standing;
                work.standing = Some(standing);
            }
            if !work.is_empty() {
                return Some(work);
            }
            if !has_ready {
                return None;
            }
        }
    }

    /// Turns one of raft-rs's readies into work. No input may reach raft-rs in between.
    fn take_ready(&mut self, work: &mut Work) {
        let mut ready = self.node.ready();
        let number = ready.number();
        let entries = ready.take_entries();
        let snapshot = Some(ready.snapshot()).filter(|snapshot| !snapshot.is_empty()).cloned();

        // raft-rs reads its log through us from here on, durable or not.
        if let Some(metadata) = snapshot.as_ref().map(|snapshot| snapshot.get_metadata()) {
            let boundary = Boundary { index: metadata.index, term: metadata.term };
            self.node.mut_store().restore(boundary);
            self.installing = Some((metadata.index, metadata.get_conf_state().clone()));
        }
        self.node.mut_store().append(&entries);

        work.committed = ready.take_committed_entries();
        let mut unwritten =
            work.committed.iter().skip_while(|entry| entry.index <= self.written.commit);
        let changes_members = unwritten.any(conf::is_conf_entry);
        if ready.must_sync() || changes_members {
            let hard_state = self.node.raft.hard_state();
            let is_new = |a: &HardState, b: &HardState| (a.term, a.vote) != (b.term, b.vote);
            let binds_leader = changes_members || is_new(&hard_state, &self.written);
            self.outbox.write_started(number, binds_leader);
            self.written = hard_state.clone();
            work.persist = Some(Persist { number, snapshot, entries, hard_state });
        }
        let (answers, now) = (ready.take_read_states(), self.reign());
        work.reads = answers.iter().filter_map(|state| self.reads.answer(state, now)).collect();
        // Which of the two lists holds the messages is raft-rs's opinion on what may leave early;
        // the outbox has its own.
        let messages = ready.take_messages().into_iter().chain(ready.take_persisted_messages());
        messages.for_each(|message| self.outbox.push(message));
        self.node.advance_append_async(ready);
        if self.outbox.is_idle() {
            // Nothing to wait for, and raft-rs would remember every ready for ever.
            self.node.on_persist_ready(number);
        }
    }

    /// Notes that the write of this number, and all before it, are durable.
    pub fn on_persisted(&mut self, number: u64) {
        self.outbox.write_finished(number);
        self.node.on_persist_ready(number);
        self.settle();
    }

    /// Notes that the state machine holds everything up to `index`, by entries or by a snapshot.
    pub fn on_applied(&mut self, index: u64) {
        let log = &self.node.raft.raft_log;
        if index <= log.applied {
            // A snapshot has overtaken the applier.
            return;
        }
        assert!(index <= log.committed, "{index} is applied but not committed");
        assert!(index <= log.persisted, "{index} is applied but not durable");
        self.finish_installing(index);
        self.node.advance_apply_to(index);
        if self.installing.is_none() {
            let conf_state = self.conf_state.clone();
            self.node.mut_store().set_applied(index, conf_state);
        }
        self.settle();
    }

    /// Puts a committed conf change into effect, before `on_applied` reports its index. A change
    /// that the state machine rejects is not brought here.
    pub fn apply_conf_change(&mut self, index: u64, change: &Change) -> Result<ConfApplied, Fault> {
        assert!(index > self.node.raft.raft_log.applied, "{index} is already applied");
        self.finish_installing(index - 1);
        let id = self.node.raft.id;
        let next = conf::apply(&self.conf_state, change);
        if next.voters.is_empty() {
            return Err(Fault::Broken(format!("the conf change at {index} leaves no voter")));
        }
        let removed = conf::contains(&self.conf_state, id) && !conf::contains(&next, id);
        self.conf_state = next.clone();
        // While a snapshot is being installed raft-rs is beyond this change already.
        if self.installing.is_none() {
            self.tell_raft(index, change)?;
        }
        if self.leads() && !next.voters.contains(&id) {
            // raft-rs would lead on: it panics when it looks for its own progress, or else it keeps
            // the others from electing for ever.
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
        }
        self.removed = removed || (self.removed && !conf::contains(&next, id));
        self.settle();
        Ok(ConfApplied { conf_state: next, removed })
    }

    /// The index, between `oldest` and `newest`, after which the entries up to `newest` come to at
    /// most so many bytes.
    pub fn first_within(&self, oldest: u64, newest: u64, bytes_max: u64) -> u64 {
        self.node.store().first_within(oldest, newest, bytes_max)
    }

    /// Drops entries that no follower needs any more, up to an applied index.
    pub fn compact(&mut self, index: u64) {
        self.node.mut_store().compact(index);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed
    }

    fn tell_raft(&mut self, index: u64, change: &Change) -> Result<(), Fault> {
        if change.kind == conf::Kind::Update {
            return Ok(());
        }
        let theirs = self.node.apply_conf_change(&change.to_raft()).map_err(|error| {
            Fault::Broken(format!("raft cannot apply the conf change at {index}: {error}"))
        })?;
        assert_eq!(conf::sorted(theirs), self.conf_state, "raft sees other members than we do");
        Ok(())
    }

    /// Moves on to the conf state of a snapshot, once the state machine has reached it.
    fn finish_installing(&mut self, applied: u64) {
        match self.installing.take() {
            Some((snapshot, conf_state)) if snapshot <= applied => {
                self.conf_state = conf::sorted(conf_state);
                let theirs = self.node.raft.prs().conf().to_conf_state();
                assert_eq!(conf::sorted(theirs), self.conf_state, "raft lives by the snapshot");
            }
            other => self.installing = other,
        }
    }

    /// Replaces what raft-rs drew from the operating system's randomness, by what follows from the
    /// members, the seed and the term.
    ///
    /// While there is a leader all voters hear it, and will miss it at the same time: each has a
    /// place of its own in the order of standing for election, a tick behind the one before it. The
    /// first comes a tick late, as the others grant nothing before they have missed the leader as
    /// long as they must, and their ticks are not at the same moments. Whoever has no leader goes
    /// by lot: another election has failed, and places may be why. Each has a new term, so two
    /// members that drew the same number once are unlikely to do so twice.
    fn settle(&mut self) {
        let ticks = self.node.raft.election_timeout() as u64;
        let beyond = match self.place_among_voters() {
            Some(place) => 1 + place % (ticks - 1),
            None => self.lot() % ticks,
        };
        self.node.raft.set_randomized_election_timeout((ticks + beyond) as usize);
    }

    /// How many voters stand before this one when the leader of now is lost.
    fn place_among_voters(&self) -> Option<u64> {
        let (own, leader) = (self.node.raft.id, self.node.raft.leader_id);
        let before = |id: &&u64| **id != leader && **id < own;
        (leader != 0).then(|| self.conf_state.voters.iter().filter(before).count() as u64)
    }

    fn lot(&self) -> u64 {
        let raft = &self.node.raft;
        scramble(self.seed ^ scramble(raft.id) ^ scramble(raft.term).rotate_left(32))
    }

    fn reign(&self) -> Reign {
        (self.node.raft.term, self.node.raft.leader_id)
    }
}

/// A number that looks random, from one that does not (the finalizer of splitmix64).
pub fn scramble(number: u64) -> u64 {
    let mut number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
