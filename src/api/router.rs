//! The router: one HTTP request to the service it is for.
//!
//! gRPC and plain HTTP share a port; the protocol and the content type tell them apart. Dispatch is
//! a match on the path, not a routing table, because it runs for every request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method as HttpMethod, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::Gzip;
use tower::Service as _;

use super::call::{Answer, Call, deadline_exceeded, grpc_code};
use super::charged::{Charged, charge};
use super::large::{Large, Slot};
use super::methods::{Kind, Method, Methods};
use super::serving::Serving;
use super::status::{status, transport};
use super::{cluster, deadline, health, kv, lease, maintenance, watch as watches};
use crate::error::Error;
use crate::limits;
use crate::node::{Account, Accounts, Handle};
use crate::pb::cluster_server::ClusterServer;
use crate::pb::health::health_server::HealthServer;
use crate::pb::kv_server::KvServer;
use crate::pb::lease_server::LeaseServer;
use crate::pb::maintenance_server::MaintenanceServer;
use crate::pb::watch_server::WatchServer;

/// A response under way.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// What a request calls, and how long its client is going to wait.
type Asked = (Arc<Method>, Option<Duration>);

/// What a member without a vote answers. Of ranges it answers those that may be stale.
const LEARNERS_SERVE: [&str; 3] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
];

/// All services of a member; cloned per connection.
#[derive(Clone)]
pub struct Router {
    node: Handle,
    accounts: Accounts,
    methods: Arc<Methods>,
    stopping: watch::Receiver<bool>,
    kv: KvServer<kv::Kv>,
    watch: WatchServer<watches::Watch>,
    lease: LeaseServer<lease::Lease>,
    cluster: ClusterServer<cluster::Cluster>,
    maintenance: MaintenanceServer<maintenance::Maintenance>,
    health: HealthServer<health::Health>,
}

impl Router {
    /// The services over a node. Streams without an end of their own end when `stopping` turns
    /// true.
    pub fn new(
        node: Handle,
        serving: Serving,
        accounts: Accounts,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let bytes_max = node.limits().request_bytes_max + limits::GRPC_OVERHEAD_BYTES;
        let methods = Arc::new(Methods::new(node.metrics()));
        let messages = |path| methods.messages(path);
        macro_rules! server {
            ($server:ident, $service:expr) => {
                $server::new($service)
                    .max_decoding_message_size(bytes_max)
                    .max_encoding_message_size(usize::MAX)
                    .accept_compressed(Gzip)
            };
        }
        Self {
            kv: server!(
                KvServer,
                kv::Kv {
                    node: node.clone(),
                    streamed: messages("/etcdserverpb.KV/RangeStream"),
                    large: Large::new(),
                }
            ),
            watch: server!(
                WatchServer,
                watches::Watch {
                    node: node.clone(),
                    messages: messages("/etcdserverpb.Watch/Watch"),
                }
            ),
            lease: server!(
                LeaseServer,
                lease::Lease {
                    node: node.clone(),
                    kept: messages("/etcdserverpb.Lease/LeaseKeepAlive"),
                }
            ),
            cluster: server!(ClusterServer, cluster::Cluster { node: node.clone() }),
            maintenance: server!(
                MaintenanceServer,
                maintenance::Maintenance {
                    node: node.clone(),
                    blobs: messages("/etcdserverpb.Maintenance/Snapshot"),
                    snapshots: Arc::new(Semaphore::new(limits::SNAPSHOTS_MAX)),
                    serving: serving.clone(),
                }
            ),
            health: server!(
                HealthServer,
                health::Health { serving, told: messages("/grpc.health.v1.Health/Watch") }
            ),
            methods,
            stopping,
            accounts,
            node,
        }
    }

    /// Whether a request is gRPC.
    pub fn is_grpc<B>(request: &Request<B>) -> bool {
        let Some(content_type) = request.headers().get(http::header::CONTENT_TYPE) else {
            return false;
        };
        let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
        request.version() == Version::HTTP_2
            && rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    }

    /// The account of a new connection.
    pub fn account(&self) -> Account {
        self.accounts.open()
    }

    /// Answers one gRPC request of the connection that an account is for.
    pub fn call(&self, request: Request<Incoming>, account: Account) -> Answering {
        match self.find(&request) {
            Ok((method, patience)) => self.answer(request, account, method, patience),
            Err(refusal) => Box::pin(std::future::ready(Ok(*refusal))),
        }
    }

