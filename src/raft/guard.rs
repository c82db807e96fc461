//! What must hold before raft-rs sees an input.
//!
//! raft-rs trusts its input: a gap between entries, a commit beyond the log or a request without an
//! entry panics, and a panic stops the node. Other inputs it drops without a word. So everything
//! that one input could do is looked at here first, and a refused input changes nothing.
//!
//! - Authentication is not here. That the sender is who `from` says, and belongs to this cluster,
//!   is the peer floor's to check; a joiner cannot know its leader from its own conf state.
//! - No message that an etcd member or kvorum sends in good order is refused, with two exceptions
//!   on purpose: a leadership transfer is asked of the leader itself and never by message, and V2
//!   conf changes do not exist for us.

use ::raft::StateRole;
use ::raft::eraftpb::{
    ConfState, Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata,
};

use super::conf::{self, Change, Kind};
use super::core::{Core, Refusal};

/// The highest term and index that are believed. Numbers are counted on from what others say, and
/// from here on that goes well for as long as there are machines.
const HIGHEST: u64 = u64::MAX / 2;

/// What is wrong with a message, whatever the state of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("unknown message type {0}")]
    UnknownType(i32),
    #[error("{0:?} is not for the network")]
    LocalType(MessageType),
    #[error("addressed to {0:x}")]
    NotForUs(u64),
    #[error("{0:x} cannot be its sender")]
    BadSender(u64),
    #[error("{0:?} cannot carry term {1}")]
    BadTerm(MessageType, u64),
    #[error("{0:?} cannot carry {1} entries")]
    EntryCount(MessageType, usize),
    #[error("entry {0} does not continue the log")]
    EntryGap(u64),
    #[error("entry {0} has an impossible term")]
    EntryTerm(u64),
    #[error("entry {0} has a type that does not belong here")]
    EntryType(u64),
    #[error("previous entry {0} of term {1} cannot exist")]
    BadPrevious(u64, u64),
    #[error("acknowledges {0}, beyond the log")]
    AckBeyondLog(u64),
    #[error("hints at {0}, beyond what it rejects")]
    BadHint(u64),
    #[error("snapshot at {0} of term {1} cannot exist")]
    BadSnapshot(u64, u64),
    #[error("snapshot has an impossible conf state")]
    BadConfState,
}

/// Checks what does not depend on the receiver's log.
pub(super) fn check(message: &Message, me: u64) -> Result<(), Malformed> {
    let kind = MessageType::try_from(message.msg_type)
        .map_err(|_| Malformed::UnknownType(message.msg_type))?;
    if message.to != me {
        return Err(Malformed::NotForUs(message.to));
    }
    if message.from == 0 || message.from == me {
        return Err(Malformed::BadSender(message.from));
    }
    check_term(message, kind)?;
    match kind {
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader => Err(Malformed::LocalType(kind)),
        MessageType::MsgPropose => check_proposal(message),
        MessageType::MsgAppend => check_append(message),
        MessageType::MsgSnapshot => check_snapshot(message),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => match message.entries.len() {
            1 => Ok(()),
            count => Err(Malformed::EntryCount(kind, count)),
        },
        MessageType::MsgAppendResponse => match message.reject {
            // A hint past the rejected index is no hint: raft-rs would count on from it.
            true if message.reject_hint > message.index => {
                Err(Malformed::BadHint(message.reject_hint))
            }
            true | false => Ok(()),
        },
        MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTimeoutNow => Ok(()),
    }
}

/// Requests forwarded to the leader carry no term, everything else does. raft-rs takes a message
/// without a term for its own and skips the comparison that protects it from old leaders.
fn check_term(message: &Message, kind: MessageType) -> Result<(), Malformed> {
    let forwarded = matches!(kind, MessageType::MsgPropose | MessageType::MsgReadIndex);
    // The last term would have no successor to campaign in.
    if forwarded == (message.term == 0) && message.term <= HIGHEST {
        Ok(())
    } else {
        Err(Malformed::BadTerm(kind, message.term))
    }
}

fn check_proposal(message: &Message) -> Result<(), Malformed> {
    let count = message.entries.len();
    // A conf change stands alone, so that it is taken or refused as a whole.
    if count == 0 || (count > 1 && message.entries.iter().any(conf::is_conf_entry)) {
        return Err(Malformed::EntryCount(MessageType::MsgPropose, count));
    }
    // An entry without data is how a new leader announces itself.
    match message.entries.iter().find(|entry| !is_ours(entry) || entry.data.is_empty()) {
        Some(entry) => Err(Malformed::EntryType(entry.index)),
        None => Ok(()),
    }
}

fn check_append(message: &Message) -> Result<(), Malformed> {
    let has_previous = message.index != 0;
    if has_previous != (message.log_term != 0) || message.log_term > message.term {
        return Err(Malformed::BadPrevious(message.index, message.log_term));
    }
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in &message.entries {
        if index.checked_add(1) != Some(entry.index) {
            return Err(Malformed::EntryGap(entry.index));
        }
        if entry.term < term || entry.term == 0 || entry.term > message.term {
            return Err(Malformed::EntryTerm(entry.index));
        }
        if !is_ours(entry) {
            return Err(Malformed::EntryType(entry.index));
        }
        (index, term) = (entry.index, entry.term);
    }
    // raft-rs counts one past the last entry.
    if index > HIGHEST { Err(Malformed::EntryGap(index)) } else { Ok(()) }
}

/// V1 entries only. What a ConfChange entry holds is checked where it is proposed; one that the
/// cluster has committed is the state machine's to judge.
fn is_ours(entry: &Entry) -> bool {
    entry.entry_type == EntryType::EntryNormal as i32
        || entry.entry_type == EntryType::EntryConfChange as i32
}

