//! A span of keys, as requests write it: `key` and `range_end`.
//!
//! | range_end | the span |
//! |---|---|
//! | empty | the one key |
//! | a single zero byte | every key ≥ `key` |
//! | anything else | `key` ≤ k < `range_end`; nothing when `range_end` ≤ `key` |

mod fuzz;

use bytes::Bytes;

pub use fuzz::fuzz_span;

/// Keys from `start` on; the end is one key, open, or exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: Bytes,
    pub end: End,
}

/// Where a [`Span`] stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The span is its start key alone.
    Single,
    /// Every key from the start on.
    Open,
    /// Up to, not including, this key.
    Before(Bytes),
}

impl Span {
    /// The span a request's `key` and `range_end` mean.
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        let end = match &range_end[..] {
            [] => End::Single,
            [0] => End::Open,
            _ => End::Before(range_end),
        };
        Self { start: key, end }
    }

    /// Whether `key` lies in the span.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Open => key >= &self.start[..],
            End::Before(end) => key >= &self.start[..] && key < &end[..],
        }
    }

    /// Whether no key can lie in the span.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }
}