    /// Finds out what a request asks for, or refuses it.
    fn find<B>(&self, request: &Request<B>) -> Result<Asked, Box<Response<Body>>> {
        if request.method() != HttpMethod::POST {
            let words = format!("a call is a POST, not a {}", request.method());
            return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, Status::internal(words)));
        }
        let patience = deadline::patience(request.headers()).map_err(|text| {
            let words = format!("malformed grpc-timeout: {:?}", String::from_utf8_lossy(text));
            refuse(StatusCode::BAD_REQUEST, Status::internal(words))
        })?;
        let path = request.uri().path();
        let method = self.methods.get(path);
        let method = method.ok_or_else(|| refuse(StatusCode::OK, self.methods.unknown(path)))?;
        Ok((method.clone(), patience))
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
        account: Account,
        method: Arc<Method>,
        patience: Option<Duration>,
    ) -> Answering {
        let (kind, is_endless) = (method.kind, method.is_endless());
        let mut call = Call::begin(method);
        let charge = Some(charge(&account, &request, kind));
        let refusal = match self.admit(kind, request.uri().path(), request.headers()) {
            _ if account.closes() => Some(status(&Error::RequestTooManyRequests)),
            Err(error) => Some(status(&error)),
            Ok(()) => patience.filter(Duration::is_zero).map(|_| deadline_exceeded()),
        };
        if let Some(refusal) = refusal {
            call.end(refusal.code() as i32);
            return Box::pin(std::future::ready(Ok(refusal.into_http())));
        }
        let slow = self.node.limits().unary_warning;
        let stopping = is_endless.then(|| self.stopping.clone());
        let losses = wants_leader(request.headers()).then(|| self.node.leader_losses());
        request.extensions_mut().insert(account.clone());
        let answering = self.dispatch(request);
        Box::pin(async move {
            let response = Slot::emptied(transport(in_time(answering, patience).await?), &account);
            let code = grpc_code(response.headers());
            if kind == Kind::Unary || code.is_some() {
                call.end(code.unwrap_or(0));
                note_slow(&call, kind, slow);
                return Ok(response.map(|body| Body::new(Charged::new(body, account, charge))));
            }
            let deadline = patience.and_then(|patience| call.started.checked_add(patience));
            let answer = |body| Answer::new(body, call, deadline, stopping, losses);
            Ok(response.map(|body| Body::new(Charged::new(answer(body), account, charge))))
        })
    }

    /// Whether this member serves the method now; and what clients say of themselves in metadata,
    /// counted and checked.
    fn admit(&self, kind: Kind, path: &str, headers: &HeaderMap) -> Result<(), Error> {
        if self.node.is_learner() && !LEARNERS_SERVE.contains(&path) {
            return Err(Error::NotSupportedForLearner);
        }
        let version = match headers.get("client-api-version") {
            None => "unknown",
            Some(value) => {
                std::str::from_utf8(value.as_bytes()).map_err(|_| Error::InvalidClientAPIVersion)?
            }
        };
        self.node.metrics().calls.count(kind == Kind::Unary, version);
        if wants_leader(headers) && self.node.progress().leader == 0 {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    /// Hands a request to its service. As etcd does, a compressed request gets a compressed answer,
    /// and no other does: most clients could read it, but nobody asked for it.
    fn dispatch(&self, request: Request<Incoming>) -> Answering {
        let is_zipped = request.headers().get("grpc-encoding").is_some_and(|how| how == "gzip");
        macro_rules! by {
            ($service:ident) => {
                if is_zipped {
                    self.$service.clone().send_compressed(Gzip).call(request)
                } else {
                    self.$service.clone().call(request)
                }
            };
        }
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            "etcdserverpb.KV" => by!(kv),
            "etcdserverpb.Watch" => by!(watch),
            "etcdserverpb.Lease" => by!(lease),
            "etcdserverpb.Cluster" => by!(cluster),
            "etcdserverpb.Maintenance" => by!(maintenance),
            _ => by!(health),
        }
    }
}

/// Waits as long as the client does. Nothing is set up for an answer that is there at once.
async fn in_time(
    answering: Answering,
    patience: Option<Duration>,
) -> Result<Response<Body>, Infallible> {
    let Some(patience) = patience else { return answering.await };
    match tokio::time::timeout(patience, answering).await {
        Ok(answer) => answer,
        Err(_) => Ok(deadline_exceeded().into_http()),
    }
}

fn note_slow(call: &Call, kind: Kind, slow: Duration) {
    let took = Instant::now().saturating_duration_since(call.started);
    if kind == Kind::Unary && took > slow {
        tracing::warn!(
            "time spent" = ?took,
            "response type" = call.path(),
            "request stats"
        );
    }
}

/// A refusal that has an HTTP status of its own.
fn refuse(http_status: StatusCode, status: Status) -> Box<Response<Body>> {
    let mut response = status.into_http();
    *response.status_mut() = http_status;
    Box::new(response)
}

/// Whether a client wants to be told when there is no leader.
fn wants_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}
