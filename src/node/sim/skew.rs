//! A simulated member's clock, which runs faster or slower than the world's.
//!
//! Whoever lets a member do something says first by whose clock: [`keep_time`]. What the member
//! then asks [`super::super::clock`] is its own time; when it wants to be woken is told in the
//! world's, by [`Skew::in_world`].
//!
//! Deliberately absent: timers of tokio within a member, which run by the world's clock.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How a clock differs from the world's.
#[derive(Clone, Copy, Debug)]
pub struct Skew {
    /// When both showed the same.
    pub since: Instant,
    /// By how many millionths it runs faster; slower, if negative.
    pub ppm: i64,
}

const MILLION: u128 = 1_000_000;

impl Skew {
    fn rate(self) -> u128 {
        // A clock that stands still, or runs back, is no monotonic clock.
        u128::try_from(1_000_000 + self.ppm).unwrap_or(1).max(1)
    }

    /// What the clock shows at a moment of the world's time.
    pub fn shown(self, world: Instant) -> Instant {
        let passed = world.saturating_duration_since(self.since).as_nanos();
        self.since + nanos(passed * self.rate() / MILLION)
    }

    /// When, in the world's time, the clock shows at least this.
    pub fn in_world(self, shown: Instant) -> Instant {
        let passed = shown.saturating_duration_since(self.since).as_nanos();
        self.since + nanos((passed * MILLION).div_ceil(self.rate()))
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

thread_local! {
    static KEPT: Cell<Option<Skew>> = const { Cell::new(None) };
}

/// From here on this thread asks by this clock; by the world's, if there is none.
pub fn keep_time(skew: Option<Skew>) {
    KEPT.set(skew);
}

/// What the clock that is kept shows at a moment of the world's time.
pub(in crate::node) fn shown(world: Instant) -> Instant {
    KEPT.get().map_or(world, |skew| skew.shown(world))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_both_ways() {
        let since = Instant::now();
        for ppm in [-100_000, -1, 0, 1, 37, 100_000] {
            let skew = Skew { since, ppm };
            for us in [0, 1, 999, 1_000_001, 86_400_000_000] {
                let world = since + Duration::from_micros(us);
                let back = skew.in_world(skew.shown(world));
                assert!(back <= world, "{ppm} ppm, {us} us");
                assert!(skew.shown(back) == skew.shown(world), "{ppm} ppm, {us} us");
            }
        }
        let fast = Skew { since, ppm: 100_000 };
        assert_eq!(fast.shown(since + Duration::from_secs(10)), since + Duration::from_secs(11));
        assert_eq!(fast.in_world(since + Duration::from_secs(11)), since + Duration::from_secs(10));
    }
}
