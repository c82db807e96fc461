//! Monotonic time: moments, and milliseconds since the node started; wall clocks may jump, this
//! does not.

use std::time::{Duration, Instant};

/// The moment now. It is tokio's, so that a simulation can hold it still and move it on; what
/// decides anything asks here, only what measures the machine asks the system.
pub(super) fn now() -> Instant {
    let now = tokio::time::Instant::now().into_std();
    #[cfg(debug_assertions)]
    let now = super::sim::shown(now);
    now
}

/// How long ago a moment was.
pub(super) fn since(moment: Instant) -> Duration {
    now().saturating_duration_since(moment)
}

/// The node's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: now() }
    }

    /// When the node started.
    pub(super) fn began(&self) -> Instant {
        self.start
    }

    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        since(self.start).as_millis() as u64
    }
}
