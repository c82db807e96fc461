//! `etcdserverpb.Watch`: requests to the hub, deliveries to the client.
//!
//! A stream has two halves that do not wait for each other: a task that reads requests, and the
//! response stream that hyper polls as fast as the client reads. When the response stream goes, so
//! do the task and the watchers.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::AbortHandle;
use tonic::{Request, Response, Status, Streaming};

use super::status::status;
use crate::error::Error;
use crate::node::{Handle, WatchRequests, WatchStream};
use crate::pb::watch_request::RequestUnion;
use crate::pb::watch_server::Watch as Service;
use crate::pb::{WatchRequest, WatchResponse};

/// The service; cloned per worker.
#[derive(Clone)]
pub struct Watch {
    pub(super) node: Handle,
}

#[tonic::async_trait]
impl Service for Watch {
    type WatchStream = Responses;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let stream = self.node.watch();
        let reading = tokio::spawn(read(request.into_inner(), stream.requests()));
        let node = self.node.clone();
        Ok(Response::new(Responses { node, stream, ended: false, reading: reading.abort_handle() }))
    }
}

/// Passes requests on until the client closes its half; watchers live on after that.
async fn read(mut requests: Streaming<WatchRequest>, hub: WatchRequests) {
    while let Ok(Some(request)) = requests.message().await {
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
    stream: WatchStream,
    ended: bool,
    reading: AbortHandle,
}

impl tokio_stream::Stream for Responses {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match std::task::ready!(self.stream.poll_next(context)) {
            Some(delivery) => Ok(delivery.response(self.node.header())),
            None => {
                self.ended = true;
                Err(status(&Error::Stopped))
            }
        }))
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
