//! What the applier cannot do alone: changes of members, and states that take ours' place.
//!
//! ```text
//! change of members ─▶ driver ─▶ raft's configuration ─▶ members, and the rest of the batch
//! state ─▶ (checkpoint under way is durable) ─▶ checkpointer ─▶ its engine ─▶ machine, readers
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::vec;

use super::super::membership;
use super::super::proposals::Answer;
use super::super::snapshots::Staged;
use super::super::{checkpointer, compaction, records, watches};
use super::apply::Turn;
use super::{Applier, Committed, Input};
use crate::error::Fault;
use crate::machine::{Applied, Outcome};
use crate::marks::{Mark, mark};
use crate::members;
use crate::planted::{Mistake, planted};
use crate::raft::conf::Change;
use crate::raft::{ConfState, Entry};
use crate::storage::engine::Engine;

/// What must come before the applier goes on.
pub(super) enum Awaited {
    /// What a change of members makes of raft's configuration.
    ConfState(Changing),
    /// The end of the checkpoint under way, which is of the old state and goes into it.
    Checkpoint(Staged),
    /// The same for the rest of a batch: there is no memory for more rows.
    Room(vec::IntoIter<Committed>),
    /// The engine of a received state, in the place of ours.
    Engine(Applied),
}

/// A change of members between the machine and raft.
pub(super) struct Changing {
    index: u64,
    term: u64,
    wanted: members::Change,
    reply: Option<Answer>,
    /// What was committed behind it.
    rest: vec::IntoIter<Committed>,
}

impl Applier {
    /// Judges a change of members: its outcome if it is rejected, else what raft must do first.
    pub(super) fn judge(
        &mut self,
        entry: &Entry,
        mut reply: Option<Answer>,
    ) -> Result<Judged, Fault> {
        let change = Change::decode(&entry.data).map_err(|error| {
            Fault::Broken(format!("log entry {} is not a conf change: {error}", entry.index))
        })?;
        if reply.is_none() {
            reply = self.expected.remove(&change.id);
        }
        let wanted = membership::wanted(&change)?;
        let (index, term) = (entry.index, entry.term);
        if self.parts.machine.check_change(&wanted).is_err() {
            mark(Mark::MemberChangeRejected);
            // Raft hears nothing of it: for raft an entry without effect is one like any other.
            let outcome = self.parts.machine.change_members(index, term, wanted, None);
            return Ok(Judged::Rejected(outcome, reply));
        }
        let _ = self.parts.driver.send(Input::ConfChange { index, change });
        let rest = Vec::new().into_iter();
        Ok(Judged::Accepted(Changing { index, term, wanted, reply, rest }))
    }

    /// Waits for raft with the rest of a batch.
    pub(super) fn await_conf_state(&mut self, changing: Changing, rest: vec::IntoIter<Committed>) {
        self.awaited = Some(Awaited::ConfState(Changing { rest, ..changing }));
    }

    /// Raft has changed its configuration: so do we, and go on with the batch.
    pub(super) fn changed(&mut self, conf_state: ConfState) -> Result<(), Fault> {
        let Some(Awaited::ConfState(changing)) = self.awaited.take() else {
            return Err(Fault::Broken("raft changed its members unasked".into()));
        };
        let Changing { index, term, wanted, reply, rest } = changing;
        let made = records::stored_conf_state(conf_state);
        let outcome = self.parts.machine.change_members(index, term, wanted, Some(made));
        let mut turn = Turn::begin(self.now, rest.len() + 1);
        self.note(&mut turn, index, outcome, reply);
        self.go_on(turn, rest)
    }

    /// Lets a received state take the place of ours: on disk first.
    pub(super) fn install(&mut self, staged: Staged) {
        self.parts.metrics.snapshots.applying.set(1);
        if self.in_flight.is_some() {
            mark(Mark::InstallAwaitedCheckpoint);
            self.awaited = Some(Awaited::Checkpoint(staged));
            return;
        }
        self.awaited = Some(Awaited::Engine(staged.applied));
        let _ = self.parts.checkpointer.send(checkpointer::Job::Install(staged));
    }

    /// Then for readers, then for watchers, who are fed from its history.
    pub(super) fn installed(&mut self, engine: Arc<dyn Engine>) -> Result<(), Fault> {
        let Some(Awaited::Engine(applied)) = self.awaited.take() else {
            return Err(Fault::Broken("a state was installed unasked".into()));
        };
        if self.compaction.due().is_some() {
            mark(Mark::InstalledWhileCompacting);
        }
        self.parts.machine.install(engine)?;
        self.dirty = false;
        self.compaction = compaction::Progress::new(self.parts.pace, self.now);
        self.publish_members();
        self.parts.metrics.snapshots.applying.set(0);
        if !planted(Mistake::InstallUntold) {
            let _ = self.parts.watches.send(watches::Input::Restored);
        }
        self.parts.progress.committed.fetch_max(applied.index, Ordering::SeqCst);
        self.parts.progress.applied.store(applied.index, Ordering::SeqCst);
        let _ = self.parts.driver.send(Input::Applied);
        Ok(())
    }
}

/// What the machine says to a change of members.
pub(super) enum Judged {
    Rejected(Outcome, Option<Answer>),
    Accepted(Changing),
}
