//! `etcdserverpb.Watch`: requests to the hub, deliveries to the client.
//!
//! A stream has two halves that do not wait for each other: a task that reads requests, and the
//! response stream that hyper polls as fast as the client reads. When the response stream goes, so
//! do the task and the watchers.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tonic::{Request, Response, Status, Streaming};

use super::status::status;
use crate::error::Error;
use crate::metrics::Messages;
use crate::node::{Account, Handle, WatchRequests, WatchStream};
use crate::pb::watch_request::RequestUnion;
use crate::pb::watch_server::Watch as Service;
use crate::pb::{WatchRequest, WatchResponse};
use crate::watch::{Body, Delivery};

/// The service; cloned per worker.
#[derive(Clone)]
pub struct Watch {
    pub(super) node: Handle,
    pub(super) messages: Messages,
}

#[tonic::async_trait]
impl Service for Watch {
    type WatchStream = Responses;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let account = request.extensions().get::<Account>().cloned();
        let stream = self.node.watch(account.expect("the router knows whose request this is"));
        let (broke, broken) = oneshot::channel();
        let (requests, hub) = (request.into_inner(), stream.requests());
        let received = self.messages.clone();
        let node = self.node.clone();
        let reading = tokio::spawn(async move {
            if let Err(status) = read(requests, hub, &received).await {
                let _ = broke.send(super::broken(&node, "watch", status));
            }
        });
        Ok(Response::new(Responses {
            node: self.node.clone(),
            messages: self.messages.clone(),
            stream,
            broken: Some(broken),
            ended: false,
            reading: reading.abort_handle(),
        }))
    }
}

/// Passes requests on until the client closes its half, after which watchers live on, or until it
/// sends what is no request, which ends the stream.
async fn read(
    mut requests: Streaming<WatchRequest>,
    hub: WatchRequests,
    messages: &Messages,
) -> Result<(), Status> {
    loop {
        hub.room().await;
        let Some(request) = requests.message().await? else { return Ok(()) };
        messages.received.inc();
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => hub.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => hub.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => hub.progress(),
            // etcd skips what it does not know, for clients newer than itself.
            None => {}
        }
    }
}

/// The responses of a watch stream.
pub struct Responses {
    node: Handle,
    messages: Messages,
    stream: WatchStream,
    /// Tells why the requests ended, unless the client closed them in order.
    broken: Option<oneshot::Receiver<Status>>,
    ended: bool,
    reading: AbortHandle,
}

impl Responses {
    /// Why the stream ends when it has nothing to say.
    fn poll_broken(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let Some(broken) = &mut self.broken else { return Poll::Pending };
        match std::task::ready!(Pin::new(broken).poll(context)) {
            Ok(status) => Poll::Ready(status),
            Err(_) => {
                self.broken = None;
                Poll::Pending
            }
        }
    }

    fn respond(&self, delivery: &Delivery) -> WatchResponse {
        self.messages.sent.inc();
        if let Body::Events { events, .. } = &delivery.body {
            self.node.metrics().mvcc_events.inc_by(events.len() as u64);
        }
        delivery.response(self.node.header())
    }
}

impl tokio_stream::Stream for Responses {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let end = match self.stream.poll_next(context) {
            Poll::Ready(Some(delivery)) => return Poll::Ready(Some(Ok(self.respond(&delivery)))),
            Poll::Ready(None) => status(&Error::Stopped),
            Poll::Pending => std::task::ready!(self.poll_broken(context)),
        };
        self.ended = true;
        Poll::Ready(Some(Err(end)))
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
