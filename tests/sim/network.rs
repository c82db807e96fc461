//! The network between simulated members: what it is given, and what it does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use kvorum::error::Error;
use kvorum::members::Member;
use kvorum::mvcc::HashKv;
use kvorum::node::{BoxFuture, Outgoing, Transport};
use kvorum::pb::LeaseTimeToLiveResponse;
use kvorum::raft::Message;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A question beside raft.
pub enum Question {
    Renew(i64, oneshot::Sender<Result<i64, Error>>),
    TimeToLive(i64, bool, oneshot::Sender<Result<LeaseTimeToLiveResponse, Error>>),
    Promote(u64, oneshot::Sender<Result<Vec<Member>, Error>>),
    HashKv(i64, oneshot::Sender<Result<HashKv, Error>>),
}

/// What a member gave the network.
pub enum Sent {
    Message(Message),
    Snapshot(Message, Outgoing),
    Question { to: u64, question: Question },
}

/// What all members' transports share.
#[derive(Default)]
pub struct Wire {
    /// With the number of the process that sent it.
    pub sent: Vec<(u64, Sent)>,
    /// Since when members have been connected, each way by itself.
    pub since: BTreeMap<(u64, u64), Instant>,
    /// Who is not heard by whom.
    pub cut: BTreeSet<(u64, u64)>,
}

/// A member's end of the network.
pub struct Link {
    pub own: u64,
    pub wire: Arc<Mutex<Wire>>,
}

impl Link {
    fn ask<T: Send + 'static>(
        &self,
        to: u64,
        question: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Question,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let (reply, answer) = oneshot::channel();
        let question = question(reply);
        self.wire.lock().sent.push((self.own, Sent::Question { to, question }));
        Box::pin(async { answer.await.unwrap_or(Err(Error::NoLeader)) })
    }
}

impl Transport for Link {
    fn send(&self, message: Message) {
        self.wire.lock().sent.push((self.own, Sent::Message(message)));
    }

    fn send_snapshot(&self, message: Message, state: Outgoing) {
        self.wire.lock().sent.push((self.own, Sent::Snapshot(message, state)));
    }

    fn set(&self, _: u64, _: Vec<String>) {}

    fn remove(&self, _: u64) {}

    fn active_since(&self, id: u64) -> Option<Instant> {
        let wire = self.wire.lock();
        let (out, back) = (wire.since.get(&(self.own, id)), wire.since.get(&(id, self.own)));
        Some(*out?.max(back?))
    }

    fn renew(&self, leader: u64, lease: i64) -> BoxFuture<'static, Result<i64, Error>> {
        self.ask(leader, |reply| Question::Renew(lease, reply))
    }

    fn time_to_live(
        &self,
        leader: u64,
        lease: i64,
        keys: bool,
    ) -> BoxFuture<'static, Result<LeaseTimeToLiveResponse, Error>> {
        self.ask(leader, |reply| Question::TimeToLive(lease, keys, reply))
    }

    fn promote(&self, leader: u64, id: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>> {
        self.ask(leader, |reply| Question::Promote(id, reply))
    }

    fn hash_kv(&self, id: u64, revision: i64) -> BoxFuture<'static, Result<HashKv, Error>> {
        self.ask(id, |reply| Question::HashKv(revision, reply))
    }
}
