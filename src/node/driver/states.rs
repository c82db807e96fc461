//! The driver and whole states: sending ours to who lags, installing a leader's.
//!
//! ```text
//! received ─▶ staged ─▶ raft wants it ─▶ log says so, durably ─▶ takes ours' place ─▶ raft is told
//! ```
//!
//! Until raft is told, it is told of no later write either: reports are in order.

use std::time::Duration;

use super::super::applier;
use super::super::snapshots::Staged;
use super::Driver;
use crate::error::Fault;
use crate::marks::{Mark, mark};
use crate::planted::{Mistake, planted};
use crate::raft::{Message, MessageType};

/// How long after a state was not taken another one is sent.
const SENDING_PAUSE: Duration = Duration::from_secs(2);

/// A received state on its way to become ours.
pub(super) struct Installing {
    pub index: u64,
    /// The write that puts it into the log.
    pub number: u64,
    /// It, until the log has it.
    pub staged: Option<Staged>,
    /// The newest write that is on disk and not reported, because this one is not complete.
    pub persisted: u64,
}

impl Driver {
    /// Offers raft the state that was received; [`Driver::persist`] takes it if raft wants it.
    pub(super) fn snapshot(&mut self, message: Message, staged: Staged) -> Result<(), Fault> {
        self.staged = Some(staged);
        self.step(message)
    }

    /// Hears a peer that sends no state with its message. Raft would want the one that a snapshot
    /// stands for, and nobody has it.
    pub(super) fn hear(&mut self, message: Message) -> Result<(), Fault> {
        if message.msg_type() == MessageType::MsgSnapshot {
            let from = format!("{:x}", message.from);
            tracing::debug!(from, "a snapshot that comes without its state is refused");
            return Ok(());
        }
        self.step(message)
    }

    pub(super) fn send(&mut self, message: Message) {
        if message.msg_type() == MessageType::MsgHeartbeat
            && let Some(late) = self.heartbeats.note(message.to, self.now)
        {
            self.parts.metrics.heartbeats_late.inc();
            let to = format!("{:x}", message.to);
            tracing::warn!(to, ?late, "a heartbeat is late; this member may be overloaded");
        }
        if message.msg_type() != MessageType::MsgSnapshot {
            self.parts.peers.send(message);
            return;
        }
        let (to, index) = (message.to, message.get_snapshot().get_metadata().index);
        tracing::info!(to = format!("{to:x}"), index, "sending a snapshot");
        self.sending.began(to, index);
        self.parts.snapshots.begin(message, self.parts.peers.clone());
    }

    /// Notes how sending a state ended. Who took none is sent another after a pause: its disk may
    /// be full, and a state is much to send in vain.
    pub(super) fn snapshot_sent(&mut self, to: u64, arrived: bool) {
        self.sending.ended(to, arrived);
        if arrived {
            self.parts.core.report_snapshot(to, true);
        } else if !planted(Mistake::SnapshotNeverAgain) {
            self.refused.push((self.now + SENDING_PAUSE, to));
        }
    }

    /// Lets raft send states again to those that took none a while ago.
    pub(super) fn send_states_again(&mut self) {
        let (core, now) = (&mut self.parts.core, self.now);
        self.refused.retain(|(due, to)| {
            let waits = *due > now;
            if !waits {
                mark(Mark::SnapshotSentAgain);
                core.report_snapshot(*to, false);
            }
            waits
        });
    }

    /// Takes the received state as the one that raft wants installed.
    pub(super) fn install(&mut self, number: u64, index: u64) -> Result<(), Fault> {
        let staged = self.staged.take().filter(|staged| staged.applied.index == index);
        let Some(staged) = staged else {
            return Err(Fault::Broken(format!(
                "raft wants a snapshot at {index} that nobody sent"
            )));
        };
        self.installing = Some(Installing { index, number, staged: Some(staged), persisted: 0 });
        self.await_applied();
        Ok(())
    }

    /// Notes that a write is durable, unless a state is being installed: raft must not hear of
    /// anything after that before it is complete.
    pub(super) fn persisted(&mut self, number: u64) {
        self.parts.log.persisted(number);
        match &mut self.installing {
            Some(installing) if number >= installing.number => {
                installing.persisted = number;
                if let Some(staged) = installing.staged.take() {
                    let _ = self.parts.applier.send(applier::Job::Install(staged));
                }
            }
            Some(_) | None => self.parts.core.on_persisted(number),
        }
    }
}
