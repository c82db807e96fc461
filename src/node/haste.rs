//! Haste: when to stand for election after the leader's process died, before any timeout.
//!
//! Everybody who was connected to it notices at the same moment. If all stood at once their votes
//! could split, which costs a whole election timeout; so they stand one after the other, in an
//! order all of them know, each giving those before it the time of a few messages and syncs.
//! Nothing depends on it for safety: PreVote still asks a majority first.

use std::time::{Duration, Instant};

/// How long one candidate is given before the next stands.
const STEP: Duration = Duration::from_millis(60);

#[derive(Default)]
pub(super) struct Haste {
    due: Option<Instant>,
}

impl Haste {
    /// The leader `dead` is gone: plans this member's candidacy by its place among the voters.
    pub fn hurry(&mut self, now: Instant, own: u64, dead: u64, voters: &[u64], tick: Duration) {
        if !voters.contains(&own) {
            return;
        }
        let place = voters.iter().filter(|id| **id != dead && **id < own).count() as u32;
        self.due = Some(now + STEP.min(tick) * place);
    }

    /// There is a leader, or an election under way.
    pub fn rest(&mut self) {
        self.due = None;
    }

    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to stand now; true once.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
}
