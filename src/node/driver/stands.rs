//! The driver and leadership: taking it up, losing it, noticing that nobody has it.

use std::sync::atomic::Ordering;

use super::Driver;
use crate::marks::{Mark, mark};
use crate::raft::{Role, Standing};

impl Driver {
    /// Takes up a new role, or learns of another leader.
    pub(super) fn stand(&mut self, standing: Standing) {
        let progress = self.parts.progress.clone();
        let leads = standing.role == Role::Leader;
        if standing.leader == 0 && progress.leader.load(Ordering::Acquire) != 0 {
            progress.leaderless_ms.store(self.parts.clock.now_ms(), Ordering::Release);
        }
        let before = progress.leader.swap(standing.leader, Ordering::AcqRel);
        if before != standing.leader && standing.leader != 0 {
            self.parts.metrics.leader_changes.inc();
            progress.elected_ms.store(self.parts.clock.now_ms(), Ordering::Release);
        }
        self.heartbeats.reset();
        progress.term.store(standing.term, Ordering::Release);
        self.opening = leads.then(|| self.parts.core.status().last_index);
        progress.read_open.store(false, Ordering::Release);
        tracing::info!(
            role = ?standing.role,
            term = standing.term,
            leader = format!("{:x}", standing.leader),
            "raft role changed"
        );
        if before == self.parts.member_id && !leads {
            if standing.leader == 0 {
                mark(Mark::LeaderUnseated);
            }
            // Who asked puts them to the next leader.
            self.held_questions.clear();
            self.parts.deadlines.lock().demote();
        }
        if standing.leader != 0 {
            self.haste.rest();
        }
        let _ = self.parts.duties.send(());
        self.await_applied();
        self.offer_held();
    }

    /// A tick has passed: if this member has just begun, and nobody leads, it stands soon.
    pub(super) fn stand_at_start(&mut self) {
        let (own, tick) = (self.parts.member_id, self.parts.tick);
        let conf = self.parts.core.conf_state();
        let is_up = |id| self.parts.peers.active_since(id).is_some();
        if self.haste.tick(self.now, own, &conf.voters, tick, is_up) {
            mark(Mark::NobodyLedAtStart);
        }
    }

    /// A peer is gone, it seems. If it led, somebody must take over, and soon.
    pub(super) fn disconnected(&mut self, id: u64) {
        if id != self.parts.progress.leader.load(Ordering::Acquire) {
            return;
        }
        tracing::info!(leader = format!("{id:x}"), "the leader's connections closed");
        self.parts.core.lose_leader(id);
        let conf = self.parts.core.conf_state();
        self.haste.hurry(self.now, self.parts.member_id, id, &conf.voters, self.parts.tick);
    }
}
