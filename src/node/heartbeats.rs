//! Heartbeats as this member sends them: late ones tell that it cannot keep up.
//!
//! A leader that says nothing for long loses its followers, whatever the reason: a disk that takes
//! its time, a processor that others have. As in etcd, a heartbeat is late when the last one to the
//! same member is two intervals past.

use std::collections::HashMap;
use std::time::{Duration, Instant};

pub(super) struct Heartbeats {
    apart_max: Duration,
    /// When each member was last sent one.
    sent: HashMap<u64, Instant>,
}

impl Heartbeats {
    pub fn new(interval: Duration) -> Self {
        Self { apart_max: 2 * interval, sent: HashMap::new() }
    }

    /// Notes a heartbeat; by how much it is late, if it is.
    pub fn note(&mut self, to: u64, now: Instant) -> Option<Duration> {
        let before = self.sent.insert(to, now)?;
        let late = now.saturating_duration_since(before).saturating_sub(self.apart_max);
        (!late.is_zero()).then_some(late)
    }

    /// Another leadership begins, or ends.
    pub fn reset(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_late_after_two_intervals() {
        let mut heartbeats = Heartbeats::new(Duration::from_millis(100));
        let start = Instant::now();
        let mut at = |to, millis| heartbeats.note(to, start + Duration::from_millis(millis));
        assert_eq!([at(1, 0), at(2, 50), at(1, 100), at(1, 300)], [None; 4]);
        assert_eq!(at(1, 501), Some(Duration::from_millis(1)));
        assert_eq!(at(2, 551), Some(Duration::from_millis(301)));
        assert_eq!(at(2, 600), None);
        heartbeats.reset();
        assert_eq!(heartbeats.note(2, start + Duration::from_secs(9)), None);
    }
}
