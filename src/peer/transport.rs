//! All members together: who there is, what is sent to them, and the thread all of it runs on.
//!
//! One thread is enough for the handful of members a cluster has, and keeps them off the threads
//! that serve clients. [`Transport::send`] only puts a message into a queue; whoever writes the
//! stream takes all that waits there at once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::codec::Kind;
use super::headers::Identity;
use super::listener::Gate;
use super::outward::Line;
use super::prober::ROUND_TRIPPERS;
use super::remote::{Remote, Traffic};
use super::server::Desk;
use super::snapshot::Report;
use super::{Host, Listener};
use crate::error::Error;
use crate::limits;
use crate::members::Member;
use crate::mvcc::HashKv;
use crate::node::{self, BoxFuture, Outgoing};
use crate::pb::LeaseTimeToLiveResponse;
use crate::raft::{Message, MessageType};
use crate::tls::{self, Peers as Tls};

/// This member's end of all connections to others. Clones share it; with [`Transport::stop`] or the
/// last of them everything ends.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    /// Taken when it stops: its host may hold this transport.
    desk: RwLock<Option<Desk>>,
    runtime: Handle,
    thread: Mutex<Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The thread may be this one, so it is not waited for.
        drop(self.thread.lock().take());
    }
}

/// The other members, with the tasks that talk to them.
#[derive(Default)]
pub(super) struct Peers {
    by_id: RwLock<BTreeMap<u64, Peer>>,
}

struct Peer {
    remote: Arc<Remote>,
    /// The cluster is not yet known to have it: it is only answered.
    guest: bool,
    /// Dropping them ends them.
    tasks: JoinSet<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        Kind::ALL.iter().for_each(|kind| self.remote.lane(*kind).close());
    }
}

impl Peers {
    pub fn get(&self, id: u64) -> Option<Arc<Remote>> {
        self.by_id.read().get(&id).map(|peer| peer.remote.clone())
    }

    /// Makes it possible to answer a member that is not known yet. It is not asked for anything,
    /// and of many such members only the first ones are taken.
    pub fn welcome(&self, desk: &Desk, id: u64, peer_urls: Vec<String>) {
        let mut by_id = self.by_id.write();
        let guests = by_id.values().filter(|peer| peer.guest).count();
        if let Entry::Vacant(place) = by_id.entry(id)
            && guests < limits::PEER_GUESTS_MAX
        {
            place.insert(Peer::begin(desk, &Handle::current(), id, peer_urls, true));
        }
    }
}

impl Peer {
    fn begin(desk: &Desk, on: &Handle, id: u64, peer_urls: Vec<String>, guest: bool) -> Self {
        let (posts, to_post) = mpsc::channel(limits::PEER_POSTS_MAX);
        let metrics = desk.host.metrics().peers.of(desk.identity.member_id, id);
        let remote = Arc::new(Remote::new(id, peer_urls, posts, metrics));
        let line = desk.line(remote.clone());
        let mut tasks = JoinSet::new();
        if !guest {
            for kind in Kind::ALL {
                tasks.spawn_on(line.clone().listen(kind), on);
            }
            for round_tripper in ROUND_TRIPPERS {
                tasks.spawn_on(line.clone().probe(round_tripper), on);
            }
        }
        tasks.spawn_on(line.post_all(to_post), on);
        Self { remote, guest, tasks }
    }
}

impl Desk {
    fn line(&self, remote: Arc<Remote>) -> Line {
        let (identity, host) = (self.identity.clone(), self.host.clone());
        Line { identity, host, remote, tls: self.tls.clone() }
    }
}

