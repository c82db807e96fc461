//! The room as a whole, over loopback and beside a real etcd.

mod answers;
mod death;
mod etcd;
mod exchange;
mod measures;
mod pki;
mod questions;
pub(super) mod recorded;
mod snapshots;
mod tls;
mod trouble;
mod world;
