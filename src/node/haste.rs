//! Haste: when to stand for election before any timeout.
//!
//! - The leader's process died: everybody who was connected to it notices at the same moment.
//! - Members have just begun, all of them after a power cut, and nobody leads: once a majority is
//!   connected, a leader that there is would be heard within a few heartbeats.
//!
//! If all stood at once their votes could split, which costs a whole election timeout; so they
//! stand one after the other, in an order all of them know, each giving those before it the time of
//! a few messages and syncs. Nothing depends on it for safety: PreVote still asks a majority first.

use std::time::{Duration, Instant};

/// How long one candidate is given before the next stands.
const STEP: Duration = Duration::from_millis(60);

/// For how many ticks a majority must be connected, and no leader heard.
const SILENT_TICKS: u32 = 3;

pub(super) struct Haste {
    due: Option<Instant>,
    /// Of a member that has just begun: for how many ticks it was so.
    silent: Option<u32>,
}

impl Haste {
    /// Of a member that begins, and may stand if nobody leads.
    pub fn new(stands_at_start: bool) -> Self {
        Self { due: None, silent: stands_at_start.then_some(0) }
    }

    /// A tick has passed. If nobody has led since this member began, its candidacy is planned as
    /// soon as that is sure; whether it was just now.
    pub fn tick(
        &mut self,
        now: Instant,
        own: u64,
        voters: &[u64],
        tick: Duration,
        is_up: impl Fn(u64) -> bool,
    ) -> bool {
        let Some(silent) = self.silent else { return false };
        let there = voters.iter().filter(|id| **id == own || is_up(**id)).count();
        let silent = if there * 2 > voters.len() { silent + 1 } else { 0 };
        self.silent = (silent <= SILENT_TICKS).then_some(silent);
        if self.silent.is_none() {
            self.hurry(now, own, 0, voters, tick);
        }
        self.silent.is_none()
    }

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
        (self.due, self.silent) = (None, None);
    }

    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to stand now; true once.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// Ticks until `own` plans to stand, at most 20, with others that come at a tick.
    fn planned(own: u64, voters: &[u64], comes_at: impl Fn(u64) -> u32) -> Option<(u32, Duration)> {
        let (mut haste, began) = (Haste::new(true), Instant::now());
        (1..=20).find_map(|number| {
            let now = began + TICK * number;
            let planned = haste.tick(now, own, voters, TICK, |id| number >= comes_at(id));
            planned.then(|| (number, haste.due().map_or(Duration::MAX, |due| due - now)))
        })
    }

    #[test]
    fn who_begins_stands_when_a_majority_is_silent() {
        let ticks = SILENT_TICKS + 1;
        assert_eq!(planned(1, &[1, 2, 3], |_| 1), Some((ticks, Duration::ZERO)));
        assert_eq!(planned(3, &[1, 2, 3], |_| 1), Some((ticks, STEP * 2)));
        assert_eq!(
            planned(1, &[1, 2, 3], |id| if id == 2 { 5 } else { 99 }),
            Some((4 + ticks, Duration::ZERO))
        );
        assert_eq!(planned(1, &[1, 2, 3, 4], |id| if id == 2 { 1 } else { 99 }), None);
        assert_eq!(planned(4, &[1, 2, 3], |_| 1), Some((ticks, Duration::MAX)), "a learner");
    }

    #[test]
    fn who_has_heard_a_leader_waits_for_its_end() {
        let (mut haste, now) = (Haste::new(true), Instant::now());
        haste.rest();
        assert!(!Haste::new(false).tick(now, 1, &[1], TICK, |_| true));
        assert!((0..20).all(|_| !haste.tick(now, 1, &[1, 2, 3], TICK, |_| true)));
        haste.hurry(now, 2, 1, &[1, 2, 3], TICK);
        assert!(haste.is_due(now) && !haste.is_due(now));
    }
}
