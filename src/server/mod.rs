//! The assembly of a member: listeners, workers, node, and the order they start and stop in.
//!
//! ```text
//! bind listeners ─▶ ask the other members ─▶ let them call ─▶ open storage ─▶ start node
//!     ─▶ accept who asks for metrics and health ─▶ lead or follow, publish ─▶ accept clients
//!     ─▶ ready
//! hand leadership over ─▶ health NOT_SERVING ─▶ stop accepting ─▶ GOAWAY, finish requests,
//!     end streams ─▶ stop node (last checkpoint) ─▶ done
//! ```
//!
//! - Metrics and health, on listeners of their own, do not wait until the member is ready: who
//!   finds out why it is not needs them then.
//! - Clients never take the last descriptors: the log and the state need files.
//! - Listeners are bound first: a taken port fails the start before storage is touched.
//! - Each worker is a thread with a runtime of its own. An acceptor hands every connection to the
//!   worker with the fewest, and it stays there: a request never changes threads.

mod bound;
mod client;
mod connection;
mod discovery;
mod introduction;
mod listener;
mod memory;
mod others;
mod repair;
mod replace;
mod seats;
mod wire;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::api::{Router, Serving};
use crate::config::Config;
use crate::http::Surface;
use crate::members::JoinError;
use crate::node::{self, BootError, Handle, Node};
use crate::peer;
use crate::peer::headers::Identity;
use crate::tls::{self, TlsError};
use crate::version;

pub use discovery::fuzz_dns;

use bound::Bound;
use client::Inside;
use connection::Settings;
use worker::Workers;

