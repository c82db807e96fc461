//! A watch stream as its edge holds it, for simulated clients.

use std::future::poll_fn;

use super::super::watches::{Requests, Stream};
use super::super::{Accounts, Handle};
use crate::pb::{WatchCreateRequest, WatchResponse};
use crate::watch::Limits;

/// An open stream.
pub struct Watching {
    node: Handle,
    stream: Stream,
    requests: Requests,
}

impl Watching {
    pub(super) fn open(node: &Handle, limits: &Limits) -> Self {
        let shared = &node.shared;
        let (inbox, progress) = (shared.watches.clone(), shared.progress.clone());
        let account = Accounts::new(usize::MAX).open();
        let stream = Stream::open(&shared.streams, inbox, progress, limits, account);
        let requests = stream.requests();
        Self { node: node.clone(), stream, requests }
    }

    pub fn create(&self, request: WatchCreateRequest) {
        self.requests.create(request);
    }

    pub fn cancel(&self, watch_id: i64) {
        self.requests.cancel(watch_id);
    }

    pub fn progress(&self) {
        self.requests.progress();
    }

    /// The next response; `None` when the member stops.
    pub async fn next(&mut self) -> Option<WatchResponse> {
        let delivery = poll_fn(|context| self.stream.poll_next(context)).await?;
        Some(delivery.response(self.node.header()))
    }
}
