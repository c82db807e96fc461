//! The client edge: gRPC services that translate and decide nothing.
//!
//! A method is: validate → node or view → header. What is refused without state is in
//! [`validate`]; what an error looks like on the wire is in [`status`].
//!
//! Invariants:
//! - `tonic` is named in this room only.
//! - Services that are not built yet answer `Unimplemented` with a text that says so, never
//!   silence.

mod cluster;
mod fuzz;
mod health;
mod kv;
mod lease;
mod maintenance;
mod methods;
mod range_stream;
mod router;
mod snapshot;
mod status;
pub mod validate;
mod watch;

use tonic::{Response, Status};

use crate::error::Error;
use crate::machine::Reply;

pub use fuzz::fuzz_request;
pub use router::Router;

/// A method's result as tonic wants it.
fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status::status(&error))
}

/// A reply of another kind than the command: a bug; the client is told to come back later.
fn mismatch(reply: &Reply) -> Error {
    tracing::error!(?reply, "a reply does not belong to its command");
    Error::Stopped
}
