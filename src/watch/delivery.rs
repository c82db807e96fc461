//! What the hub hands out: responses for streams, and scans of history to be made for it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::encoded_len_varint;

use crate::error::Error;
use crate::pb;

use super::catchup::Job;
use super::limits::Limits;

/// A watch stream, by the number its edge gave it. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Work for the driver, to be done in order.
#[derive(Debug)]
pub enum Output {
    /// Append to the stream's queue. It fits: the hub counts what is queued.
    Send { stream: StreamId, delivery: Delivery },
    /// Read history and answer with [`super::Hub::caught_up`].
    CatchUp(Job),
}

/// One watch response before the edge puts its header on. Cheap to clone: events are shared.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub watch_id: i64,
    /// The revision of the response's header.
    pub revision: i64,
    /// What the response counts for in its stream's budget; the edge adds it up in [`Receipts`].
    pub bytes: usize,
    pub body: Body,
}

/// The kinds of watch response.
#[derive(Clone, Debug)]
pub enum Body {
    Created,
    /// Created and canceled in one.
    Refused(Refusal),
    Canceled,
    /// Canceled, because the history it still needs is gone.
    Compacted {
        compact_revision: i64,
    },
    Progress,
    Events {
        /// Encoded `mvccpb.Event`s.
        events: Arc<[Bytes]>,
        /// Whether more of the same revisions follows.
        fragment: bool,
    },
}

/// Why a watcher was not created; the text is the response's `cancel_reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    EmptyRange,
    DuplicateId,
    NegativeStart,
    /// The edge's authorization said no, in these words.
    Denied(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyRange => f.write_str("mvcc: watcher range is empty"),
            Self::DuplicateId => {
                f.write_str("mvcc: duplicate watch ID provided on the WatchStream")
            }
            Self::NegativeStart => Error::Compacted.fmt(f),
            Self::Denied(reason) => f.write_str(reason),
        }
    }
}

/// What a stream's edge has taken from its queue since the stream was opened; see [`Receipts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub responses: u64,
    pub bytes: u64,
}

/// The id of responses that concern no watcher, or all of a stream.
pub const NO_WATCH: i64 = -1;

/// What a response without events counts for.
const BARE_BYTES: usize = 64;
/// What keeping one event in a queue costs beside its bytes.
const EVENT_BYTES: usize = 40;
/// The longest header: its frame, two ids of ten bytes, revision and term, each with its tag.
const HEADER_BYTES: usize = 2 + 4 * 11;

/// What events count for in a stream's budget.
pub(super) fn event_cost(event: &Bytes) -> usize {
    event.len() + EVENT_BYTES
}

/// Bytes an event adds to an encoded response: tag, length, event.
pub(super) fn framed_bytes(event: &Bytes) -> usize {
    1 + encoded_len_varint(event.len() as u64) + event.len()
}

/// Bytes of an encoded response without its events, at most.
pub(super) fn frame_bytes(watch_id: i64) -> usize {
    let id = if watch_id == 0 { 0 } else { 1 + encoded_len_varint(watch_id as u64) };
    // Two more for the fragment flag.
    HEADER_BYTES + id + 2
}

impl Delivery {
    /// A response without events.
    pub(super) fn bare(watch_id: i64, revision: i64, body: Body) -> Self {
        Self { watch_id, revision, bytes: BARE_BYTES, body }
    }

    /// A response of events that cost `bytes`.
    pub(super) fn events(
        watch_id: i64,
        revision: i64,
        bytes: usize,
        events: Arc<[Bytes]>,
        fragment: bool,
    ) -> Self {
        assert!(!events.is_empty(), "a response of events has events");
        Self {
            watch_id,
            revision,
            bytes: bytes + BARE_BYTES,
            body: Body::Events { events, fragment },
        }
    }

    /// The response as it goes out, under a header whose revision is filled in here.
    pub fn response(&self, header: pb::ResponseHeader) -> pb::WatchResponse {
        let mut response = pb::WatchResponse {
            header: Some(pb::ResponseHeader { revision: self.revision, ..header }),
            watch_id: self.watch_id,
            ..Default::default()
        };
        match &self.body {
            Body::Created => response.created = true,
            Body::Refused(refusal) => {
                response.created = true;
                response.canceled = true;
                response.cancel_reason = refusal.to_string();
            }
            Body::Canceled => response.canceled = true,
            Body::Compacted { compact_revision } => {
                response.canceled = true;
                response.compact_revision = *compact_revision;
            }
            Body::Progress => {}
            Body::Events { events, fragment } => {
                response.events = events.to_vec();
                response.fragment = *fragment;
            }
        }
        response
    }
}

/// The edge's side of a stream's budget: counts what it takes and says when the hub should know.
///
/// Every quarter of the budget is soon enough for the hub to keep a reader busy, and rare enough to
/// cost nothing; what goes unsaid never adds up to a queue that seems full while it is empty.
#[derive(Clone, Debug)]
pub struct Receipts {
    taken: Taken,
    reported: Taken,
    every: Taken,
}

impl Receipts {
    /// The receipts of a stream just opened.
    pub fn new(limits: &Limits) -> Self {
        let quarter = |bound: usize| (bound as u64 / 4).max(1);
        let every = Taken {
            responses: quarter(limits.stream_responses),
            bytes: quarter(limits.stream_bytes),
        };
        Self { taken: Taken::default(), reported: Taken::default(), every }
    }

    /// Counts a delivery taken from the queue; what to tell [`super::Hub::room`], if it is time.
    pub fn take(&mut self, delivery: &Delivery) -> Option<Taken> {
        self.taken.responses += 1;
        self.taken.bytes += delivery.bytes as u64;
        let due = self.taken.responses - self.reported.responses >= self.every.responses
            || self.taken.bytes - self.reported.bytes >= self.every.bytes;
        due.then(|| {
            self.reported = self.taken;
            self.taken
        })
    }
}
