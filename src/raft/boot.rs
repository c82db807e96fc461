//! Where a core begins: what recovery found, checked before raft-rs believes it.
//!
//! - The state machine and the log overlap: `boundary <= applied <= last`. A hole between them is
//!   a lost disk or a lost file, and the node must not start over it.
//! - The hard state is never behind what is known otherwise. Its commit may be, since a commit
//!   alone is not written, so the larger of commit and applied counts.

use ::raft::eraftpb::{ConfState, Entry, HardState};

use super::guard;
use super::log::{Boundary, Log};
use crate::error::Fault;

/// What a core is built from. A founding member takes `hard_state` and `entries` from
/// [`super::conf::bootstrap`]; a member that joins a running cluster has neither.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// The member's id, never 0 and never used again after its removal.
    pub id: u64,
    /// The last index that the state machine holds durably.
    pub applied: u64,
    pub hard_state: HardState,
    /// As of `applied`, stored with it.
    pub conf_state: ConfState,
    /// All that the WAL holds beyond `boundary`.
    pub entries: Vec<Entry>,
    /// The entry before the first of `entries`.
    pub boundary: Boundary,
    /// Decides election timeouts by lot, and tells the reads of this run from those of others: it
    /// must differ from member to member and from start to start.
    pub seed: u64,
    /// Ticks without a leader before an election, at the least; the timeout lies between one and
    /// two times as many.
    pub election_tick: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_tick: usize,
    /// Do without asking whether an election could be won before it begins.
    pub no_pre_vote: bool,
}

/// The log of a member that starts again.
pub(super) fn recover(boot: Boot) -> Result<Log, Fault> {
    let Boundary { index: first_known, term: first_term } = boot.boundary;
    let (mut index, mut term) = (first_known, first_term);
    for entry in &boot.entries {
        if entry.index != index + 1 || entry.term < term {
            return broken(format!(
                "entry {} of term {} follows entry {index} of term {term}",
                entry.index, entry.term
            ));
        }
        (index, term) = (entry.index, entry.term);
    }
    let mut hard_state = boot.hard_state;
    if boot.applied < first_known {
        let applied = boot.applied;
        return broken(format!("the state ends at {applied}, the log begins after {first_known}"));
    }
    if boot.applied > index || hard_state.commit > index {
        let (applied, commit) = (boot.applied, hard_state.commit);
        return Err(Fault::Forgotten(format!(
            "the log ends at {index}, but {applied} is applied and {commit} committed"
        )));
    }
    if hard_state.term < term {
        return broken(format!("the log reached term {term}, the hard state {}", hard_state.term));
    }
    if boot.conf_state != ConfState::default() && !guard::is_plain(&boot.conf_state) {
        return broken(format!("conf state {:?} cannot come about", boot.conf_state));
    }
    hard_state.commit = hard_state.commit.max(boot.applied);
    Ok(Log::new(boot.boundary, boot.entries, hard_state, boot.conf_state, boot.applied))
}

fn broken<T>(what: String) -> Result<T, Fault> {
    Err(Fault::Broken(what))
}
