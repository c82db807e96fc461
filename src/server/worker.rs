//! Workers: threads with a runtime each, among which connections are shared out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::connection::{self, Settings};
use crate::api::Router;
use crate::http::Surface;
use crate::limits;
use crate::node::Handle;

/// The longest that requests under way may hold up a shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A fresh connection.
pub(super) struct Accepted {
    pub socket: Socket,
    pub surface: Surface,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// A connected socket on its way to a worker's runtime.
pub(super) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// The receiving ends of all workers.
#[derive(Clone)]
pub(super) struct Hands {
    workers: Arc<Vec<Hand>>,
}

struct Hand {
    connections: Arc<AtomicUsize>,
    inbox: mpsc::UnboundedSender<Accepted>,
}

impl Hands {
    /// Gives a connection to the worker that has the fewest.
    pub fn give(&self, accepted: Accepted) {
        let least = self
            .workers
            .iter()
            .min_by_key(|hand| hand.connections.load(Ordering::Relaxed))
            .expect("there is at least one worker");
        least.connections.fetch_add(1, Ordering::Relaxed);
        // A worker that is gone is stopping; the client sees its connection closed.
        let _ = least.inbox.send(accepted);
    }
}

/// The threads of all workers.
pub(super) struct Workers {
    hands: Hands,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What every worker shares.
#[derive(Clone)]
struct Shared {
    router: Router,
    node: Handle,
    settings: Settings,
    handshakes: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Workers {
    /// Starts `count` workers.
    pub fn start(
        count: usize,
        router: Router,
        node: Handle,
        settings: Settings,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let handshakes = Arc::new(Semaphore::new(limits::TLS_HANDSHAKES_MAX));
        let shared = Shared { router, node, settings, handshakes, stopping };
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count {
            let (inbox, outbox) = mpsc::unbounded_channel();
            let connections = Arc::new(AtomicUsize::new(0));
            workers.push(Hand { connections: connections.clone(), inbox });
            let shared = shared.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || run(shared, connections, outbox))
                .expect("the process may start threads");
            threads.push(thread);
        }
        Self { hands: Hands { workers: Arc::new(workers) }, threads }
    }

    /// Where the acceptor leaves connections.
    pub fn hands(&self) -> Hands {
        self.hands.clone()
    }

    /// Waits until every worker has drained its connections.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn run(
    shared: Shared,
    connections: Arc<AtomicUsize>,
    mut inbox: mpsc::UnboundedReceiver<Accepted>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the process may have a runtime");
    runtime.block_on(async move {
        let mut stopping = shared.stopping.clone();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = inbox.recv() => {
                    let Some(accepted) = accepted else { break };
                    let (shared, connections) = (shared.clone(), connections.clone());
                    tasks.spawn(async move {
                        serve(shared, accepted).await;
                        connections.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Some(_) = tasks.join_next() => {}
                _ = stopping.wait_for(|stop| *stop) => break,
            }
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            tracing::warn!("some connections did not drain in time and are cut");
        }
    });
}

async fn serve(shared: Shared, accepted: Accepted) {
    let Shared { router, node, settings, handshakes, stopping } = shared;
    let surface = accepted.surface;
    let stream = match accepted.socket {
        Socket::Tcp(socket) => tokio::net::TcpStream::from_std(socket).map(Stream::Tcp),
        Socket::Unix(socket) => tokio::net::UnixStream::from_std(socket).map(Stream::Unix),
    };
    let served = match (stream, accepted.tls) {
        (Err(error), _) => return tracing::warn!(%error, "cannot serve a connection"),
        (Ok(Stream::Tcp(stream)), None) => {
            connection::serve(stream, router, node, surface, settings, stopping).await
        }
        (Ok(Stream::Unix(stream)), None) => {
            connection::serve(stream, router, node, surface, settings, stopping).await
        }
        (Ok(Stream::Tcp(stream)), Some(tls)) => match shake_hands(stream, tls, &handshakes).await {
            Some(stream) => {
                connection::serve(stream, router, node, surface, settings, stopping).await
            }
            None => return,
        },
        (Ok(Stream::Unix(stream)), Some(tls)) => {
            match shake_hands(stream, tls, &handshakes).await {
                Some(stream) => {
                    connection::serve(stream, router, node, surface, settings, stopping).await
                }
                None => return,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// A stream on the worker's own reactor.
enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

/// The encrypted stream; a client that is slow or has no right certificate is turned away.
async fn shake_hands<S>(
    stream: S,
    tls: Arc<rustls::ServerConfig>,
    handshakes: &Semaphore,
) -> Option<tokio_rustls::server::TlsStream<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let accept = async {
        let _permit = handshakes.acquire().await.map_err(std::io::Error::other)?;
        TlsAcceptor::from(tls).accept(stream).await
    };
    match tokio::time::timeout(limits::TLS_HANDSHAKE_TIMEOUT, accept).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::warn!(%error, "rejected connection on client endpoint");
            None
        }
        Err(_) => {
            tracing::warn!("rejected connection on client endpoint: TLS handshake timed out");
            None
        }
    }
}
