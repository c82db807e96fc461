//! Request and lease ids: unique in the cluster, decided before a command is proposed.
//!
//! ```text
//! request id   member (16 bits) │ milliseconds at start (40) │ count (8, carries upwards)
//! ```
//!
//! The count starts behind the clock, so ids of a restarted member do not repeat unless it served
//! 256 requests in every millisecond it was up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of ids.
#[derive(Debug)]
pub(super) struct Ids {
    prefix: u64,
    next: AtomicU64,
}

impl Ids {
    /// Ids of one run of one member.
    pub fn new(member_id: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = ((now.as_millis() as u64) << 8) & ((1 << 48) - 1);
        Self { prefix: member_id << 48, next: AtomicU64::new(start) }
    }

    /// The next request id; never 0.
    pub fn request(&self) -> u64 {
        let count = self.next.fetch_add(1, Ordering::Relaxed) & ((1 << 48) - 1);
        (self.prefix | count).max(1)
    }

    /// A random positive lease id.
    pub fn lease(&self) -> i64 {
        loop {
            let id = (rand::random::<u64>() >> 1) as i64;
            if id != 0 {
                return id;
            }
        }
    }
}
