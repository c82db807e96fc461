//! The driver's offers to raft: clients' proposals, changes of members, what peers forwarded.

use super::super::applier;
use super::super::proposals::{Answer, Proposal, Waiting};
use super::Driver;
use crate::error::Error;
use crate::limits;
use crate::marks::{Mark, mark};
use crate::planted::{Mistake, planted};
use crate::raft::conf::Change;
use crate::raft::{
    Entry, EntryType, Flow, Message, MessageType, Proposed, Refusal, Role, Standing,
};

impl Driver {
    /// Offers all proposals to raft as one batch.
    pub(super) fn propose(&mut self, mut proposals: Vec<Proposal>) {
        let of_leaders = proposals.iter().any(|proposal| proposal.reign.is_some());
        if of_leaders && !planted(Mistake::PastReignTaken) {
            proposals = self.without_past_reigns(proposals);
        }
        if self.proposals.holds() {
            // First come, first served.
            let refused = self.proposals.hold(proposals.drain(..));
            self.parts.metrics.proposals_failed.inc_by(refused);
            return;
        }
        if proposals.is_empty() {
            return;
        }
        let payloads = proposals.iter().map(|proposal| proposal.payload.clone()).collect();
        match self.parts.core.propose(payloads) {
            Ok(Proposed::Appended { first, term }) => {
                for (index, proposal) in (first..).zip(proposals) {
                    let Proposal { request, reply, .. } = proposal;
                    let request = Some(request);
                    self.proposals.wait(Waiting { index, term, request, reply });
                }
            }
            Ok(Proposed::Forwarded { .. }) => {
                let expected = proposals.into_iter().map(|one| (one.id(), one.reply)).collect();
                let _ = self.parts.applier.send(applier::Job::Expect(expected));
            }
            Err(refusal) if may_pass(&refusal) => {
                mark(Mark::ProposalHeld);
                let refused = self.proposals.hold(proposals.into_iter());
                self.parts.metrics.proposals_failed.inc_by(refused);
            }
            Err(refusal) => {
                let error = client_error(&refusal);
                self.parts.metrics.proposals_failed.inc_by(proposals.len() as u64);
                for proposal in proposals {
                    let _ = proposal.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Refuses what somebody proposes as the leader of a term that it leads no more.
    fn without_past_reigns(&self, proposals: Vec<Proposal>) -> Vec<Proposal> {
        let Standing { role, term, .. } = self.parts.core.status().standing;
        let reign = (role == Role::Leader).then_some(term);
        let is_past = |one: &Proposal| one.reign.is_some() && one.reign != reign;
        let (past, rest): (Vec<_>, Vec<_>) = proposals.into_iter().partition(is_past);
        for proposal in past {
            mark(Mark::PastReignRefused);
            let _ = proposal.reply.send(Err(Error::NotLeader));
        }
        rest
    }

    pub(super) fn propose_change(&mut self, change: &Change, reply: Answer) {
        match self.parts.core.propose_conf_change(change) {
            Ok(Proposed::Appended { first: index, term }) => {
                self.proposals.wait(Waiting { index, term, request: None, reply });
            }
            Ok(Proposed::Forwarded { .. }) => {
                let _ = self.parts.applier.send(applier::Job::Expect(vec![(change.id, reply)]));
            }
            Err(refusal) => {
                let message = self.as_message(change);
                if self.may_hold(&message, &refusal) {
                    // Whoever appends it, it is known by its id when it is applied.
                    let expected = vec![(change.id, reply)];
                    let _ = self.parts.applier.send(applier::Job::Expect(expected));
                    self.hold(message);
                } else {
                    let _ = reply.send(Err(client_error(&refusal)));
                }
            }
        }
    }

    /// A change of members as it would be forwarded.
    fn as_message(&self, change: &Change) -> Message {
        let entry = Entry {
            entry_type: EntryType::EntryConfChange as i32,
            data: change.encode(),
            ..Entry::default()
        };
        let (from, entries) = (self.parts.member_id, vec![entry]);
        let mut message = Message { from, entries, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message
    }

    /// Whether a forwarded proposal, or a change of members, that was refused may be taken in a
    /// while, here or by another leader. One that removes this leader has it step aside first:
    /// raft-rs would have it lead on, or die.
    pub(super) fn may_hold(&mut self, message: &Message, refusal: &Refusal) -> bool {
        // Handed on before: two that take each other for the leader would go on for ever.
        let is_first = !message.reject;
        match refusal {
            Refusal::ConfChangePending => {
                mark(Mark::MemberChangeQueued);
                true
            }
            Refusal::RemovesLeader => is_first && self.step_aside(),
            Refusal::NoLeader | Refusal::CatchingUp => {
                is_first || message.from == self.parts.member_id
            }
            Refusal::Transferring { .. } | Refusal::NotLeader { .. } => is_first,
            Refusal::Overloaded
            | Refusal::TermUncommitted
            | Refusal::RemovesLastVoter
            | Refusal::NotVoter(_)
            | Refusal::NotMember(_)
            | Refusal::DemotesVoter
            | Refusal::Removed
            | Refusal::LogLost { .. }
            | Refusal::BadChange(_)
            | Refusal::Malformed(_) => false,
        }
    }

    /// Keeps a proposal for whoever leads next, if there is room.
    pub(super) fn hold(&mut self, message: Message) {
        let entries = self.held_messages.iter().flat_map(|held| &held.entries);
        let bytes: usize = entries.map(|entry| entry.data.len()).sum();
        let room = bytes < limits::PROPOSALS_HELD_BYTES_MAX
            && self.held_messages.len() < limits::PROPOSALS_HELD_MAX;
        if room {
            self.held_messages.push(message);
        }
    }

    /// Begins to give leadership to the voter that is closest; whether there is one.
    fn step_aside(&mut self) -> bool {
        let own = self.parts.member_id;
        let members = self.parts.core.progress();
        let could = members.iter().filter(|one| {
            one.id != own && !one.is_learner && one.is_active && one.flow != Flow::Snapshot
        });
        let heir = could.max_by_key(|one| one.matched).map(|one| one.id);
        let moves = heir.is_some_and(|heir| self.parts.core.transfer_leader(heir).is_ok());
        if moves {
            mark(Mark::LeaderSteppedAside);
        }
        moves
    }

    /// Offers again what nobody could take.
    pub(super) fn offer_held(&mut self) {
        if self.proposals.holds() {
            let held = self.proposals.take_held();
            self.propose(held);
        }
        self.hand_on();
    }

    /// Hands on what peers took to this member when it led, as soon as it is known who does.
    ///
    /// Not a tick later: a member that gave leadership away in order to stop has no such time.
    pub(super) fn hand_on(&mut self) {
        let status = self.parts.core.status();
        let (own, leader) = (self.parts.member_id, status.standing.leader);
        if leader == 0 || status.transferee != 0 {
            return;
        }
        let held = std::mem::take(&mut self.held_messages);
        if planted(Mistake::ForwardedTwice) && leader != own {
            self.held_messages.clone_from(&held);
        }
        for message in held {
            if leader != own {
                mark(Mark::HeldProposalForwarded);
                self.parts.peers.send(handed_on(message, own, leader));
                continue;
            }
            match self.offer_message(message.clone()) {
                Ok(()) => mark(Mark::HeldProposalTaken),
                Err(refusal) if self.may_hold(&message, &refusal) => self.hold(message),
                Err(_) => {}
            }
        }
    }

    /// Offers raft, which leads, what was held.
    fn offer_message(&mut self, message: Message) -> Result<(), Refusal> {
        if message.from != self.parts.member_id {
            return self.parts.core.step(message);
        }
        for entry in &message.entries {
            self.parts.core.propose_conf_change(&Change::decode(&entry.data)?)?;
        }
        Ok(())
    }
}

/// A peer's proposal, on its way to who leads now. That may be the peer itself, and raft hears
/// nobody from himself, so it goes in our name: who waits for it knows it by its id.
fn handed_on(mut message: Message, own: u64, leader: u64) -> Message {
    (message.from, message.to) = (own, leader);
    // Once: two that take each other for the leader would pass it back and forth.
    message.reject = true;
    message
}

/// Whether a proposal that was refused may be taken in a while.
fn may_pass(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NoLeader | Refusal::Transferring { .. } | Refusal::CatchingUp)
}

/// What a client is told when raft does not take its proposal.
pub(super) fn client_error(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Overloaded => Error::RequestTooManyRequests,
        Refusal::NoLeader | Refusal::TermUncommitted | Refusal::CatchingUp => Error::NoLeader,
        Refusal::NotLeader { .. } | Refusal::Transferring { .. } => Error::LeaderChanged,
        // A leader that nobody can follow cannot be removed.
        Refusal::ConfChangePending | Refusal::RemovesLeader => Error::Unhealthy,
        Refusal::RemovesLastVoter => Error::MemberNotEnoughStarted,
        Refusal::NotVoter(_) => Error::BadLeaderTransferee,
        Refusal::NotMember(_) => Error::MemberNotFound,
        Refusal::DemotesVoter
        | Refusal::Removed
        | Refusal::LogLost { .. }
        | Refusal::BadChange(_)
        | Refusal::Malformed(_) => Error::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Boot, ConfState, Core, Entry, MessageType, Role, conf};

    /// One of two members, that leads: its only peer votes for it.
    fn leader_of_two() -> Core {
        let founders = [1, 2].map(|id| {
            let member = conf::Context { id, ..conf::Context::default() };
            (id, member.encode())
        });
        let (hard_state, entries) = conf::bootstrap(founders.to_vec());
        let applied = entries.len() as u64;
        let conf_state = ConfState { voters: vec![1, 2], ..ConfState::default() };
        let boot = Boot {
            id: 1,
            applied,
            hard_state,
            conf_state,
            entries,
            seed: 1,
            election_tick: 10,
            heartbeat_tick: 1,
            ..Boot::default()
        };
        let mut core = Core::new(boot).expect("a consistent boot");
        core.campaign().expect("a voter");
        while core.status().standing.role != Role::Leader {
            let work = core.work().expect("an election goes on");
            if let Some(persist) = work.persist {
                core.on_persisted(persist.number);
            }
            for message in work.messages {
                let answer = match message.msg_type() {
                    MessageType::MsgRequestPreVote => MessageType::MsgRequestPreVoteResponse,
                    MessageType::MsgRequestVote => MessageType::MsgRequestVoteResponse,
                    _ => continue,
                };
                let mut vote = Message { from: 2, to: 1, term: message.term, ..Message::default() };
                vote.set_msg_type(answer);
                core.step(vote).expect("a vote");
            }
        }
        core
    }

    /// While leadership moves from 2 to 1, 2 holds what 1 has forwarded to it.
    #[test]
    fn a_new_leader_takes_back_what_it_forwarded() {
        let mut core = leader_of_two();
        let last = core.status().last_index;
        let entries = vec![Entry { data: "a".into(), ..Entry::default() }];
        let mut held = Message { from: 1, to: 2, entries, ..Message::default() };
        held.set_msg_type(MessageType::MsgPropose);
        core.step(handed_on(held, 2, 1)).expect("a proposal for its leader");
        assert_eq!(core.status().last_index, last + 1);
    }
}
