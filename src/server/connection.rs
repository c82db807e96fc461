//! One connection: HTTP/1.1 or HTTP/2, gRPC or plain, until it ends or the server stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::body::Body;

use super::wire::Wire;
use crate::api::{Charged, Router};
use crate::config::Config;
use crate::http::{self as plain, Rules, Surface};
use crate::limits;
use crate::node::Handle;

/// What connections are told of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    rules: Arc<Rules>,
    streams_max: u32,
    ping_interval: Option<Duration>,
    ping_timeout: Duration,
}

impl Settings {
    pub fn new(config: &Config) -> Self {
        let interval = config.grpc_keepalive_interval;
        Self {
            rules: Arc::new(Rules::new(config)),
            streams_max: match config.max_concurrent_streams {
                // etcd's default: as many as there are numbers.
                u32::MAX => limits::H2_STREAMS_MAX,
                streams => streams,
            },
            ping_interval: (!interval.is_zero()).then_some(interval),
            ping_timeout: config.grpc_keepalive_timeout,
        }
    }
}

/// How a connection ended.
pub(super) type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Serves a connection. On shutdown it says so (GOAWAY) and finishes what is under way.
pub(super) async fn serve<S>(
    stream: S,
    router: Router,
    node: Handle,
    surface: Surface,
    settings: Settings,
    mut stopping: watch::Receiver<bool>,
) -> Served
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits::HTTP1_HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams_max)
        .initial_stream_window_size(limits::H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::H2_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::H2_HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(limits::H2_CANCELLED_MAX)
        .keep_alive_interval(settings.ping_interval)
        .keep_alive_timeout(settings.ping_timeout);
    let metrics = node.metrics();
    // Who scrapes metrics apart from the clients is none of them.
    let counters = surface
        .has_grpc()
        .then(|| (metrics.client_received_bytes.clone(), metrics.client_sent_bytes.clone()));
    let wire = Wire::new(stream, counters);
    let account = router.account();
    let parts = Arc::new((router, node, settings.rules, account.clone()));
    let service = service_fn(move |request| {
        let parts = parts.clone();
        async move {
            let (router, node, rules, account) = &*parts;
            if surface.has_grpc() && Router::is_grpc(&request) {
                return router.call(request, account.clone()).await;
            }
            let response: Response<_> = plain::answer(node, surface, rules, &request).await;
            let charged = |body| Body::new(Charged::new(body, account.clone(), None));
            Ok::<_, Infallible>(response.map(charged))
        }
    });
    let connection = builder.serve_connection(TokioIo::new(wire), service);
    tokio::pin!(connection);
    tokio::select! {
        // First what is due, then the goodbye: that the member leaves is told before it does.
        biased;
        served = connection.as_mut() => return served,
        () = account.overdrawn() => return Err("it held more than any other".into()),
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
