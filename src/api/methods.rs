//! Every gRPC method by path: its kind, its counters, and whether it is built.

use std::collections::HashMap;

use crate::metrics::{GrpcMethod, Metrics};

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

/// The methods of this member with their counters.
pub struct Methods {
    by_path: HashMap<String, (Kind, GrpcMethod)>,
}

impl Methods {
    /// All methods, their counters registered at zero.
    pub fn new(metrics: &Metrics) -> Self {
        let mut by_path = HashMap::new();
        for (service, kind, methods) in BUILT {
            for method in methods {
                let counters = metrics.grpc_method(kind.label(), service, method);
                by_path.insert(format!("/{service}/{method}"), (kind, counters));
            }
        }
        Self { by_path }
    }

    /// The method at a request path.
    pub fn get(&self, path: &str) -> Option<&(Kind, GrpcMethod)> {
        self.by_path.get(path)
    }
}

/// What to say of a path that is not answered: the missing part's name, if it is one of etcd's.
pub fn missing(path: &str) -> Option<&'static str> {
    let service = path.strip_prefix('/')?.split('/').next()?;
    NOT_BUILT.iter().find(|(name, _)| *name == service).map(|(_, words)| *words)
}
