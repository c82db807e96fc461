//! The pace of a compaction: a bounded step, a pause, the next step.
//!
//! The applier calls [`Progress::step`] between its jobs, so removing a million old rows never
//! stands in front of a write for longer than one step.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Fault;
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
    held: bool,
    waiters: Vec<(i64, oneshot::Sender<()>)>,
}

impl Progress {
    pub fn new(pace: Pace) -> Self {
        Self { pace, next_step: Some(Instant::now()), held: false, waiters: Vec::new() }
    }

    /// Tells `reply` when the compaction at `revision` has removed its rows.
    pub fn wait(&mut self, revision: i64, reply: oneshot::Sender<()>) {
        self.waiters.push((revision, reply));
        self.next_step.get_or_insert_with(Instant::now);
    }

    /// Stops or resumes deletions.
    pub fn hold(&mut self, hold: bool) {
        self.held = hold;
        self.next_step = Some(Instant::now());
    }

    /// When the next step is due, if one is.
    pub fn due_in(&self) -> Option<Duration> {
        let next = self.next_step.filter(|_| !self.held)?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Takes a step if one is due.
    pub fn step(&mut self, machine: &mut Machine) -> Result<(), Fault> {
        if self.held {
            return Ok(());
        }
        if self.next_step.is_none() && machine.store().is_compacting() {
            self.next_step = Some(Instant::now());
        }
        let now = Instant::now();
        if self.next_step.is_none_or(|next| next > now) {
            return Ok(());
        }
        match machine.store_mut().compact_step(self.pace.rows_per_step)? {
            Step::More => self.next_step = Some(now + self.pace.pause),
            Step::Done => {
                self.next_step = None;
                let finished = machine.store().compact_revision();
                let waiting = std::mem::take(&mut self.waiters);
                for (revision, reply) in waiting {
                    if revision <= finished {
                        let _ = reply.send(());
                    } else {
                        self.waiters.push((revision, reply));
                    }
                }
            }
        }
        Ok(())
    }
}
