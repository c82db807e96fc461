//! One stream: its watchers by id, and how much of its queue is taken up.
//!
//! The hub knows only what it sent and what the edge says it took, so it believes the queue fuller
//! than it is, by at most what the edge may leave unsaid. A response of any size is queued while
//! the queue is below its bounds; so an emptied queue always has room again once the edge has
//! reported, and a large revision cannot block a stream forever.

use std::collections::BTreeMap;

use super::delivery::{StreamId, Taken};
use super::limits::Limits;

/// A watch stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub id: StreamId,
    /// Watchers' numbers by watch id.
    pub watchers: BTreeMap<i64, usize>,
    /// Watchers that wait for room, in the order they came.
    pub parked: BTreeMap<u64, usize>,
    /// A manual progress request to be answered when the hub reaches this revision.
    pub progress_due: Option<i64>,
    /// When the periodic progress is due, and how long after the last.
    pub tick_at_ms: u64,
    pub tick_every_ms: u64,
    next_id: i64,
    sent: Taken,
    taken: Taken,
}

impl Stream {
    /// A stream without watchers, opened at `now_ms`.
    pub fn new(id: StreamId, now_ms: u64, limits: &Limits) -> Self {
        let every = limits.progress_interval_ms + jitter(id, limits.progress_interval_ms / 10);
        Self {
            id,
            watchers: BTreeMap::new(),
            parked: BTreeMap::new(),
            progress_due: None,
            tick_at_ms: now_ms.saturating_add(every),
            tick_every_ms: every.max(1),
            next_id: 0,
            sent: Taken::default(),
            taken: Taken::default(),
        }
    }

    /// The lowest id never given automatically and not in use.
    pub fn automatic_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Whether a response may be queued.
    pub fn has_room(&self, limits: &Limits) -> bool {
        self.responses() < limits.stream_responses as u64
            && self.sent.bytes - self.taken.bytes < limits.stream_bytes as u64
    }

    /// Responses believed to be queued.
    pub fn responses(&self) -> u64 {
        self.sent.responses - self.taken.responses
    }

    /// Counts a response as queued.
    pub fn queued(&mut self, bytes: usize) {
        self.sent.responses += 1;
        self.sent.bytes += bytes as u64;
    }

    /// Learns what the edge has taken since the stream was opened.
    pub fn took(&mut self, taken: Taken) {
        assert!(taken.responses <= self.sent.responses, "taken only what was sent");
        assert!(taken.bytes <= self.sent.bytes, "taken only what was sent");
        // Reports may overtake one another; the totals only grow.
        self.taken.responses = self.taken.responses.max(taken.responses);
        self.taken.bytes = self.taken.bytes.max(taken.bytes);
    }
}

/// A delay below `bound`, the same for the same stream, spread over streams (splitmix64's mixing).
fn jitter(id: StreamId, bound: u64) -> u64 {
    let mut mixed = id.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)) % bound.max(1)
}
