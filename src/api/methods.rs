//! Every gRPC method by path: its kind, its counters, and whether it is built.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::Status;

use super::status::status;
use crate::error::Error;
use crate::metrics::{GrpcMethod, Messages, Metrics};

/// How messages flow in a method, in the words of etcd's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    /// The `grpc_type` label.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

use Kind::{BidiStream, ServerStream, Unary};

/// (service, kind, methods): what this member answers.
const BUILT: [(&str, Kind, &[&str]); 10] = [
    ("etcdserverpb.KV", Unary, &["Range", "Put", "DeleteRange", "Txn", "Compact"]),
    ("etcdserverpb.KV", ServerStream, &["RangeStream"]),
    ("etcdserverpb.Watch", BidiStream, &["Watch"]),
    ("etcdserverpb.Lease", Unary, &["LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases"]),
    ("etcdserverpb.Lease", BidiStream, &["LeaseKeepAlive"]),
    (
        "etcdserverpb.Cluster",
        Unary,
        &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote"],
    ),
    (
        "etcdserverpb.Maintenance",
        Unary,
        &["Alarm", "Status", "Defragment", "Hash", "HashKV", "MoveLeader", "Downgrade"],
    ),
    ("etcdserverpb.Maintenance", ServerStream, &["Snapshot"]),
    ("grpc.health.v1.Health", Unary, &["Check", "List"]),
    ("grpc.health.v1.Health", ServerStream, &["Watch"]),
];

/// Services of etcd that are not built yet, with the words of the refusal.
const NOT_BUILT: [(&str, &str); 3] = [
    ("etcdserverpb.Auth", "authentication"),
    ("v3lockpb.Lock", "the lock service"),
    ("v3electionpb.Election", "the election service"),
];

/// A method of this member.
pub struct Method {
    pub path: String,
    pub kind: Kind,
    pub counters: GrpcMethod,
}

impl Method {
    /// Whether a call of it ends only when one side has had enough.
    pub fn is_endless(&self) -> bool {
        self.kind == BidiStream || self.path == "/grpc.health.v1.Health/Watch"
    }
}

/// The methods of this member.
pub struct Methods {
    by_path: HashMap<String, Arc<Method>>,
}

impl Methods {
    /// All methods, their counters registered at zero.
    pub fn new(metrics: &Metrics) -> Self {
        let mut by_path = HashMap::new();
        for (service, kind, methods) in BUILT {
            for method in methods {
                let counters = metrics.grpc_method(kind.label(), service, method);
                let path = format!("/{service}/{method}");
                by_path.insert(path.clone(), Arc::new(Method { path, kind, counters }));
            }
        }
        Self { by_path }
    }

    /// The method at a request path.
    pub fn get(&self, path: &str) -> Option<&Arc<Method>> {
        self.by_path.get(path)
    }

    /// The counters of the messages of a method of the table.
    pub fn messages(&self, path: &str) -> Messages {
        self.by_path[path].counters.messages().clone()
    }

    /// The refusal of a path that is not answered; what is missing is named if it is etcd's.
    pub fn unknown(&self, path: &str) -> Status {
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
        else {
            return Status::unimplemented(format!("malformed method name: {path:?}"));
        };
        if let Some((_, words)) = NOT_BUILT.iter().find(|(name, _)| *name == service) {
            return status(&Error::NotBuilt(words));
        }
        Status::unimplemented(if BUILT.iter().any(|(name, ..)| *name == service) {
            format!("unknown method {method} for service {service}")
        } else {
            format!("unknown service {service}")
        })
    }
}
