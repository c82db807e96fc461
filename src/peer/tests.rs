//! The room as a whole, over loopback and beside a real etcd.

mod answers;
mod etcd;
mod exchange;
pub(super) mod recorded;
mod trouble;
mod world;
