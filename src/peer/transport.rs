//! All members together: who there is, what is sent to them, and the listener they call.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Host;
use super::codec::Kind;
use super::headers::Identity;
use super::outward::Line;
use super::patience::Patient;
use super::remote::{Remote, Traffic};
use super::server::Desk;
use crate::limits;
use crate::raft::Message;

/// The pause after a connection could not be accepted, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// This member's end of all connections to others. Clones share it; with the last, its tasks end.
#[derive(Clone)]
pub struct Transport {
    desk: Desk,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("identity", &self.desk.identity).finish_non_exhaustive()
    }
}

/// The other members, with the tasks that talk to them.
#[derive(Default)]
pub(super) struct Peers {
    by_id: RwLock<BTreeMap<u64, Peer>>,
}

struct Peer {
    remote: Arc<Remote>,
    /// Dropping them ends them.
    _tasks: JoinSet<()>,
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
}

impl Transport {
    /// A transport without other members.
    pub fn new(identity: Identity, host: Arc<dyn Host>) -> Self {
        let (identity, peers) = (Arc::new(identity), Arc::new(Peers::default()));
        Self { desk: Desk { identity, host, peers } }
    }

    /// Begins to talk to a member, or to a known one at other addresses. It is asked for its
    /// streams from now on, on the runtime that this is called on.
    pub fn add(&self, id: u64, peer_urls: Vec<String>) {
        let (posts, to_post) = mpsc::channel(limits::PEER_POSTS_MAX);
        let remote = Arc::new(Remote::new(id, peer_urls, posts));
        let Desk { identity, host, peers } = &self.desk;
        let line = Line { identity: identity.clone(), host: host.clone(), remote: remote.clone() };
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL {
            tasks.spawn(line.clone().listen(kind));
        }
        tasks.spawn(line.post_all(to_post));
        let replaced = peers.by_id.write().insert(id, Peer { remote, _tasks: tasks });
        drop(replaced);
    }

    /// Ends all talk with a member.
    pub fn remove(&self, id: u64) {
        let removed = self.desk.peers.by_id.write().remove(&id);
        drop(removed);
    }

    /// Sends a message to the member it is addressed to, without waiting. One that cannot be sent
    /// is dropped, and [`Host::unreachable`] is called.
    pub fn send(&self, message: Message) {
        let to = message.to;
        let sent = self.desk.peers.get(to).is_some_and(|remote| remote.send(message));
        if !sent {
            self.desk.host.unreachable(to);
        }
    }

    /// What has passed between this member and another.
    pub fn traffic(&self, id: u64) -> Option<Traffic> {
        self.desk.peers.get(id).map(|remote| remote.counters.read())
    }

    /// Whether a member has asked for a stream and reads it.
    #[cfg(test)]
    pub(super) fn is_streaming(&self, id: u64, kind: Kind) -> bool {
        self.desk.peers.get(id).is_some_and(|remote| remote.lane(kind).is_open())
    }

    /// Answers other members for as long as it is polled. Dropping it closes all connections.
    pub async fn serve(self, listener: TcpListener) -> Infallible {
        let seats = Arc::new(Semaphore::new(limits::PEER_CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let seat = seats.clone().acquire_owned().await.expect("nobody closes the semaphore");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let desk = self.desk.clone();
                    connections.spawn(async move {
                        answer_all(desk, stream).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

/// Answers the requests of one connection.
async fn answer_all(desk: Desk, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP1_HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(Patient::new(stream)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a peer's connection ended badly");
    }
}
