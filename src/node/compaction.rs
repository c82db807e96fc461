//! The pace of a compaction: a bounded step, a pause, the next step.
//!
//! The applier calls [`Progress::step`] between its jobs, so removing a million old rows never
//! stands in front of a write for longer than one step.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::machine::Machine;
use crate::mvcc::Step;

/// How much at a time, and how long between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub rows_per_step: usize,
    pub pause: Duration,
}

/// A compaction's progress and who waits for its end.
pub(super) struct Progress {
    pace: Pace,
    next_step: Option<Instant>,
    /// Whether a compaction was accepted since the last one ended. Not so at the start: what is
    /// taken up then has been accepted before.
    begun: bool,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Progress {
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, next_step: Some(now), begun: false, waiters: Vec::new() }
    }

    /// A compaction was accepted: its first step is due.
    pub fn begin(&mut self, now: Instant) {
        self.begun = true;
        self.next_step = Some(now);
    }

    /// Tells `reply` when every compaction accepted so far has removed its rows.
    pub fn wait(&mut self, reply: oneshot::Sender<()>, now: Instant) {
        self.waiters.push(reply);
        self.next_step = Some(now);
    }

    /// When the next step is due, if one is.
    pub fn due(&self) -> Option<Instant> {
        self.next_step
    }

    /// Takes a step if one is due; says whether it was the last of a compaction.
    pub fn step(&mut self, machine: &mut Machine, now: Instant) -> bool {
        if self.next_step.is_none_or(|next| next > now) {
            return false;
        }
        match machine.store_mut().compact_step(self.pace.rows_per_step) {
            // What it waits for is a checkpoint or a hash, and neither takes long.
            Step::More | Step::Waiting => {
                self.next_step = Some(now + self.pace.pause);
                false
            }
            Step::Done => {
                self.next_step = None;
                for reply in self.waiters.drain(..) {
                    let _ = reply.send(());
                }
                std::mem::take(&mut self.begun)
            }
        }
    }
}
