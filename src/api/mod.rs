//! The client edge: gRPC services that translate and decide nothing.
//!
//! A method is: validate → node or view → header. What is refused without state is in
//! [`validate`]; what an error looks like on the wire is in [`status`].
//!
//! Invariants:
//! - `tonic` is named in this room only.
//! - Services that are not built yet answer `Unimplemented` with a text that says so, never
//!   silence.

mod call;
mod charged;
mod cluster;
mod deadline;
mod fuzz;
mod health;
mod kv;
mod large;
mod lease;
mod maintenance;
mod methods;
mod range_stream;
mod router;
mod serving;
mod snapshot;
mod status;
pub mod validate;
mod watch;

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Response, Status};

use crate::error::Error;
use crate::machine::Reply;
use crate::metrics::Messages;
use crate::node::Handle;

pub use charged::Charged;
pub use fuzz::fuzz_request;
pub use router::Router;
pub use serving::Serving;

/// The services that a simulation calls without a server.
#[cfg(debug_assertions)]
pub mod sim {
    pub use super::cluster::Cluster;
    pub use super::kv::Kv;
    use super::large::Large;
    pub use super::lease::Lease;
    use super::methods::Methods;
    use crate::node::Handle;

    pub fn kv(node: Handle) -> Kv {
        let streamed = Methods::new(node.metrics()).messages("/etcdserverpb.KV/RangeStream");
        Kv { node, streamed, large: Large::new() }
    }

    pub fn cluster(node: Handle) -> Cluster {
        Cluster { node }
    }

    pub fn lease(node: Handle) -> Lease {
        let kept = Methods::new(node.metrics()).messages("/etcdserverpb.Lease/LeaseKeepAlive");
        Lease { node, kept }
    }
}

/// A method's result as tonic wants it.
fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status::status(&error))
}

/// The answers of a call with one request, counted as they go.
fn counted<T>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    messages: &Messages,
) -> Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>> {
    messages.received.inc();
    let sent = messages.sent.clone();
    Box::pin(answers.map(move |answer| {
        sent.inc();
        answer
    }))
}

/// Why the requests of a stream broke off, counted unless the client just went away.
fn broken(node: &Handle, api: &str, status: Status) -> Status {
    if !matches!(status.code(), Code::Cancelled | Code::Unknown) {
        node.metrics().stream_failures.with_label_values(&["receive", api]).inc();
    }
    status::too_large(status)
}

/// A reply of another kind than the command: a bug; the client is told to come back later.
fn mismatch(reply: &Reply) -> Error {
    tracing::error!(?reply, "a reply does not belong to its command");
    Error::Stopped
}
