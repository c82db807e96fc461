//! The log of clients that were turned away: a line each, until there are too many.
//!
//! A client with the wrong certificate tries again every second or two, and a port scanner never
//! stops. The first lines of a window say what is wrong; the rest is counted and told with the
//! first line of a later window.

use std::fmt::Display;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits;

const WINDOW: Duration = Duration::from_secs(10);

/// Who calls at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Client,
    Peer,
}

/// What was logged lately, and what was not.
pub(super) struct Refusals {
    endpoint: Endpoint,
    window: Mutex<Window>,
}

struct Window {
    began: Instant,
    lines: u32,
    unlogged: u64,
}

impl Refusals {
    pub fn new(endpoint: Endpoint) -> Self {
        let window = Window { began: Instant::now(), lines: 0, unlogged: 0 };
        Self { endpoint, window: Mutex::new(window) }
    }

    /// Tells the log whom the member turned away and why.
    pub fn log(&self, remote_addr: &str, error: &dyn Display) {
        let Some(unlogged) = self.window.lock().admit(Instant::now()) else { return };
        let unlogged = (unlogged > 0).then_some(unlogged);
        match self.endpoint {
            Endpoint::Client => tracing::warn!(
                remote_addr,
                %error,
                unlogged,
                "rejected connection on client endpoint"
            ),
            Endpoint::Peer => tracing::warn!(
                remote_addr,
                %error,
                unlogged,
                "rejected connection on peer endpoint"
            ),
        }
    }
}

impl Window {
    /// Whether a line may be written now, and how many were not before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.began) >= WINDOW {
            (self.began, self.lines) = (now, 0);
        }
        if self.lines >= limits::REFUSAL_LINES_MAX {
            self.unlogged += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_later() {
        let began = Instant::now();
        let mut window = Window { began, lines: 0, unlogged: 0 };
        for _ in 0..limits::REFUSAL_LINES_MAX {
            assert_eq!(window.admit(began), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(window.admit(began + WINDOW / 2), None);
        }
        assert_eq!(window.admit(began + WINDOW), Some(1000));
        assert_eq!(window.admit(began + WINDOW), Some(0));
    }
}
