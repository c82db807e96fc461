//! What the driver must do for raft, and the order in which messages may leave.
//!
//! A message may promise something that is not on disk yet. The [`Outbox`] holds exactly those
//! back until the write that makes them true is reported, and lets everything else go at once:
//!
//! | message | promises | leaves |
//! |---|---|---|
//! | AppendResponse, votes, pre-votes and answers to them | my log and my vote | after the write |
//! | whatever a leader says in its own name | that it leads this term | after the term is written |
//! | the same, as a conf change is committed | that it is committed | after the commit is written |
//! | everything else: heartbeat answers, forwarded requests and reads | nothing durable | at once |
//!
//! - raft-rs would hold all messages of a follower back, and with them the heartbeat answers that
//!   a ReadIndex round waits for: reads would take as long as the disk. The first row is the rule
//!   of etcd's raft.
//! - A leader of several voters has its term on disk before it wins. A sole voter wins the moment
//!   it campaigns; without the second row it could speak to a learner, crash, and speak
//!   differently in the same term.
//! - A commit alone is otherwise not written. But when two members become one, the one that leaves
//!   is gone as soon as it hears that it was removed; if the other then forgot the commit, it would
//!   wait for a vote that nobody can give.
//!
//! And one kind of message need not leave at all. After every commit a leader tells it to those who
//! have the entries, in an append without any, and raft-rs acknowledges what it has acknowledged
//! before. Of a lone write's messages that is a quarter. It tells the leader nothing, unless the
//! first was lost; then the leader asks again at its next heartbeat, with no more committed, and
//! gets its answer.

use std::collections::VecDeque;

use ::raft::StateRole;
use ::raft::eraftpb::{Entry, HardState, Message, MessageType, Snapshot};

/// What a member is in its cluster's current term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

impl From<StateRole> for Role {
    fn from(role: StateRole) -> Role {
        match role {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }
}

/// Who leads, and what that makes of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub role: Role,
    /// 0 if unknown.
    pub leader: u64,
    pub term: u64,
}

/// A linearizable read, from the question to the index that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What must be on disk, in this order and all of it, before `on_persisted(number)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Persist {
    pub number: u64,
    /// The state machine as of an index, replacing the log up to there.
    pub snapshot: Option<Snapshot>,
    /// Entries to append. The first may lie before the log's end: what it overtakes is void.
    pub entries: Vec<Entry>,
    /// Its commit never lies beyond the entries. A commit that moved alone is not worth a write: it
    /// rides on the next one, and recovery makes do with less.
    pub hard_state: HardState,
}

/// What raft wants done. See the room's chapter for the order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// To send now, without waiting for `persist`.
    pub messages: Vec<Message>,
    pub persist: Option<Persist>,
    /// To apply, in order. Durable here and committed.
    pub committed: Vec<Entry>,
    /// Reads that may be served once the state machine has applied the index.
    pub reads: Vec<(ReadId, u64)>,
    /// Reads that will never be answered, because the leader they were asked of is gone.
    pub reads_lost: Vec<ReadId>,
    /// Present if it changed.
    pub standing: Option<Standing>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.persist.is_none()
            && self.committed.is_empty()
            && self.reads.is_empty()
            && self.reads_lost.is_empty()
            && self.standing.is_none()
    }
}

/// Messages between raft and the network, and the writes some of them wait for.
#[derive(Default)]
pub(super) struct Outbox {
    /// Numbers of the writes handed out and not yet reported, ascending.
    writing: VecDeque<u64>,
    /// The last write among `writing` that a leader must not outrun.
    binding: Option<u64>,
    /// Messages behind the write they wait for, ascending by it.
    held: VecDeque<(u64, Message)>,
    /// Messages whose write has been reported.
    released: Vec<Message>,
    /// The last acknowledgement of entries.
    acknowledged: Option<Acknowledgement>,
}

/// To whom, in which term, up to which index.
type Acknowledgement = (u64, u64, u64);

fn acknowledgement(message: &Message) -> Option<Acknowledgement> {
    (message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject).then_some((
        message.to,
        message.term,
        message.index,
    ))
}

impl Outbox {
    /// Notes that write `number` is handed out, and whether a leader's own messages wait for it.
    pub fn write_started(&mut self, number: u64, binds_leader: bool) {
        let last = self.writing.back().copied().unwrap_or(0);
        assert!(last < number, "writes are numbered upwards");
        self.writing.push_back(number);
        if binds_leader {
            self.binding = Some(number);
        }
    }

    /// Notes that all writes up to `number` are durable, and lets go what waited for them.
    pub fn write_finished(&mut self, number: u64) {
        assert!(self.writing.contains(&number), "write {number} is not under way");
        self.writing.retain(|other| *other > number);
        self.binding = self.binding.filter(|other| *other > number);
        while self.held.front().is_some_and(|(write, _)| *write <= number) {
            let (_, message) = self.held.pop_front().expect("the front was just seen");
            self.released.push(message);
        }
    }

    pub fn is_idle(&self) -> bool {
        self.writing.is_empty()
    }

    /// Drops the answer to a notice, the last of `messages`, if it acknowledges nothing new.
    pub fn withhold_repeated(&self, messages: &mut Vec<Message>) {
        let Some((answer, earlier)) = messages.split_last() else { return };
        let before = earlier.iter().rev().find_map(acknowledgement).or(self.acknowledged);
        if before.is_some() && acknowledgement(answer) == before {
            messages.pop();
        }
    }

    /// Takes in a message that raft made after the last write was handed out.
    pub fn push(&mut self, message: Message) {
        self.acknowledged = acknowledgement(&message).or(self.acknowledged);
        let last_write = self.writing.back().copied();
        let waits_for = match message.get_msg_type() {
            MessageType::MsgAppendResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse => last_write,
            // Behind the last write and not the binding one, so that `held` stays in order.
            MessageType::MsgAppend
            | MessageType::MsgSnapshot
            | MessageType::MsgHeartbeat
            | MessageType::MsgReadIndexResp
            | MessageType::MsgTimeoutNow => self.binding.and(last_write),
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader
            | MessageType::MsgReadIndex => None,
        };
        match waits_for {
            Some(write) => self.held.push_back((write, message)),
            None => self.released.push(message),
        }
    }

    /// The messages that may leave now.
    pub fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.released)
    }
}
