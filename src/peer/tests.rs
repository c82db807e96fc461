//! The room as a whole, over loopback and beside a real etcd.

mod answers;
mod death;
mod etcd;
mod exchange;
pub(super) mod recorded;
mod snapshots;
mod trouble;
mod world;
