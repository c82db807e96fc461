//! Members for tests: a transport that listens, and a host that remembers what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use crate::config::{PeerTls, Scheme, Url};
use crate::error::Error;
use crate::members::Member;
use crate::metrics::Metrics;
use crate::mvcc::HashKv;
use crate::node::{BoxFuture, Overrun, Promise, Replaced, Unreplaced};
use crate::pb::LeaseTimeToLiveResponse;
use crate::peer::codec::Kind;
use crate::peer::headers::{Identity, Membership};
use crate::peer::{Host, Listener, Transport};
use crate::raft::{Message, MessageType};
use crate::tls::Peers;

/// What a member was asked and told.
pub(super) struct Witness {
    pub received: Mutex<Vec<Message>>,
    /// Gets a copy of what is received.
    pub forward: Mutex<Option<mpsc::UnboundedSender<Message>>>,
    pub unreachable: Mutex<BTreeMap<u64, u64>>,
    pub removed: AtomicBool,
    pub disconnected: Mutex<Vec<u64>>,
    /// What became of snapshots sent.
    pub snapshots_sent: Mutex<Vec<(u64, bool)>>,
    /// Snapshots that came.
    pub snapshots: Arc<Mutex<Vec<Taken>>>,
    /// Snapshots are taken in while it is open.
    pub snapshot_gate: Arc<Semaphore>,
    /// With what snapshots are refused.
    pub takes_no_snapshot: Mutex<Option<&'static str>>,
    pub gone: Mutex<BTreeSet<u64>>,
    pub strangers: Mutex<BTreeSet<u64>>,
    /// How many more messages find no room.
    pub no_room: AtomicU64,
    pub metrics: Metrics,
}

/// A snapshot, as far as it came.
pub(super) struct Taken {
    pub message: Message,
    pub bytes: Vec<u8>,
    /// The end was seen, and not only no more.
    pub whole: bool,
    pub error: Option<io::ErrorKind>,
}

impl Default for Witness {
    fn default() -> Self {
        Self {
            received: Mutex::default(),
            forward: Mutex::default(),
            unreachable: Mutex::default(),
            removed: AtomicBool::default(),
            disconnected: Mutex::default(),
            snapshots_sent: Mutex::default(),
            snapshots: Arc::default(),
            snapshot_gate: Arc::new(Semaphore::new(1)),
            takes_no_snapshot: Mutex::default(),
            gone: Mutex::default(),
            strangers: Mutex::default(),
            no_room: AtomicU64::default(),
            metrics: Metrics::new(false),
        }
    }
}

impl Witness {
    pub fn unreachable_count(&self, id: u64) -> u64 {
        self.unreachable.lock().get(&id).copied().unwrap_or(0)
    }

    /// The indexes of messages of a type from a member, in the order they came.
    pub fn indexes(&self, kind: MessageType, from: u64) -> Vec<u64> {
        let received = self.received.lock();
        let wanted = received.iter().filter(|each| each.msg_type() == kind && each.from == from);
        wanted.map(|message| message.index).collect()
    }
}

