//! Proposals between their clients and the log: held, waiting, lost.
//!
//! - *Held*: nobody can take them now, for want of a leader or while leadership moves. They are
//!   offered again when that changes; their clients wait no longer than they would anyway.
//! - *Waiting*: in the log of this leader, under the index raft gave them. If another term's entry
//!   is committed there, or this member leads again and gives the index anew, the proposal is lost
//!   and its client told to ask again.
//! - Forwarded to the leader: the applier knows them by their id when they come back.
//!
//! A held proposal has been offered to nobody, so it cannot take effect twice.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::limits;
use crate::machine::Reply;
use crate::marks::{Mark, mark};
use crate::pb::InternalRaftRequest;

pub(super) type Answer = oneshot::Sender<Result<Reply, Error>>;

/// A command on its way through the log, with whoever waits for it.
pub(super) struct Proposal {
    /// The encoded request, as the log keeps it.
    pub payload: Bytes,
    /// The same request, so that the member that proposed it need not decode it.
    pub request: InternalRaftRequest,
    pub reply: Answer,
    /// The term as whose leader this member proposes it, if it may not as anybody else.
    pub reign: Option<u64>,
}

impl Proposal {
    /// The id by which the member that proposed it finds it again.
    pub fn id(&self) -> u64 {
        self.request.header.as_ref().map_or(0, |header| header.id)
    }
}

/// An entry of this leader's log with a client that waits for its commit.
pub(super) struct Waiting {
    pub index: u64,
    pub term: u64,
    /// Absent for a change of members, which is no command.
    pub request: Option<InternalRaftRequest>,
    pub reply: Answer,
}

/// What became of a committed entry's client.
pub(super) enum Claim {
    Nobody,
    Client(Option<InternalRaftRequest>, Answer),
}

#[derive(Default)]
pub(super) struct Proposals {
    held: Vec<Proposal>,
    held_bytes: usize,
    /// By index.
    waiting: VecDeque<Waiting>,
}

impl Proposals {
    /// Keeps proposals for later; those there is no room for are refused. Returns how many.
    pub fn hold(&mut self, proposals: impl Iterator<Item = Proposal>) -> u64 {
        let mut refused = 0;
        for proposal in proposals {
            let bytes = self.held_bytes + proposal.payload.len();
            if bytes > limits::PROPOSALS_HELD_BYTES_MAX
                || self.held.len() >= limits::PROPOSALS_HELD_MAX
            {
                refused += 1;
                let _ = proposal.reply.send(Err(Error::RequestTooManyRequests));
            } else {
                self.held_bytes = bytes;
                self.held.push(proposal);
            }
        }
        refused
    }

    /// The held proposals whose clients still wait, to be offered again.
    pub fn take_held(&mut self) -> Vec<Proposal> {
        self.held_bytes = 0;
        self.held.retain(|proposal| !proposal.reply.is_closed());
        std::mem::take(&mut self.held)
    }

    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Has a client wait for what raft has just appended to this leader's log.
    pub fn wait(&mut self, waiting: Waiting) {
        // What stood here and behind in an earlier reign, none of it committed, is gone.
        while self.waiting.back().is_some_and(|last| last.index >= waiting.index) {
            let last = self.waiting.pop_back();
            Self::lose(last.expect("the back was just seen"));
        }
        self.waiting.push_back(waiting);
    }

    /// The client of a committed entry, which is the next of all.
    pub fn claim(&mut self, index: u64, term: u64) -> Claim {
        while self.waiting.front().is_some_and(|waiting| waiting.index < index) {
            self.lose_first();
        }
        match self.waiting.front() {
            Some(front) if front.index == index && front.term == term => {
                let waiting = self.waiting.pop_front().expect("the front was just seen");
                Claim::Client(waiting.request, waiting.reply)
            }
            Some(front) if front.index == index => {
                self.lose_first();
                Claim::Nobody
            }
            Some(_) | None => Claim::Nobody,
        }
    }

    /// Nobody will say any more what became of entries up to here: a snapshot stands for them.
    pub fn overtaken(&mut self, index: u64) {
        while self.waiting.front().is_some_and(|waiting| waiting.index <= index) {
            self.lose_first();
        }
    }

    /// Forgets the proposals of a leader that is none any more whose clients have gone. Others'
    /// entries may stand in their places, and none may ever follow by which that would be seen.
    pub fn forget_gone(&mut self) {
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
    }

    fn lose_first(&mut self) {
        self.waiting.pop_front().into_iter().for_each(Self::lose);
    }

    fn lose(waiting: Waiting) {
        mark(Mark::ProposalLost);
        let _ = waiting.reply.send(Err(Error::TimeoutDueToLeaderFail));
    }

    /// How many are held, and their bytes.
    #[cfg(debug_assertions)]
    pub fn held(&self) -> (usize, usize) {
        (self.held.len(), self.held_bytes)
    }

    pub fn pending(&self) -> u64 {
        (self.waiting.len() + self.held.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(
        proposals: &mut Proposals,
        index: u64,
        term: u64,
    ) -> oneshot::Receiver<Result<Reply, Error>> {
        let (reply, answer) = oneshot::channel();
        proposals.wait(Waiting { index, term, request: None, reply });
        answer
    }

    #[test]
    fn what_an_earlier_reign_left_hides_nobody() {
        let mut proposals = Proposals::default();
        let mut kept = wait(&mut proposals, 6, 13);
        let mut lost = [7, 8, 9].map(|index| wait(&mut proposals, index, 13));
        // Another leader had its entry at 7; this member leads again and goes on behind that.
        let mut answer = wait(&mut proposals, 8, 15);
        assert!(matches!(lost[1].try_recv(), Ok(Err(Error::TimeoutDueToLeaderFail))));
        assert!(matches!(lost[2].try_recv(), Ok(Err(Error::TimeoutDueToLeaderFail))));
        assert!(matches!(proposals.claim(6, 13), Claim::Client(..)));
        assert!(kept.try_recv().is_err(), "it is answered by whoever claimed it");
        assert!(matches!(proposals.claim(7, 14), Claim::Nobody));
        assert!(matches!(lost[0].try_recv(), Ok(Err(Error::TimeoutDueToLeaderFail))));
        let Claim::Client(_, reply) = proposals.claim(8, 15) else { panic!("8 is this reign's") };
        reply.send(Err(Error::Stopped)).expect("its client waits");
        assert!(matches!(answer.try_recv(), Ok(Err(Error::Stopped))));
        assert_eq!(proposals.pending(), 0);
    }
}
