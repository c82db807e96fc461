//! Workers: threads with a runtime each, among which connections are shared out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::connection::{self, Served, Settings};
use super::seats::Seat;
use crate::api::Router;
use crate::http::Surface;
use crate::limits;
use crate::node::Handle;
use crate::tls::{self, Caller, Door, Endpoint};

/// The longest that requests under way may hold up a shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Of so many tasks run, one is one that another thread woke: the answer to a proposal. A task may
/// be a page of a long range or a hundred requests of a flood, so that tokio's 31 are many answers
/// a second late.
const WOKEN_FROM_OUTSIDE: u32 = 2;

/// Tasks run before sockets and timers are looked at; tokio's 61 may be as long.
const SOCKETS: u32 = 16;

/// A fresh connection.
pub(super) struct Accepted {
    pub socket: Socket,
    pub surface: Surface,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The client's address, for the log.
    pub from: String,
    pub seat: Seat,
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
    /// Holds what has a seat, and seats are counted.
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
    door: Arc<Door>,
    stopping: watch::Receiver<bool>,
}

impl Workers {
    /// Starts `count` workers, ready for TLS if they are to speak it.
    pub fn start(
        count: usize,
        tls: bool,
        router: Router,
        node: Handle,
        settings: Settings,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let (time, most) = (limits::TLS_HANDSHAKE_TIMEOUT, limits::TLS_HANDSHAKES_MAX);
        let door = Door::new(Endpoint::Client, time, most);
        let shared = Shared { router, node, settings, door: Arc::new(door), stopping };
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count {
            let (inbox, outbox) = mpsc::unbounded_channel();
            let connections = Arc::new(AtomicUsize::new(0));
            workers.push(Hand { connections: connections.clone(), inbox });
            let shared = shared.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    if tls {
                        tls::warm_up();
                    }
                    run(shared, connections, outbox);
                })
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
        .global_queue_interval(WOKEN_FROM_OUTSIDE)
        .event_interval(SOCKETS)
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
    let Accepted { socket, surface, tls, from, seat } = accepted;
    let served = async {
        match socket {
            Socket::Tcp(socket) => {
                let stream = tokio::net::TcpStream::from_std(socket)?;
                receive(shared, stream, surface, tls, &from).await
            }
            Socket::Unix(socket) => {
                let stream = tokio::net::UnixStream::from_std(socket)?;
                receive(shared, stream, surface, tls, &from).await
            }
        }
    };
    let served = tokio::select! {
        served = served => served,
        () = seat.called_off() => Err("another needs its seat more".into()),
    };
    if let Err(error) = served {
        tracing::debug!(remote_addr = from, %error, "a connection ended badly");
    }
    drop(seat);
}

/// Serves a caller that makes it through the door before the member stops.
async fn receive<S: Caller>(
    shared: Shared,
    mut stream: S,
    surface: Surface,
    tls: Option<Arc<rustls::ServerConfig>>,
    from: &str,
) -> Served {
    let Shared { router, node, settings, door, stopping } = shared;
    let mut stop = stopping.clone();
    let stop = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    match tls {
        None => {
            let hears = tokio::select! {
                hears = door.hears_plain_text(&mut stream, from) => hears,
                () = stop => false,
            };
            if !hears {
                return Ok(());
            }
            connection::serve(stream, router, node, surface, settings, stopping).await
        }
        Some(tls) => {
            let shaken = tokio::select! {
                shaken = door.shake_hands(stream, tls, from) => shaken,
                () = stop => None,
            };
            let Some(stream) = shaken else { return Ok(()) };
            connection::serve(stream, router, node, surface, settings, stopping).await
        }
    }
}
