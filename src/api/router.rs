//! The router: one HTTP request to the service it is for, counted on the way.
//!
//! gRPC and plain HTTP share a port; the content type tells them apart. Dispatch is a match on the
//! path, not a routing table, because it runs for every request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use tonic::body::Body;
use tower::Service as _;

use super::methods::{self, Kind, Methods};
use super::status::status;
use crate::error::Error;
use crate::metrics::GrpcMethod;
use crate::node::Handle;
use crate::pb::cluster_server::ClusterServer;
use crate::pb::health::health_server::HealthServer;
use crate::pb::kv_server::KvServer;
use crate::pb::lease_server::LeaseServer;
use crate::pb::maintenance_server::MaintenanceServer;
use crate::pb::watch_server::WatchServer;

/// A response under way.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// All services of a member; cloned per connection.
#[derive(Clone)]
pub struct Router {
    node: Handle,
    methods: Arc<Methods>,
    kv: KvServer<super::kv::Kv>,
    watch: WatchServer<super::watch::Watch>,
    lease: LeaseServer<super::lease::Lease>,
    cluster: ClusterServer<super::cluster::Cluster>,
    maintenance: MaintenanceServer<super::maintenance::Maintenance>,
    health: HealthServer<super::health::Health>,
}

impl Router {
    /// The services over a node.
    pub fn new(node: Handle) -> Self {
        let decode_bytes_max = node.limits().request_bytes_max + crate::limits::GRPC_OVERHEAD_BYTES;
        let methods = Arc::new(Methods::new(node.metrics()));
        Self {
            kv: KvServer::new(super::kv::Kv { node: node.clone() })
                .max_decoding_message_size(decode_bytes_max)
                .max_encoding_message_size(usize::MAX),
            watch: WatchServer::new(super::watch::Watch { node: node.clone() })
                .max_decoding_message_size(decode_bytes_max)
                .max_encoding_message_size(usize::MAX),
            lease: LeaseServer::new(super::lease::Lease { node: node.clone() })
                .max_decoding_message_size(decode_bytes_max),
            cluster: ClusterServer::new(super::cluster::Cluster { node: node.clone() })
                .max_decoding_message_size(decode_bytes_max),
            maintenance: MaintenanceServer::new(super::maintenance::Maintenance {
                node: node.clone(),
            })
            .max_decoding_message_size(decode_bytes_max),
            health: HealthServer::new(super::health::Health),
            methods,
            node,
        }
    }

    /// Whether a request is gRPC.
    pub fn is_grpc<B>(request: &Request<B>) -> bool {
        request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
    }

    /// Answers one gRPC request.
    pub fn call(&self, request: Request<Incoming>) -> Answering {
        let Some((kind, counters)) = self.methods.get(request.uri().path()) else {
            let refusal = unknown(request.uri().path());
            return Box::pin(std::future::ready(Ok(refusal)));
        };
        if let Err(error) = self.admit(*kind, request.headers()) {
            let refusal = status(&error).into_http();
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        let (kind, counters) = (*kind, counters.clone());
        counters.start();
        let started = Instant::now();
        let slow = self.node.limits().unary_warning;
        let path = request.uri().path().to_owned();
        let answering = self.dispatch(request);
        Box::pin(async move {
            let response = too_large(answering.await?);
            if kind == Kind::Unary {
                let took = started.elapsed();
                counters.finish(grpc_code(response.headers()).unwrap_or(0), took);
                if took > slow {
                    tracing::warn!(path, took_ms = took.as_millis() as u64, "slow request");
                }
                return Ok(response);
            }
            Ok(match grpc_code(response.headers()) {
                Some(code) => {
                    counters.finish(code, started.elapsed());
                    response
                }
                None => response
                    .map(|body| Body::new(Observed { body, started, counters: Some(counters) })),
            })
        })
    }

    /// What clients say of themselves in metadata, counted and checked.
    fn admit(&self, kind: Kind, headers: &HeaderMap) -> Result<(), Error> {
        let version = match headers.get("client-api-version") {
            None => "unknown",
            Some(value) => value.to_str().map_err(|_| Error::InvalidClientAPIVersion)?,
        };
        // A label must not be whatever a client sends.
        let known = version.len() <= 8
            && version.split('.').count() == 2
            && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let version = if known { version } else { "unknown" };
        let kind = if kind == Kind::Unary { "unary" } else { "stream" };
        self.node.metrics().client_requests.with_label_values(&[kind, version]).inc();
        let wants_leader = headers.get("hasleader").is_some_and(|value| value == "true");
        if wants_leader && self.node.progress().leader == 0 {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    fn dispatch(&self, request: Request<Incoming>) -> Answering {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            "etcdserverpb.KV" => self.kv.clone().call(request),
            "etcdserverpb.Watch" => self.watch.clone().call(request),
            "etcdserverpb.Lease" => self.lease.clone().call(request),
            "etcdserverpb.Cluster" => self.cluster.clone().call(request),
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request),
            _ => self.health.clone().call(request),
        }
    }
}

/// The refusal of a method that is not in the table.
fn unknown(path: &str) -> Response<Body> {
    let refusal = match methods::missing(path) {
        Some(words) => status(&Error::NotBuilt(words)),
        None => {
            let (service, method) =
                path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
            tonic::Status::unimplemented(format!("unknown method {method} for service {service}"))
        }
    };
    refusal.into_http()
}

/// tonic's refusal of a message over the limit, in the words and with the code of Go's gRPC.
fn too_large(response: Response<Body>) -> Response<Body> {
    const OUT_OF_RANGE: i32 = 11;
    if grpc_code(response.headers()) != Some(OUT_OF_RANGE) {
        return response;
    }
    let Some(refusal) = tonic::Status::from_header_map(response.headers()) else { return response };
    let Some(sizes) = refusal.message().strip_prefix("Error, decoded message length too large: ")
    else {
        return response;
    };
    let mut numbers = sizes.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
    let (Some(found), Some(limit)) = (numbers.next(), numbers.next()) else { return response };
    let words = format!("grpc: received message larger than max ({found} vs. {limit})");
    tonic::Status::resource_exhausted(words).into_http()
}

fn grpc_code(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A streamed body that counts its end.
struct Observed {
    body: Body,
    started: Instant,
    counters: Option<GrpcMethod>,
}

impl Observed {
    fn finish(&mut self, code: i32) {
        if let Some(counters) = self.counters.take() {
            counters.finish(code, self.started.elapsed());
        }
    }
}

impl http_body::Body for Observed {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = grpc_code(trailers).unwrap_or(0);
                    self.finish(code);
                }
            }
            Some(Err(status)) => {
                let code = status.code() as i32;
                self.finish(code);
            }
            None => self.finish(0),
        }
        Poll::Ready(frame)
    }
}

impl Drop for Observed {
    /// A client that hangs up ends its stream as cancelled.
    fn drop(&mut self) {
        self.finish(1);
    }
}
