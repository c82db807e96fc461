//! Request and lease ids: unique in the cluster, decided before a command is proposed.
//!
//! ```text
//! request id   member (16 bits) │ milliseconds at start (40) │ count (8, carries upwards)
//! ```
//!
//! The count starts behind the clock, so ids of a restarted member do not repeat unless it served
//! 256 requests in every millisecond it was up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::raft;

/// A source of ids.
#[derive(Debug)]
pub(super) struct Ids {
    prefix: u64,
    next: AtomicU64,
    leases: AtomicU64,
}

/// What spreads the numbers of a row (splitmix64).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Ids {
    /// Ids of one run of one member, which began at `wall_ms` and has a `seed` like no other.
    pub fn new(member_id: u64, wall_ms: u64, seed: u64) -> Self {
        let start = (wall_ms << 8) & ((1 << 48) - 1);
        let (next, leases) = (AtomicU64::new(start), AtomicU64::new(seed));
        Self { prefix: member_id << 48, next, leases }
    }

    /// The next request id; never 0.
    pub fn request(&self) -> u64 {
        let count = self.next.fetch_add(1, Ordering::Relaxed) & ((1 << 48) - 1);
        (self.prefix | count).max(1)
    }

    /// A random positive lease id.
    pub fn lease(&self) -> i64 {
        loop {
            let number = self.leases.fetch_add(GOLDEN, Ordering::Relaxed);
            let id = (raft::scramble(number) >> 1) as i64;
            if id != 0 {
                return id;
            }
        }
    }
}
