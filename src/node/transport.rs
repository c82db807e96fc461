//! The way to the other members, as the driver sees it.
//!
//! What carries messages is an edge, above this floor: the assembly hands it to the node, and the
//! node's threads know it by this trait alone. Nothing is promised to arrive.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::members::Member;
use crate::mvcc::HashKv;
use crate::pb::LeaseTimeToLiveResponse;
use crate::raft::Message;

/// An answer that is on its way.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The node had no room for a message, which is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// A state on its way to another member: a bbolt file, in pieces.
#[derive(Debug)]
pub struct Outgoing {
    /// How many bytes the pieces come to.
    pub bytes: u64,
    /// It ends early with an error if the state cannot be read.
    pub chunks: mpsc::Receiver<io::Result<Bytes>>,
}

/// What the node needs of the edge towards other members. No call waits.
pub trait Transport: Send + Sync + 'static {
    /// Sends a message to the member it names. Whether it was lost is told by
    /// [`super::Handle::unreachable`].
    fn send(&self, message: Message);

    /// Sends a state to the member the message names. How that ended is always told, by
    /// [`super::Handle::snapshot_sent`].
    fn send_snapshot(&self, message: Message, state: Outgoing);

    /// Begins to talk to a member, or to a known one at other addresses.
    fn set(&self, id: u64, peer_urls: Vec<String>);

    /// Ends all talk with a member.
    fn remove(&self, id: u64);

    /// Since when a member's streams have been up; `None` while they are not.
    fn active_since(&self, id: u64) -> Option<Instant>;

    /// Renews a lease at the leader; its time to live in seconds.
    fn renew(&self, leader: u64, lease: i64) -> BoxFuture<'static, Result<i64, Error>>;

    /// What the leader knows of a lease's time to live.
    fn time_to_live(
        &self,
        leader: u64,
        lease: i64,
        keys: bool,
    ) -> BoxFuture<'static, Result<LeaseTimeToLiveResponse, Error>>;

    /// Has the leader promote a learner; the members after that.
    fn promote(&self, leader: u64, id: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>>;

    /// Asks a member for its hash of the rows as of a revision.
    fn hash_kv(&self, id: u64, revision: i64) -> BoxFuture<'static, Result<HashKv, Error>>;
}

/// Nobody to talk to: for a member that never has peers, such as one being restored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Transport for Alone {
    fn send(&self, _: Message) {}

    fn send_snapshot(&self, _: Message, _: Outgoing) {}

    fn set(&self, _: u64, _: Vec<String>) {}

    fn remove(&self, _: u64) {}

    fn active_since(&self, _: u64) -> Option<Instant> {
        None
    }

    fn renew(&self, _: u64, _: i64) -> BoxFuture<'static, Result<i64, Error>> {
        Box::pin(async { Err(Error::NoLeader) })
    }

    fn time_to_live(
        &self,
        _: u64,
        _: i64,
        _: bool,
    ) -> BoxFuture<'static, Result<LeaseTimeToLiveResponse, Error>> {
        Box::pin(async { Err(Error::NoLeader) })
    }

    fn promote(&self, _: u64, _: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>> {
        Box::pin(async { Err(Error::NoLeader) })
    }

    fn hash_kv(&self, _: u64, _: i64) -> BoxFuture<'static, Result<HashKv, Error>> {
        Box::pin(async { Err(Error::NoLeader) })
    }
}
