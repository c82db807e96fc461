//! What the node needs of the edge that faces other members; `peer` implements it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::members::Member;
use crate::raft::Message;

/// An answer that is on its way.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends messages to other members and asks them for what is not in the log.
pub trait Transport: Send + Sync + 'static {
    /// Sends a message to the member it is addressed to, without waiting. Losses come back by
    /// `Handle::unreachable`.
    fn send(&self, message: Message);
    /// Sends a snapshot beside the other messages. How it ended always comes back by
    /// `Handle::snapshot_sent`.
    fn send_snapshot(&self, message: Message, state: Outgoing);
    /// Adds a member, or changes where it is.
    fn set(&self, id: u64, peer_urls: Vec<String>);
    /// Ends all talk with a member.
    fn remove(&self, id: u64);
    /// Since when a member's streams are up.
    fn active_since(&self, id: u64) -> Option<Instant>;
    /// Renews a lease at the leader; its time to live in seconds.
    fn renew(&self, leader: u64, lease: i64) -> BoxFuture<'static, Result<i64, Error>>;
    /// Asks the leader to promote a learner; the members after it.
    fn promote(&self, leader: u64, id: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>>;
    /// A member's hash of its key space up to a revision.
    fn hash_kv(&self, id: u64, revision: i64) -> BoxFuture<'static, Result<PeerHash, Error>>;
}

/// The state that goes with a snapshot: a bbolt file, piece by piece.
#[derive(Debug)]
pub struct Outgoing {
    /// The length of the file.
    pub bytes: u64,
    pub chunks: mpsc::Receiver<io::Result<Bytes>>,
}

/// A hash over the rows of a member, and what it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerHash {
    /// The member's newest revision.
    pub revision: i64,
    pub hash: u32,
    /// What was compacted when the hash was taken.
    pub compact_revision: i64,
    /// The last revision the hash covers.
    pub hash_revision: i64,
}

/// The node had no room for a message, which is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;
