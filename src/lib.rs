//! kvorum: an etcd-compatible control-plane datastore.

pub mod alarm;
pub mod config;
pub mod error;
pub mod limits;
pub mod members;
pub mod pb;
pub mod raft;
pub mod span;
pub mod storage;