fn check_snapshot(message: &Message) -> Result<(), Malformed> {
    let metadata =
        message.snapshot.as_ref().and_then(|snapshot: &Snapshot| snapshot.metadata.as_ref());
    let Some(metadata) = metadata else { return Err(Malformed::BadSnapshot(0, 0)) };
    let in_range = (1..=HIGHEST).contains(&metadata.index);
    if !in_range || metadata.term == 0 || metadata.term > message.term {
        return Err(Malformed::BadSnapshot(metadata.index, metadata.term));
    }
    let state = metadata.get_conf_state();
    if is_plain(state) { Ok(()) } else { Err(Malformed::BadConfState) }
}

/// Whether a conf state is one that V1 changes can lead to: some voters, not joint, no member
/// twice. raft-rs panics while restoring any other.
pub(super) fn is_plain(state: &ConfState) -> bool {
    let mut members: Vec<u64> = state.voters.iter().chain(&state.learners).copied().collect();
    let count = members.len();
    members.sort_unstable();
    members.dedup();
    !state.voters.is_empty()
        && members.len() == count
        && !members.contains(&0)
        && state.voters_outgoing.is_empty()
        && state.learners_next.is_empty()
        && !state.auto_leave
}

impl Core {
    pub(super) fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub(super) fn refuse_if_removed(&self) -> Result<(), Refusal> {
        if self.is_removed() { Err(Refusal::Removed) } else { Ok(()) }
    }

    pub(super) fn check_leads(&self) -> Result<(), Refusal> {
        match self.node.raft.leader_id {
            _ if self.leads() => Ok(()),
            0 => Err(Refusal::NoLeader),
            leader => Err(Refusal::NotLeader { leader }),
        }
    }

    /// Whether this is a leader that may answer reads. Before its first commit it may not know of
    /// what earlier leaders committed, and raft-rs would drop the question.
    pub(super) fn check_leads_surely(&self) -> Result<(), Refusal> {
        self.check_leads()?;
        if self.node.raft.commit_to_current_term() { Ok(()) } else { Err(Refusal::TermUncommitted) }
    }

    /// Whether an election of its own would make raft-rs panic; who leads holds none.
    pub(super) fn must_not_campaign(&self) -> bool {
        !self.leads() && self.is_unready()
    }

    /// Whether an election would make raft-rs panic. One that leads holds one, too, if a message of
    /// a later term asks for it.
    ///
    /// - Between taking a snapshot and having installed it: raft-rs looks for unapplied conf
    ///   changes among entries that the snapshot replaced.
    /// - As the sole voter with entries that are not durable: it wins at once, and asserts that a
    ///   new leader's log is on disk.
    pub(super) fn is_unready(&self) -> bool {
        let raft = &self.node.raft;
        let log = &raft.raft_log;
        let is_installing = log.applied < self.node.store().boundary().index;
        let wins_alone = raft.promotable() && raft.prs().is_singleton();
        is_installing || (wins_alone && log.persisted < log.last_index())
    }

    /// Checks what depends on our log.
    pub(super) fn check_against_log(&self, message: &Message) -> Result<(), Refusal> {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        match message.get_msg_type() {
            MessageType::MsgHeartbeat if message.term >= raft.term && message.commit > last => {
                Err(Refusal::LogLost { commit: message.commit, last })
            }
            MessageType::MsgAppendResponse
                if self.leads()
                    && message.term == raft.term
                    && !message.reject
                    && message.index > last =>
            {
                Err(Malformed::AckBeyondLog(message.index).into())
            }
            // raft-rs believes one that ends where the log is committed, with another term.
            MessageType::MsgSnapshot => {
                let &SnapshotMetadata { index, term, .. } = message.get_snapshot().get_metadata();
                let log = &raft.raft_log;
                let is_denied = index == log.committed && log.term(index) != Ok(term);
                if is_denied { Err(Malformed::BadSnapshot(index, term).into()) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Checks a proposal that another member forwarded. It is for the leader alone: two members
    /// that take each other for the leader would pass it back and forth.
    pub(super) fn check_forwarded(&self, message: &Message) -> Result<(), Refusal> {
        self.check_leads()?;
        if let Some(to) = self.node.raft.lead_transferee {
            return Err(Refusal::Transferring { to });
        }
        match message.entries.iter().find(|entry| conf::is_conf_entry(entry)) {
            Some(entry) => self.check_conf_change(&Change::decode(&entry.data)?),
            None => Ok(()),
        }
    }

    /// Checks a conf change that this leader is about to append. While another is pending raft-rs
    /// would append an empty entry in its place and report success.
    pub(super) fn check_conf_change(&self, change: &Change) -> Result<(), Refusal> {
        let raft = &self.node.raft;
        if raft.has_pending_conf() {
            return Err(Refusal::ConfChangePending);
        }
        if conf::apply(&self.conf_state, change).voters.is_empty() {
            return Err(Refusal::RemovesLastVoter);
        }
        match change.kind {
            Kind::Remove if change.node == raft.id => Err(Refusal::RemovesLeader),
            Kind::AddLearner if self.conf_state.voters.contains(&change.node) => {
                Err(Refusal::DemotesVoter)
            }
            Kind::AddVoter | Kind::Remove | Kind::Update | Kind::AddLearner => Ok(()),
        }
    }

    /// Why raft-rs did not take what the checks let through. What is left is a response from
    /// somebody who is not a member, and a proposal dropped for its size or for want of a leader.
    pub(super) fn explain(&self, error: ::raft::Error, from: u64) -> Refusal {
        match error {
            ::raft::Error::StepPeerNotFound => Refusal::NotMember(from),
            _ if self.leads() => Refusal::Overloaded,
            _ => Refusal::NoLeader,
        }
    }
}