impl Transport {
    /// A transport without other members, whose listeners are served from now on. Members with
    /// https URLs cannot be called without TLS.
    pub fn start(
        identity: Identity,
        host: Arc<dyn Host>,
        listeners: Vec<Listener>,
        tls: Option<Arc<Tls>>,
    ) -> io::Result<Self> {
        listeners.iter().try_for_each(Listener::listen)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        host.metrics().peers.know(identity.member_id, identity.member_id);
        let desk = Desk::new(identity, host, tls);
        let (stop, stopped) = oneshot::channel();
        let (handle, served) = (runtime.handle().clone(), desk.clone());
        let thread = thread::Builder::new()
            .name("peers".into())
            .spawn(move || run(runtime, listeners, served, stopped))?;
        let shared = Shared {
            desk: RwLock::new(Some(desk)),
            runtime: handle,
            thread: Mutex::new(Some((stop, thread))),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Ends all connections and closes the listeners; returns when they are closed.
    pub fn stop(&self) {
        let desk = self.shared.desk.write().take();
        let thread = self.shared.thread.lock().take();
        if let Some((stop, thread)) = thread {
            drop(stop);
            let _ = thread.join();
        }
        drop(desk);
    }

    /// Adds a member, or changes where it is. It is asked for its streams from now on.
    pub fn set(&self, id: u64, peer_urls: Vec<String>) {
        let desk = self.shared.desk.read();
        let Some(desk) = desk.as_ref() else { return };
        let mut by_id = desk.peers.by_id.write();
        let known = by_id.get(&id).filter(|peer| !peer.guest);
        if known.is_some_and(|peer| peer.remote.urls == peer_urls) {
            return;
        }
        let peer = Peer::begin(desk, &self.shared.runtime, id, peer_urls, false);
        let replaced = by_id.insert(id, peer);
        desk.host.metrics().peers.know(desk.identity.member_id, id);
        drop((by_id, replaced));
    }

    /// Ends all talk with a member.
    pub fn remove(&self, id: u64) {
        let desk = self.shared.desk.read();
        let Some(desk) = desk.as_ref() else { return };
        let removed = desk.peers.by_id.write().remove(&id);
        desk.host.metrics().peers.forget(desk.identity.member_id, id);
        drop(removed);
    }

    /// Sends a message to the member it is addressed to, without waiting. One that cannot be sent
    /// is dropped, and [`Host::unreachable`] is called.
    pub fn send(&self, message: Message) {
        let desk = self.shared.desk.read();
        let Some(desk) = desk.as_ref() else { return };
        let (to, is_snapshot) = (message.to, message.msg_type() == MessageType::MsgSnapshot);
        if is_snapshot {
            // Without the state it stands for it is of no use.
            desk.host.snapshot_sent(to, false);
            return;
        }
        let sent = desk.peers.get(to).is_some_and(|remote| remote.send(message));
        if !sent {
            desk.host.unreachable(to);
        }
    }

    /// Sends a snapshot and the state it stands for; [`Host::snapshot_sent`] is called at the end.
    pub fn send_snapshot(&self, message: Message, state: Outgoing) {
        let desk = self.shared.desk.read();
        let Some(desk) = desk.as_ref() else { return };
        let report = Report::new(desk.host.clone(), message.to);
        let mut by_id = desk.peers.by_id.write();
        let Some(peer) = by_id.get_mut(&message.to) else { return };
        while peer.tasks.try_join_next().is_some() {}
        let line = desk.line(peer.remote.clone());
        peer.tasks.spawn_on(line.send_snapshot(message, state, report), &self.shared.runtime);
    }

    /// Since when both of a member's streams are up.
    pub fn active_since(&self, id: u64) -> Option<Instant> {
        self.remote(id)?.active_since()
    }

    /// Asks a member, on this transport's thread; no leader, if it is not known.
    fn ask<T: Send + 'static, Asked: Future<Output = Result<T, Error>> + Send + 'static>(
        &self,
        id: u64,
        question: impl FnOnce(Line) -> Asked,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let desk = self.shared.desk.read();
        let line = desk.as_ref().and_then(|desk| Some(desk.line(desk.peers.get(id)?)));
        let Some(line) = line else { return Box::pin(async { Err(Error::NoLeader) }) };
        let asked = self.shared.runtime.spawn(question(line));
        Box::pin(async move { asked.await.unwrap_or(Err(Error::Stopped)) })
    }

    /// What has passed between this member and another.
    pub fn traffic(&self, id: u64) -> Option<Traffic> {
        Some(self.remote(id)?.counters.read())
    }

    pub(super) fn remote(&self, id: u64) -> Option<Arc<Remote>> {
        self.shared.desk.read().as_ref()?.peers.get(id)
    }
}

impl node::Transport for Transport {
    fn send(&self, message: Message) {
        Transport::send(self, message);
    }

    fn send_snapshot(&self, message: Message, state: Outgoing) {
        Transport::send_snapshot(self, message, state);
    }

    fn set(&self, id: u64, peer_urls: Vec<String>) {
        Transport::set(self, id, peer_urls);
    }

    fn remove(&self, id: u64) {
        Transport::remove(self, id);
    }

    fn active_since(&self, id: u64) -> Option<Instant> {
        Transport::active_since(self, id)
    }

    fn renew(&self, leader: u64, lease: i64) -> BoxFuture<'static, Result<i64, Error>> {
        self.ask(leader, move |line| line.renew(lease))
    }

    fn time_to_live(
        &self,
        leader: u64,
        lease: i64,
        keys: bool,
    ) -> BoxFuture<'static, Result<LeaseTimeToLiveResponse, Error>> {
        self.ask(leader, move |line| line.time_to_live(lease, keys))
    }

    fn promote(&self, leader: u64, id: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>> {
        self.ask(leader, move |line| line.promote(id))
    }

    fn hash_kv(&self, id: u64, revision: i64) -> BoxFuture<'static, Result<HashKv, Error>> {
        self.ask(id, move |line| line.hash_kv(revision))
    }
}

/// The thread: serves until nobody holds the other end of `stopped`.
fn run(runtime: Runtime, listeners: Vec<Listener>, desk: Desk, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        if desk.tls.is_some() {
            tls::warm_up();
        }
        let gate = Arc::new(Gate::new());
        let mut serving = JoinSet::new();
        for listener in listeners {
            serving.spawn(listener.serve(desk.clone(), gate.clone()));
        }
        let _ = stopped.await;
    });
    // A look-up of a name that takes long holds up nobody.
    runtime.shutdown_background();
}
