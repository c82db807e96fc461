//! kvorum: a control-plane datastore that speaks etcd 3.7. This page is the tour.
//!
//! # Bird's eye
//!
//! A pure core that only computes, a thin driver that only does, edges that only translate.
//!
//! ```text
//! clients ─▶ server ─▶ api, http ─▶ node ─▶ raft ─▶ log ─▶ machine ─▶ mvcc, lease, ... ─▶ watch
//!            listeners  edges       driver  agree   durable apply      facts              tell
//! members ◀────────────▶ peer ◀──────┘
//! ```
//!
//! Floors, imports go down only: `pb error limits span` · `storage` · `mvcc lease members alarm` ·
//! `machine raft watch bolt` · `node` · `api peer` · `http` · `server tool`. From `machine` down
//! nothing knows threads, clocks, randomness, sockets or the environment. `tests/tidy.rs` holds us
//! to it. A member alone is nothing special: a cluster whose majority is one.
//!
//! # The life of a put
//!
//! 1. [`api`] checks the request's form and hands it to [`node::Handle::propose`].
//! 2. The *driver* thread takes all that waits, and [`raft`] gives each its place in the log.
//! 3. It appends the batch to the [write-ahead log](storage::wal), syncs once, and tells raft.
//! 4. Committed entries go to the *applier*: [`machine`] judges and applies, [`mvcc`] writes rows
//!    into memory and the index, and the new state is published to readers.
//! 5. The changes go to the *watch* thread, the answers to the clients, in that order after 4.
//! 6. Behind everybody's back the *checkpointer* moves rows into the [engine](storage::engine)
//!    with the applied index, in one commit, and the log lets old segments go.
//!
//! With other members, 3 happens on a thread of its own while [`peer`] already carries the entries
//! to them, and an entry is committed once a majority has synced it. At a *follower*, 2 forwards
//! the put to the leader; its client is answered there all the same, when the entry comes back in
//! the log and the follower's own applier reaches 4. If the leader goes, what was forwarded is
//! handed on to the next one, or its client is told that the outcome is not known.
//!
//! # The life of a range
//!
//! [`api`] checks it; a linearizable one passes [`node::Handle::read_barrier`]; then [`mvcc`]
//! answers on the caller's own thread from a published state that nobody can change: keys from the
//! index, rows as the bytes they were stored in.
//!
//! The barrier is ReadIndex: the leader says how far the log is committed, after a majority has
//! confirmed that it still leads, and the member that was asked waits until it has applied as much.
//! One question serves all who came meanwhile, and nothing is written.
//!
//! # The life of a watch event
//!
//! The watch thread gives a revision's changes to [`watch::Hub`], which finds who cares and encodes
//! each event once. A stream has a bounded queue; whoever falls behind is fed from history until it
//! is level again. Nothing is dropped, reordered, or split within a revision.
//!
//! # The life of a member
//!
//! It finds the others by `--initial-cluster`, is added by a change of members in the log, and is
//! brought level from the leader's log or, if that has moved on, by its state as a bbolt file. When
//! a leader's process dies its connections end, and the followers [stand at once](node); when it is
//! stopped it hands leadership over. All of it is etcd's on the wire, see [`peer`].
//!
//! # Invariants
//!
//! 1. One owner each: only the driver holds the raft core, only the applier the machine, only the
//!    watch thread the hub, only the checkpointer commits. Others hold handles or views.
//! 2. One checkpoint, one batch: rows, applied index, term, leases, members, alarms reach the
//!    engine together or not at all.
//! 3. Only the log changes state. Expiry, compaction, alarms, versions are duties that *propose*.
//! 4. Commands are complete: what is random or timed was decided before proposing.
//! 5. [`error::Error`] answers a client; [`error::Fault`] stops the node.
//! 6. Acknowledged means synced. After a failed sync the process ends; it never tries again.
//! 7. Every queue has a bound, named in [`limits`], and a sentence on what happens when it is full.
//! 8. Wire types are the types: prost messages flow from `api` to `machine`.
//! 9. Foreign names stay in one room: `redb` and `sled` in theirs, raft-rs in `raft`, `clap` in
//!    `config`, `rustls` in `tls`.
//! 10. Configuration is resolved once; nothing reads flags or environment later.
//!
//! # Embedding
//!
//! ```
//! use kvorum::config::{Config, Url};
//! use kvorum::pb::PutRequest;
//! use kvorum::pb::kv_client::KvClient;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # runtime.block_on(async {
//! let config = Config {
//!     data_dir: dir.path().join("member.etcd"),
//!     listen_client_urls: vec![Url::http("127.0.0.1:0")],
//!     listen_peer_urls: vec![Url::http("127.0.0.1:0")],
//!     ..Config::default()
//! };
//! let running = kvorum::Server::start(config).await?;
//! let mut client = KvClient::new(running.client());
//! let put = PutRequest { key: "greeting".into(), value: "hello".into(), ..Default::default() };
//! let answer = client.put(put).await?.into_inner();
//! assert_eq!(answer.header.map(|header| header.revision), Some(2));
//! drop(client);
//! running.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })
//! # }
//! ```

pub mod error;
mod input;
pub mod limits;
#[doc(hidden)]
pub mod marks;
pub mod pb;
#[doc(hidden)]
pub mod planted;
pub mod span;
pub mod version;

pub mod storage;

pub mod alarm;
pub mod lease;
pub mod members;
pub mod mvcc;

pub mod bolt;
pub mod machine;
pub mod raft;
pub mod watch;

pub mod node;

pub mod api;
pub mod peer;

pub mod http;
pub mod server;
pub mod tool;

pub mod config;
pub mod logging;
pub mod metrics;
pub mod tls;

/// The door of the simulation in `tests/sim`; nothing that is released has it.
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod sim {
    pub use crate::api::sim::{Cluster, Kv, Lease, cluster, kv, lease};
    pub use crate::marks::{Mark, mark, take as take_marks, unmarked};
    pub use crate::node::sim::*;
    pub use crate::planted::{Mistake, plant};
}

pub use server::{Running, Server, StartError};
