//! The versions kvorum speaks for: clients decide by them what they may ask.

/// The etcd version whose surface this is; kube-apiserver parses it to detect features.
pub const SERVER: &str = "3.7.3";
/// The cluster version a cluster of such members agrees on.
pub const CLUSTER: &str = "3.7.0";
/// The version of etcd's storage schema the rows follow.
pub const STORAGE: &str = "3.7.0";
/// kvorum's own version.
pub const KVORUM: &str = env!("CARGO_PKG_VERSION");
