//! A client within the process: the services of a member without a port between.
//!
//! The channel ends in the same router as connections from outside, so nothing is different but the
//! way: no certificate is needed, and a member that listens on nothing but a socket of another kind
//! serves it all the same.

use std::convert::Infallible;

use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::connection::{self, Settings};
use crate::api::Router;
use crate::http::Surface;
use crate::node::Handle;

/// Bytes that may be on their way in one direction.
const PIPE_BYTES: usize = 256 * 1024;

/// What a connection within the process needs.
#[derive(Clone)]
pub(super) struct Inside {
    pub router: Router,
    pub node: Handle,
    pub settings: Settings,
    pub stopping: watch::Receiver<bool>,
}

impl Inside {
    /// A channel that connects when it is first used, and again if it must.
    pub fn channel(&self) -> Channel {
        let inside = self.clone();
        let connect = service_fn(move |_| {
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            let Inside { router, node, settings, stopping } = inside.clone();
            tokio::spawn(async move {
                let served =
                    connection::serve(far, router, node, Surface::Client, settings, stopping);
                if let Err(error) = served.await {
                    tracing::debug!(%error, "a connection within the process ended badly");
                }
            });
            std::future::ready(Ok::<_, Infallible>(TokioIo::new(near)))
        });
        // Nobody looks the name up; requests carry it as their authority.
        Endpoint::from_static("http://member").connect_with_connector_lazy(connect)
    }
}