impl Host for Witness {
    fn receive(&self, message: Message) -> Result<(), Overrun> {
        let less = |left: u64| left.checked_sub(1);
        if self.no_room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Err(Overrun);
        }
        if let Some(forward) = self.forward.lock().as_ref() {
            let _ = forward.send(message.clone());
        }
        self.received.lock().push(message);
        Ok(())
    }

    fn promises(&self) -> BTreeMap<u64, Promise> {
        BTreeMap::new()
    }

    fn replace(&self, _: Vec<String>) -> BoxFuture<'static, Result<Replaced, Unreplaced>> {
        Box::pin(async { Err(Unreplaced::NotLeader) })
    }

    fn unreachable(&self, id: u64) {
        *self.unreachable.lock().entry(id).or_default() += 1;
    }

    fn removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    fn snapshot_sent(&self, id: u64, arrived: bool) {
        self.snapshots_sent.lock().push((id, arrived));
    }

    fn receive_snapshot(
        &self,
        message: Message,
        mut chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let (snapshots, refused) = (self.snapshots.clone(), *self.takes_no_snapshot.lock());
        let gate = self.snapshot_gate.clone();
        Box::pin(async move {
            if let Some(refused) = refused {
                return Err(refused.to_owned());
            }
            let mut taken = Taken { message, bytes: Vec::new(), whole: false, error: None };
            let _open = gate.acquire().await;
            while let Some(chunk) = chunks.recv().await {
                match chunk {
                    Ok(chunk) => {
                        taken.whole = chunk.is_empty();
                        taken.bytes.extend_from_slice(&chunk);
                    }
                    Err(error) => taken.error = Some(error.kind()),
                }
            }
            let whole = taken.whole;
            snapshots.lock().push(taken);
            whole.then_some(()).ok_or_else(|| "half of it".to_owned())
        })
    }

    fn disconnected(&self, id: u64) {
        self.disconnected.lock().push(id);
    }

    fn hand_out_state(&self) -> Result<crate::node::Outgoing, crate::error::Error> {
        Err(crate::error::Error::Stopped)
    }

    fn renew(&self, id: i64) -> BoxFuture<'static, Result<i64, Error>> {
        Box::pin(async move { if id == 7 { Ok(60) } else { Err(Error::LeaseNotFound) } })
    }

    fn time_to_live(
        &self,
        id: i64,
        _: bool,
    ) -> BoxFuture<'static, Result<LeaseTimeToLiveResponse, Error>> {
        let answer = LeaseTimeToLiveResponse { id, ttl: 59, granted_ttl: 60, ..Default::default() };
        Box::pin(async move { Ok(answer) })
    }

    fn promote(&self, id: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>> {
        let learner = Member { id, name: "l".into(), ..Member::default() };
        Box::pin(
            async move { if id == 9 { Err(Error::LearnerNotReady) } else { Ok(vec![learner]) } },
        )
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'static, Result<HashKv, Error>> {
        Box::pin(async move {
            match revision {
                1 => Err(Error::Compacted),
                2 => Err(Error::FutureRev),
                hash_revision => {
                    Ok(HashKv { hash: 5, compact_revision: -1, hash_revision, revision: 8 })
                }
            }
        })
    }

    fn membership(&self, id: u64) -> Membership {
        match (self.gone.lock().contains(&id), self.strangers.lock().contains(&id)) {
            (true, _) => Membership::Removed,
            (false, true) => Membership::Unknown,
            (false, false) => Membership::Member,
        }
    }

    fn members(&self) -> Vec<Member> {
        let urls = |url: &str| vec![url.to_owned()];
        vec![Member {
            id: 2_818_100_871_379_969_079,
            peer_urls: urls("http://127.0.0.1:24331"),
            name: "r".to_owned(),
            client_urls: urls("http://127.0.0.1:24332"),
            ..Member::default()
        }]
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn cluster_version(&self) -> Option<String> {
        Some("3.7.0".to_owned())
    }
}

/// A member that listens until it is dropped.
pub(super) struct Node {
    pub id: u64,
    scheme: &'static str,
    pub address: SocketAddr,
    pub witness: Arc<Witness>,
    pub transport: Transport,
}

/// A listener on a free port.
pub(super) fn listener() -> Listener {
    Listener::bind(&Url::http("127.0.0.1:0"), None).expect("a free port")
}

impl Node {
    pub fn start(member_id: u64, cluster_id: u64) -> Self {
        Self::start_on(listener(), member_id, cluster_id)
    }

    pub fn start_on(listener: Listener, member_id: u64, cluster_id: u64) -> Self {
        Self::begin(listener, "http", None, (member_id, cluster_id))
    }

    /// A member of an encrypted cluster, at an address.
    pub fn start_tls(address: &str, ids: (u64, u64), tls: &PeerTls) -> Self {
        let tls = Arc::new(Peers::new(tls).expect("good files"));
        let url = Url { scheme: Scheme::Https, address: address.to_owned() };
        let listener = Listener::bind(&url, Some(&tls)).expect("a free port");
        Self::begin(listener, "https", Some(tls), ids)
    }

    fn begin(
        listener: Listener,
        scheme: &'static str,
        tls: Option<Arc<Peers>>,
        (member_id, cluster_id): (u64, u64),
    ) -> Self {
        let address = listener.address();
        let peer_urls = vec![format!("{scheme}://{address}")];
        let witness = Arc::new(Witness::default());
        let identity = Identity { member_id, cluster_id, peer_urls };
        let transport = Transport::start(identity, witness.clone(), vec![listener], tls);
        let transport = transport.expect("the process may have a thread");
        Self { id: member_id, scheme, address, witness, transport }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// A message of this member.
    pub fn message(&self, kind: MessageType, to: u64, index: u64) -> Message {
        let msg_type = kind.into();
        Message { msg_type, from: self.id, to, term: 2, log_term: 2, index, ..Message::default() }
    }

    pub fn sent(&self, to: u64) -> u64 {
        self.transport.traffic(to).expect("it was added").sent
    }

    pub async fn until_streaming(&self, to: u64, kind: Kind) {
        let remote = || self.transport.remote(to);
        let streams = || remote().is_some_and(|remote| remote.lane(kind).is_open());
        until("a stream", streams).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
