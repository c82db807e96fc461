//! The absence of a leader, for clients that asked to be told of it.
//!
//! An election costs a moment in which nobody leads; whoever watches need not hear of that. After
//! three election timeouts, as in etcd, it is more than an election.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How many election timeouts without a leader are told.
const PATIENCE: u32 = 3;

pub(super) struct Missing {
    patience: Duration,
    since: Option<Instant>,
    told: bool,
    losses: watch::Sender<u64>,
}

impl Missing {
    pub fn new(election_timeout: Duration, losses: watch::Sender<u64>) -> Self {
        Self { patience: PATIENCE * election_timeout, since: None, told: false, losses }
    }

    /// Looks whether there is a leader; called with every tick.
    pub fn look(&mut self, has_leader: bool, now: Instant) {
        if has_leader {
            (self.since, self.told) = (None, false);
            return;
        }
        let since = *self.since.get_or_insert(now);
        if !self.told && now.saturating_duration_since(since) >= self.patience {
            self.told = true;
            self.losses.send_modify(|losses| *losses += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_absence_is_told_once() {
        let (losses, told) = watch::channel(0);
        let mut missing = Missing::new(Duration::from_secs(1), losses);
        let start = Instant::now();
        let mut after = |millis, has_leader| {
            missing.look(has_leader, start + Duration::from_millis(millis));
            *told.borrow()
        };
        assert_eq!([after(0, true), after(100, false), after(3000, false)], [0, 0, 0]);
        assert_eq!([after(3100, false), after(9000, false)], [1, 1]);
        assert_eq!([after(9100, true), after(9200, false), after(12200, false)], [1, 1, 2]);
    }
}