/// Why a member does not start. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {url}: {source}")]
    Listen { url: String, source: std::io::Error },
    #[error("{url} asks for TLS, but --cert-file and --key-file are not given")]
    NoCertificate { url: String },
    #[error(
        "this process may open {limit} files, which leaves none for clients; it needs {needed} \
         and more (ulimit -n, or LimitNOFILE= of systemd)"
    )]
    Descriptors { limit: u64, needed: u64 },
    #[error(
        "the rows of this member differ from those of {peer:x}: one of the two is corrupt. If the \
         other members agree among themselves, remove this member, and add it as a new one with an \
         empty data directory"
    )]
    Corrupt { peer: u64 },
    #[error(
        "the state of this member is damaged ({damage}), and no other member gave its own: {why}. \
         Start this member again when another one of its cluster runs; or restore a snapshot"
    )]
    Damaged { damage: String, why: String },
    #[error(
        "the log or the vote of this member is lost: {why}. It could undo what it agreed to, so it \
         must not come back under its id. {advice}"
    )]
    Forgotten { why: String, advice: String },
    #[error("this member is not replaced by itself: {why}")]
    Unreplaced { why: String },
    #[error(transparent)]
    Ask(#[from] peer::join::AskError),
    #[error(transparent)]
    Discovery(#[from] discovery::DiscoveryError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(
        "member {id:x} has already been bootstrapped: the other members know it, and its data \
         directory here is empty. Without its log and its vote it could undo what it agreed to. \
         Run `etcdctl member remove {id:x}` and `etcdctl member add {name}`, then start it with \
         --initial-cluster-state=existing; if the data is elsewhere, start it with that --data-dir"
    )]
    Bootstrapped { id: u64, name: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Node(#[from] node::BootError),
}

/// How often a member looks whether it was removed.
const REMOVAL_POLL: Duration = Duration::from_millis(100);
/// How long a removed member still answers its peers: of two voters the one that stays may need
/// its vote once more.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(1);

/// A member that has not been started.
pub struct Server;

/// A member at work. Dropping it stops it without waiting; [`Running::shutdown`] waits.
pub struct Running {
    node: Option<Node>,
    peers: peer::Transport,
    inside: Inside,
    /// What is still done of the start; it ends with this.
    errands: JoinSet<()>,
    addresses: Addresses,
    serving: Serving,
    close: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    acceptors: Vec<thread::JoinHandle<()>>,
    workers: Option<Workers>,
}

/// Where it is found; unix sockets are left out.
struct Addresses {
    clients: Vec<SocketAddr>,
    peers: Vec<SocketAddr>,
    metrics: Vec<SocketAddr>,
}

impl Server {
    /// Starts a member and returns when it serves.
    ///
    /// A member of several whose state is damaged takes another member's first; one whose log is
    /// lost is replaced, if the configuration says so.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let config = replace::resume(config).await?;
        match Self::begin(config.clone()).await {
            Ok(running) => Ok(running),
            Err(StartError::Node(BootError::Damaged(damage))) => {
                repair::repair(&config, &damage).await?;
                Self::begin(config).await
            }
            Err(refusal) => Self::begin(replace::replace(config, refusal).await?).await,
        }
    }

    async fn begin(config: Config) -> Result<Running, StartError> {
        let worker_threads = match config.worker_threads {
            0 => thread::available_parallelism().map_or(1, |cores| cores.get()),
            threads => threads,
        };
        let bound = Bound::to(&config, worker_threads)?;
        let addresses = Addresses {
            clients: bound.addresses(|surface| !is_metrics(surface)),
            peers: bound.peers.iter().map(peer::Listener::address).collect(),
            metrics: bound.addresses(is_metrics),
        };
        let Bound { listeners, peers: peer_listeners, tls, peer_tls } = bound;
        let config = discovery::settle(config).await?;
        let told = introduction::introduce(&config, peer_tls.as_ref()).await?;
        bound::listen(&peer_listeners)?;
        let joining = replace::is_joining(&config);
        let (settings, check) = (Settings::new(&config), config.initial_corrupt_check);
        let serving = Serving::new(config.stop_serving_on_defrag);
        let (made, peers) = std::sync::mpsc::channel();
        let connect = move |handle: &Handle| {
            let transport = connect(handle, peer_listeners, peer_tls)?;
            let _ = made.send(transport.clone());
            Ok(Arc::new(transport) as Arc<dyn node::Transport>)
        };
        let node = Node::start(config, told, Box::new(connect))?;
        let peers = peers.recv().expect("a node that started is connected");
        let handle = node.handle();
        introduce_oneself(&handle);
        let (metrics, clients) =
            listeners.into_iter().partition(|listener| is_metrics(listener.surface));
        let mut running = Running::begin(
            (node, peers),
            serving,
            addresses,
            settings,
            (worker_threads, tls.is_some()),
        );
        running.accept(metrics);
        for address in running.metrics_addresses() {
            tracing::info!(%address, "serving metrics and health");
        }
        // Until then clients wait in the kernel's queue, as with etcd.
        if let Err(refusal) = await_ready(&handle, check).await {
            // It would go on as a member without anybody who could stop it.
            running.shutdown().await;
            return Err(refusal);
        }
        describe_cluster(&handle).await;
        if let Some(note) = joining {
            running.errands.spawn(replace::promote(handle, note));
        }
        running.accept(clients);
        Ok(running)
    }
}

/// Returns when a member may serve; or why it may not, if its rows are to be compared.
async fn await_ready(node: &Handle, check: bool) -> Result<(), StartError> {
    node.ready().await?;
    match check.then_some(node.contradicted()) {
        Some(contradicted) => match contradicted.await {
            Ok(Some(peer)) => Err(StartError::Corrupt { peer }),
            Ok(None) | Err(_) => Ok(()),
        },
        None => Ok(()),
    }
}

/// Sets the metrics that say who this member is.
fn introduce_oneself(node: &Handle) {
    let (metrics, own) = (node.metrics(), format!("{:x}", node.member_id()));
    metrics.server_id.with_label_values(&[&own]).set(1);
    metrics.server_version.with_label_values(&[version::SERVER]).set(1);
}

