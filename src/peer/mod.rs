//! Other members: what they send us and we send them, as etcd's rafthttp does.
//!
//! Each member asks every other for two streams, and is sent that member's messages on them: who
//! wants to hear dials, who has something to say answers.
//!
//! ```text
//!      A                                                B
//!      │── GET /raft/stream/msgapp/A ──────────────────▶│   B's appends to A
//!      │◀═ 200, frames without end ═════════════════════│
//!      │── GET /raft/stream/message/A ─────────────────▶│   B's other messages to A
//!      │◀═ 200, frames without end ═════════════════════│
//!      │◀─ GET /raft/stream/…/B ────────────────────────│   and the other way round
//! ```
//!
//! What a member sends goes on the stream the other has asked for; where there is none it is
//! posted ([`Transport::send`]). Nothing here waits for another member, and no message is promised
//! to arrive: raft repeats what matters, and is told ([`Host::unreachable`]) what was lost.
//!
//! | path | method | what it is |
//! |---|---|---|
//! | `/raft/stream/msgapp/<id>` | GET | appends to member `<id>`, without end |
//! | `/raft/stream/message/<id>` | GET | all other messages to member `<id>`, without end |
//! | `/raft` | POST | one message; 204 |
//! | `/raft/snapshot` | POST | one message and the state it stands for, as a bbolt file; 204 |
//! | `/raft/probing` | GET | that somebody is here, and the time |
//! | `/members` | GET | the members, for one that joins |
//! | `/version` | GET | what is served, and what the cluster agreed on |
//! | `/leases`, `/leases/internal` | POST | renews a lease, tells what is left of one |
//! | `/members/promote/<id>` | POST | promotes a learner; the members after that |
//! | `/members/hashkv` | GET | the hash of the rows |
//! | `/downgrade/enabled` | GET | false |
//! | `/kvorum/state` | GET | our whole state, for a kvorum that lost its own |
//! | `/kvorum/promises` | GET | what members were heard to promise, for a kvorum that begins |
//! | `/kvorum/replace` | POST | replaces the kvorum that calls, which lost its log |
//!
//! In reading order: `codec` and `headers` are pure; `lane` is an outgoing stream, `remote` a
//! member with its lanes, `outward` what is asked of it (`dial`, with `patience`), `snapshot` the
//! state that goes both ways, `server` what is answered at the `listener`, `transport` all of them
//! together, on a thread of their own. `prober` measures what it finds.
//!
//! A process that dies is noticed before any timeout: the kernel ends its connections, and refuses
//! the next ([`Host::disconnected`]).
//!
//! # Invariants
//!
//! 1. What another member can make us hold is bounded, whatever it claims or omits to read.
//! 2. Messages of one kind to one member arrive in the order they were sent, or not at all, as long
//!    as one stream lasts.
//! 3. Who is of another cluster, or removed, is neither heard nor answered with messages.
//! 4. Whatever becomes of a snapshot, its sender hears of it once ([`Host::snapshot_sent`]).
//! 5. Where a CA is configured, nobody without a certificate of it is answered at all, and none is
//!    called ([`tls::Peers`](crate::tls::Peers)).
//!
//! Absent for good: unix sockets between members.

pub mod codec;
pub mod headers;

mod dial;
mod forward;
mod fuzz;
mod host;
pub mod join;
mod lane;
mod listener;
mod outward;
mod patience;
mod prober;
pub mod recall;
mod remote;
mod server;
mod snapshot;
mod state;
mod transport;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use fuzz::{fuzz_answer, fuzz_request};
pub use listener::Listener;
pub use remote::Traffic;
pub use state::{FetchError, fetch};
pub use transport::Transport;

use headers::Membership;

use crate::error::Error;
use crate::members::Member;
use crate::metrics::Metrics;
use crate::mvcc::HashKv;
use crate::node::{BoxFuture, Outgoing, Overrun, Promise, Replaced, Unreplaced};
use crate::pb::LeaseTimeToLiveResponse;
use crate::raft::Message;

/// What the transport asks and tells its member. It is called on the transport's thread, so nothing
/// here may block.
pub trait Host: Send + Sync + 'static {
    /// A message came. Its sender is who it says, its addressee this member; what else it says is
    /// not yet believed.
    fn receive(&self, message: Message) -> Result<(), Overrun>;
    /// A message to a member was lost, or may have been.
    fn unreachable(&self, id: u64);
    /// What became of a snapshot to a member.
    fn snapshot_sent(&self, id: u64, arrived: bool);
    /// A snapshot comes, with the file it stands for; what is refused is told to the sender. The
    /// file is whole when an empty chunk has come: a channel that ends before was cut off.
    fn receive_snapshot(
        &self,
        message: Message,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> BoxFuture<'static, Result<(), String>>;
    /// A member's connections were closed, and it takes no new ones: its process has died. Told
    /// once, until it is heard again.
    fn disconnected(&self, id: u64);
    /// Another member says that this one was removed: it must stop.
    fn removed(&self);
    /// Our newest state, for a member that lost its own. This may block.
    fn hand_out_state(&self) -> Result<Outgoing, Error>;
    /// Renews a lease whose deadline is kept here; its time to live in seconds.
    fn renew(&self, id: i64) -> BoxFuture<'static, Result<i64, Error>>;
    /// What is left of a lease whose deadline is kept here.
    fn time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> BoxFuture<'static, Result<LeaseTimeToLiveResponse, Error>>;
    /// What members were heard to promise since this one began.
    fn promises(&self) -> BTreeMap<u64, Promise>;
    /// Replaces the member with these peer URLs, if this member leads.
    fn replace(&self, peer_urls: Vec<String>) -> BoxFuture<'static, Result<Replaced, Unreplaced>>;
    /// Promotes a learner, if this member leads.
    fn promote(&self, id: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>>;
    /// The hash of the rows as of a revision.
    fn hash_kv(&self, revision: i64) -> BoxFuture<'static, Result<HashKv, Error>>;
    /// What the cluster says of an id.
    fn membership(&self, id: u64) -> Membership;
    /// The members, for one that joins.
    fn members(&self) -> Vec<Member>;
    /// What is counted of other members.
    fn metrics(&self) -> &Metrics;
    /// The version that the cluster agreed on, if it has.
    fn cluster_version(&self) -> Option<String>;
}
