//! kvorum: an etcd-compatible control-plane datastore.

pub mod alarm;
pub mod api;
pub mod bolt;
pub mod config;
pub mod error;
pub mod http;
pub mod lease;
pub mod limits;
pub mod logging;
pub mod machine;
pub mod members;
pub mod metrics;
pub mod mvcc;
pub mod node;
pub mod pb;
pub mod raft;
pub mod server;
pub mod span;
pub mod storage;
pub mod tls;
pub mod tool;
pub mod version;
pub mod watch;

pub use server::{Running, Server, StartError};
