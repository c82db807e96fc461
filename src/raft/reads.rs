//! The linearizable reads that wait for an index.
//!
//! - Every question is new: a leader keys pending reads by their context, so two alike would become
//!   one and the second would never be answered. The context names the member, the run and the
//!   read.
//! - An answer counts only under the (term, leader) that was asked. A question whose leader is gone
//!   is reported lost, so that its readers need not wait for a timeout.

use std::collections::BTreeMap;

use ::raft::ReadState;

use super::work::ReadId;
use crate::planted::{Mistake, planted};

/// A term and its leader.
pub(super) type Reign = (u64, u64);

pub(super) struct Reads {
    member: u64,
    /// Tells this run of the member from earlier ones, whose questions may still travel.
    run: u64,
    next: u64,
    asked: BTreeMap<ReadId, Reign>,
}

impl Reads {
    pub fn new(member: u64, run: u64) -> Reads {
        Reads { member, run, next: 0, asked: BTreeMap::new() }
    }

    /// A new question, and the context that identifies it on the leader.
    pub fn ask(&mut self, of: Reign) -> (ReadId, Vec<u8>) {
        let id = ReadId(self.next);
        if !planted(Mistake::ReadIdReused) {
            self.next += 1;
        }
        self.asked.insert(id, of);
        (id, self.context(id))
    }

    /// The question that an answer belongs to and the index to read at, if the answer counts.
    pub fn answer(&mut self, answer: &ReadState, now: Reign) -> Option<(ReadId, u64)> {
        let number = answer.request_ctx.last_chunk()?;
        let id = ReadId(u64::from_be_bytes(*number));
        let is_live = self.asked.get(&id) == Some(&now);
        let is_live = is_live || planted(Mistake::ReadIdReused) && self.asked.contains_key(&id);
        if answer.request_ctx != self.context(id) || !is_live {
            return None;
        }
        self.asked.remove(&id);
        Some((id, answer.index))
    }

    /// Gives up the questions that were not asked of the present leader; all of them without one.
    pub fn give_up(&mut self, now: Option<Reign>) -> Vec<ReadId> {
        let mut lost = Vec::new();
        self.asked.retain(|id, of| {
            let is_live = Some(*of) == now;
            if !is_live {
                lost.push(*id);
            }
            is_live
        });
        lost
    }

    fn context(&self, id: ReadId) -> Vec<u8> {
        [self.member, self.run, id.0].map(u64::to_be_bytes).concat()
    }
}
