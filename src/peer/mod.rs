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
//! | `/raft/probing` | GET | that somebody is here, and the time |
//! | `/members` | GET | the members, for one that joins |
//! | `/version` | GET | what is served, and what the cluster agreed on |
//!
//! In reading order: `codec` and `headers` are pure; `lane` is an outgoing stream, `remote` a
//! member with its lanes, `outward` what is asked of it (`dial`, with `patience`), `server` what it
//! is answered, `transport` all of them together.
//!
//! # Invariants
//!
//! 1. What another member can make us hold is bounded, whatever it claims or omits to read.
//! 2. Messages of one kind to one member arrive in the order they were sent, or not at all, as long
//!    as one stream lasts.
//! 3. Who is of another cluster, or removed, is neither heard nor answered with messages.
//!
//! Absent so far: TLS, snapshots (`/raft/snapshot`), the prober, and `/leases`, `/members/promote`,
//! `/members/hashkv`, `/downgrade/enabled`. The room is not connected to the driver, and the server
//! opens no peer listener.

pub mod codec;
pub mod headers;

mod dial;
mod lane;
mod outward;
mod patience;
mod remote;
mod server;
mod transport;

#[cfg(test)]
mod tests;

pub use remote::Traffic;
pub use transport::Transport;

use headers::Membership;

use crate::members::Member;
use crate::raft::Message;

/// The node had no room for a message, which is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// What the transport asks and tells its member. It is called on the transport's runtime, so
/// nothing here may block.
pub trait Host: Send + Sync + 'static {
    /// A message came. Its sender is who it says, its addressee this member; what else it says is
    /// not yet believed.
    fn receive(&self, message: Message) -> Result<(), Overrun>;
    /// A message to this member was lost, or may have been.
    fn unreachable(&self, id: u64);
    /// Another member says that this one was removed: it must stop.
    fn removed(&self);
    /// A member that is not known yet says where it is reached, so that it can be answered: see
    /// [`Transport::add`].
    fn introduced(&self, id: u64, peer_urls: Vec<String>);
    /// What the cluster says of an id.
    fn membership(&self, id: u64) -> Membership;
    /// The members, for one that joins.
    fn members(&self) -> Vec<Member>;
    /// The version that the cluster agreed on, if it has.
    fn cluster_version(&self) -> Option<String>;
}
