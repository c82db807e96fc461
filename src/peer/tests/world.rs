//! Members for tests: a transport that listens, and a host that remembers what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::members::Member;
use crate::peer::codec::Kind;
use crate::peer::headers::{Identity, Membership};
use crate::peer::{Host, Overrun, Transport};
use crate::raft::{Message, MessageType};

/// What a member was asked and told.
#[derive(Default)]
pub(super) struct Witness {
    pub received: Mutex<Vec<Message>>,
    /// Gets a copy of what is received.
    pub forward: Mutex<Option<mpsc::UnboundedSender<Message>>>,
    pub unreachable: Mutex<BTreeMap<u64, u64>>,
    pub removed: AtomicBool,
    pub introduced: Mutex<BTreeMap<u64, Vec<String>>>,
    pub gone: Mutex<BTreeSet<u64>>,
    pub strangers: Mutex<BTreeSet<u64>>,
    /// How many more messages find no room.
    pub no_room: AtomicU64,
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

    fn unreachable(&self, id: u64) {
        *self.unreachable.lock().entry(id).or_default() += 1;
    }

    fn removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    fn introduced(&self, id: u64, peer_urls: Vec<String>) {
        self.introduced.lock().insert(id, peer_urls);
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

    fn cluster_version(&self) -> Option<String> {
        Some("3.7.0".to_owned())
    }
}

/// A member that listens until it is dropped.
pub(super) struct Node {
    pub id: u64,
    pub address: SocketAddr,
    pub witness: Arc<Witness>,
    pub transport: Transport,
    _tasks: JoinSet<()>,
}

impl Node {
    pub async fn start(member_id: u64, cluster_id: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::start_on(listener, member_id, cluster_id)
    }

    pub fn start_on(listener: TcpListener, member_id: u64, cluster_id: u64) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let peer_urls = vec![format!("http://{address}")];
        let witness = Arc::new(Witness::default());
        let identity = Identity { member_id, cluster_id, peer_urls };
        let transport = Transport::new(identity, witness.clone());
        let (mut tasks, serving) = (JoinSet::new(), transport.clone());
        tasks.spawn(async move { match serving.serve(listener).await {} });
        Self { id: member_id, address, witness, transport, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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
        until("a stream", || self.transport.is_streaming(to, kind)).await;
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
