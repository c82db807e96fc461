//! What integration tests share.
pub mod cluster;
pub mod harness;
pub mod http;
pub mod kv;
pub mod lease;
pub mod line;
pub mod maintenance;
pub mod print;
pub mod raw;
pub mod session;
pub mod target;
pub mod txn;
pub mod watch;
