//! The driver's offers to raft: clients' proposals, changes of members, what peers forwarded.

use std::sync::atomic::Ordering;

use super::super::applier;
use super::super::proposals::{Answer, Proposal, Waiting};
use super::Driver;
use crate::error::Error;
use crate::raft::conf::Change;
use crate::raft::{Proposed, Refusal};

impl Driver {
    /// Offers all proposals to raft as one batch.
    pub(super) fn propose(&mut self, mut proposals: Vec<Proposal>) {
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

    pub(super) fn propose_change(&mut self, change: &Change, reply: Answer) {
        match self.parts.core.propose_conf_change(change) {
            Ok(Proposed::Appended { first: index, term }) => {
                self.proposals.wait(Waiting { index, term, request: None, reply });
            }
            Ok(Proposed::Forwarded { .. }) => {
                let _ = self.parts.applier.send(applier::Job::Expect(vec![(change.id, reply)]));
            }
            Err(refusal) => {
                let _ = reply.send(Err(client_error(&refusal)));
            }
        }
    }

    /// Offers again what nobody could take.
    pub(super) fn offer_held(&mut self) {
        if self.proposals.holds() {
            let held = self.proposals.take_held();
            self.propose(held);
        }
        let leader = self.parts.progress.leader.load(Ordering::Acquire);
        let moving = self.parts.core.status().transferee != 0;
        if self.held_messages.is_empty() || leader == 0 || moving {
            return;
        }
        for mut message in std::mem::take(&mut self.held_messages) {
            if leader == self.parts.member_id {
                // It is a leader's guard that refuses it now, if any: nothing is left to try.
                let _ = self.parts.core.step(message);
            } else if leader != message.from {
                // Once: two that take each other for the leader would pass it back and forth.
                message.reject = true;
                message.to = leader;
                self.parts.peers.send(message);
            }
        }
    }
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
        Refusal::ConfChangePending => Error::Unhealthy,
        Refusal::RemovesLastVoter => Error::MemberNotEnoughStarted,
        Refusal::NotVoter(_) => Error::BadLeaderTransferee,
        Refusal::NotMember(_) => Error::MemberNotFound,
        Refusal::RemovesLeader
        | Refusal::DemotesVoter
        | Refusal::Removed
        | Refusal::LogLost { .. }
        | Refusal::BadChange(_)
        | Refusal::Malformed(_) => Error::Stopped,
    }
}