/// Sets the metric that says what the cluster agreed on.
async fn describe_cluster(node: &Handle) {
    let metrics = node.metrics();
    let agreed = node.inspect(|machine| machine.cluster_version().map(str::to_owned)).await;
    let Ok(agreed) = agreed else { return };
    // The label is the minor version, without the patch.
    if let Some((minor, _)) = agreed.as_deref().and_then(|version| version.rsplit_once('.')) {
        metrics.cluster_version.with_label_values(&[minor]).set(1);
    }
}

fn is_metrics(surface: Surface) -> bool {
    surface == Surface::Metrics
}

/// Begins to talk to the other members in the name of `node`.
fn connect(
    node: &Handle,
    listeners: Vec<peer::Listener>,
    tls: Option<Arc<tls::Peers>>,
) -> std::io::Result<peer::Transport> {
    let identity = Identity {
        member_id: node.member_id(),
        cluster_id: node.cluster_id(),
        peer_urls: node.peer_urls(),
    };
    peer::Transport::start(identity, Arc::new(node.clone()), listeners, tls)
}

impl Running {
    /// A node with everything that serves it, and no listener yet.
    fn begin(
        (node, peers): (Node, peer::Transport),
        serving: Serving,
        addresses: Addresses,
        settings: Settings,
        (worker_threads, tls): (usize, bool),
    ) -> Self {
        let handle = node.handle();
        let (close, _) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let accounts = node::Accounts::new(memory::for_clients());
        let router = Router::new(handle.clone(), serving.clone(), accounts, stopping.clone());
        let inside = Inside {
            router: router.clone(),
            node: handle.clone(),
            settings: settings.clone(),
            stopping: stopping.clone(),
        };
        let workers = Workers::start(worker_threads, tls, router, handle, settings, stopping);
        Self {
            node: Some(node),
            peers,
            inside,
            errands: JoinSet::new(),
            addresses,
            serving,
            close,
            stop,
            acceptors: Vec::new(),
            workers: Some(workers),
        }
    }

    /// Serves whoever comes to these listeners.
    fn accept(&mut self, listeners: Vec<listener::Listener>) {
        if let Some(workers) = &self.workers {
            let closing = self.close.subscribe();
            self.acceptors.push(listener::start(listeners, workers.hands(), closing));
        }
    }

    /// Where clients are served, in the order of the configuration; unix sockets are left out.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.addresses.clients
    }

    /// Where other members are answered.
    pub fn peer_addresses(&self) -> &[SocketAddr] {
        &self.addresses.peers
    }

    /// Where metrics and health are served apart.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.addresses.metrics
    }

    /// The node behind the listeners.
    pub fn node(&self) -> &Handle {
        &self.inside.node
    }

    /// A channel to this member within the process, for the clients in [`crate::pb`]. It needs no
    /// address and no certificate; its work is done on the caller's runtime.
    pub fn client(&self) -> Channel {
        self.inside.channel()
    }

    /// Returns when this member was removed from its cluster and has told its peers what they may
    /// still wait for: it should be shut down.
    pub async fn removed(&self) {
        while !self.node().is_removed() {
            tokio::time::sleep(REMOVAL_POLL).await;
        }
        tokio::time::sleep(REMOVAL_PATIENCE).await;
    }

    /// Stops: leadership goes to another member, whoever waits for news of this one's health hears
    /// that it goes, no new connections are taken, requests under way finish, streams end, state is
    /// checkpointed.
    pub async fn shutdown(mut self) {
        self.node().hand_over().await;
        self.serving.leave().await;
        let _ = self.close.send(true);
        let (acceptors, workers, node) =
            (std::mem::take(&mut self.acceptors), self.workers.take(), self.node.take());
        let (peers, stop) = (self.peers.clone(), self.stop.clone());
        let stopping = tokio::task::spawn_blocking(move || {
            for acceptor in acceptors {
                let _ = acceptor.join();
            }
            // Not before: whoever is told to go would come back at once, to be cut off unheard.
            let _ = stop.send(true);
            if let Some(workers) = workers {
                workers.join();
            }
            if let Some(node) = node {
                node.stop();
            }
            peers.stop();
        });
        let _ = stopping.await;
    }
}
