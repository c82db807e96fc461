//! kvorum: an etcd-compatible control-plane datastore.

pub mod error;
pub mod lease;
pub mod limits;
pub mod pb;
pub mod span;
pub mod storage;
pub mod watch;
