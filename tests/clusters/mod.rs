//! Clusters in this process: members as `main` makes them, and a network that can be cut.
//!
//! - `writes`: what any member writes, every member reads; members that were away.
//! - `leaders`: a leader that is lost, and one that hands over.
//! - `partitions`: members that do not hear each other, both ways or one way.
//! - `corruption`: rows that differ, states that are damaged.
//! - `forgotten`: members whose log is lost or older than what they promised.
//! - `snapshots`: followers too far behind for the log.
//! - `leases`: kept alive through any member, timed by whoever leads.
//! - `members`: added, moved, promoted and removed.
//! - `metrics`: what members count, each by itself.
//! - `without_leader`: what a member says that is left alone.
//!
//! Nothing sleeps and hopes: tests wait for what must come. Where something must *not* come, they
//! do what would bring it for as long as it would take.

mod client;
mod corruption;
mod fixture;
mod forgotten;
mod leaders;
mod leases;
mod members;
mod metrics;
mod network;
mod partitions;
mod snapshots;
mod without_leader;
mod writes;
