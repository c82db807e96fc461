//! What may be asked of a core at any time.

use ::raft::{ProgressState, StateRole};

use super::core::Core;
use super::work::Standing;
use ::raft::eraftpb::{ConfState, HardState};

/// A core at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: u64,
    pub standing: Standing,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index that `on_applied` reported.
    pub applied: u64,
    pub first_index: u64,
    pub last_index: u64,
    /// The member that leadership is moving to, or 0.
    pub transferee: u64,
    /// Whether this leader has committed in its term, and so may answer reads.
    pub leads_surely: bool,
    /// Whether this member has been removed since it started.
    pub removed: bool,
}

/// How entries reach a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// One message at a time, until the follower's log is found to agree.
    Probe,
    /// A stream of messages.
    Replicate,
    /// A snapshot is on its way, entries wait for it.
    Snapshot,
}

/// What a leader knows about a member, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub id: u64,
    pub is_learner: bool,
    /// The last index that the member has on disk.
    pub matched: u64,
    pub flow: Flow,
    /// Whether it was heard of since the last quorum check.
    pub is_active: bool,
}

impl Core {
    pub fn status(&self) -> Status {
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader;
        Status {
            id: raft.id,
            standing: self.current_standing(),
            commit: raft.raft_log.committed,
            applied: raft.raft_log.applied,
            first_index: self.node.store().boundary().index + 1,
            last_index: raft.raft_log.last_index(),
            transferee: raft.lead_transferee.unwrap_or(0),
            leads_surely: leads && raft.commit_to_current_term(),
            removed: self.is_removed(),
        }
    }

    /// Term, vote and commit as they are in memory. What is written comes with `Persist`; this is
    /// for a last record when the node stops in good order.
    pub fn hard_state(&self) -> HardState {
        self.node.raft.hard_state()
    }

    /// The members as of the last applied change.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// All members as this leader sees them, by id; nothing unless it leads.
    pub fn progress(&self) -> Vec<Progress> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let learners = raft.prs().conf().learners();
        let mut members: Vec<Progress> = raft
            .prs()
            .iter()
            .map(|(id, progress)| Progress {
                id: *id,
                is_learner: learners.contains(id),
                matched: progress.matched,
                flow: match progress.state {
                    ProgressState::Probe => Flow::Probe,
                    ProgressState::Replicate => Flow::Replicate,
                    ProgressState::Snapshot => Flow::Snapshot,
                },
                is_active: progress.recent_active || *id == raft.id,
            })
            .collect();
        members.sort_unstable_by_key(|progress| progress.id);
        members
    }

    pub(super) fn current_standing(&self) -> Standing {
        let raft = &self.node.raft;
        Standing { role: raft.state.into(), leader: raft.leader_id, term: raft.term }
    }
}
