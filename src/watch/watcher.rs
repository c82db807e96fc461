//! One watcher: what it wants, and how far it has got.

use bytes::Bytes;

use crate::pb;
use crate::pb::watch_create_request::FilterType;
use crate::span::Span;

use super::catchup::JobId;
use super::change::Kind;

/// Which events a watcher wants, and in which form.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wants {
    pub no_put: bool,
    pub no_delete: bool,
    pub previous: bool,
    pub progress: bool,
    pub fragment: bool,
}

impl Wants {
    /// What a create request asks for. Filters it does not know filter nothing.
    pub fn of(request: &pb::WatchCreateRequest) -> Self {
        let has = |filter: FilterType| request.filters.contains(&filter.into());
        Self {
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
            previous: request.prev_kv,
            progress: request.progress_notify,
            fragment: request.fragment,
        }
    }

    /// Whether events of this kind pass the filters.
    pub fn accepts(&self, kind: Kind) -> bool {
        match kind {
            Kind::Put => !self.no_put,
            Kind::Delete => !self.no_delete,
        }
    }
}

/// Where a watcher's events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// From publishing: everything up to the hub's revision is queued or does not concern it.
    Live,
    /// From nowhere: its stream is full. The number is its place among the stream's parked ones.
    Parked(u64),
    /// From history soon. The number is its place in the queue for a job.
    Ready(u64),
    /// From history: a job is under way.
    Loading(JobId),
}

/// A watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    /// The number of its stream.
    pub stream: usize,
    pub id: i64,
    pub span: Span,
    pub wants: Wants,
    /// No event before this revision will be sent: it was sent, does not match, or is before the
    /// start. A live watcher has seen all up to the hub's revision as well.
    pub next: i64,
    /// The least revision a progress response may carry: the requested start, or for a watcher
    /// that starts now the revision its created response carried.
    pub progress_from: i64,
    pub state: State,
    /// Whether no event was sent since the last progress tick.
    pub quiet: bool,
}

impl Watcher {
    /// Whether an event at `revision` is one to send.
    pub fn accepts(&self, revision: i64, kind: Kind) -> bool {
        revision >= self.next && self.wants.accepts(kind)
    }
}

/// The span of a create request, in memory of its own: the request is a slice of a read buffer.
pub(super) fn requested_span(request: &pb::WatchCreateRequest) -> Span {
    let key = if request.key.is_empty() { &b"\0"[..] } else { &request.key };
    Span::new(Bytes::copy_from_slice(key), Bytes::copy_from_slice(&request.range_end))
}
