//! Listeners and the acceptor thread that empties them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::seats::Seats;
use super::worker::{Accepted, Hands, Socket};
use crate::config::{Scheme, Url};
use crate::http::Surface;
use crate::limits;

/// A bound address.
pub(super) struct Listener {
    socket: Bound,
    pub surface: Surface,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// How many more connections may be open, shared with other listeners.
    seats: Arc<Seats>,
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    /// Binds a URL; port 0 picks a free port.
    pub fn bind(
        url: &Url,
        surface: Surface,
        tls: Option<Arc<rustls::ServerConfig>>,
        seats: Arc<Seats>,
    ) -> io::Result<Self> {
        let socket = match url.scheme {
            Scheme::Http | Scheme::Https => {
                let socket = std::net::TcpListener::bind(&url.address)?;
                // The standard library asks for 128, which clients that all come back exceed.
                rustix::net::listen(&socket, limits::LISTEN_BACKLOG)?;
                socket.set_nonblocking(true)?;
                Bound::Tcp(socket)
            }
            Scheme::Unix | Scheme::Unixs => {
                // A socket that a dead process left behind would keep the address taken.
                if std::os::unix::net::UnixStream::connect(&url.address).is_err() {
                    let _ = std::fs::remove_file(&url.address);
                }
                let socket = std::os::unix::net::UnixListener::bind(&url.address)?;
                rustix::net::listen(&socket, limits::LISTEN_BACKLOG)?;
                socket.set_nonblocking(true)?;
                Bound::Unix(socket)
            }
        };
        Ok(Self { socket, surface, tls, seats })
    }

    /// The bound address of a TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Bound::Tcp(socket) => socket.local_addr().ok(),
            Bound::Unix(_) => None,
        }
    }
}

/// Starts the acceptor. It ends when `stopping` turns true, and closes the listeners.
pub(super) fn start(
    listeners: Vec<Listener>,
    hands: Hands,
    stopping: watch::Receiver<bool>,
) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name("acceptor".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("the process may have a runtime");
            runtime.block_on(async move {
                let mut tasks = tokio::task::JoinSet::new();
                for listener in listeners {
                    tasks.spawn(accept_all(listener, hands.clone(), stopping.clone()));
                }
                while tasks.join_next().await.is_some() {}
            });
        })
        .expect("the process may start threads")
}

async fn accept_all(listener: Listener, hands: Hands, mut stopping: watch::Receiver<bool>) {
    let Listener { socket, surface, tls, seats } = listener;
    let accept = async {
        match socket {
            Bound::Tcp(socket) => {
                let socket = TcpListener::from_std(socket).expect("a bound socket");
                loop {
                    let seat = seats.sit_down().await;
                    if let Some((stream, from)) = settle(socket.accept().await).await {
                        let _ = stream.set_nodelay(true);
                        let (socket, from) = (stream.into_std().map(Socket::Tcp), from.to_string());
                        seats.take(&seat);
                        hand_over(&hands, socket, |socket| {
                            let tls = tls.clone();
                            Accepted { socket, surface, tls, from, seat }
                        });
                    }
                }
            }
            Bound::Unix(socket) => {
                let socket = UnixListener::from_std(socket).expect("a bound socket");
                loop {
                    let seat = seats.sit_down().await;
                    if let Some((stream, _)) = settle(socket.accept().await).await {
                        let (socket, from) = (stream.into_std().map(Socket::Unix), "@".to_owned());
                        seats.take(&seat);
                        hand_over(&hands, socket, |socket| {
                            let tls = tls.clone();
                            Accepted { socket, surface, tls, from, seat }
                        });
                    }
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

/// An accepted stream, or a pause: running out of descriptors must not become a busy loop.
async fn settle<S>(accepted: io::Result<S>) -> Option<S> {
    match accepted {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn hand_over(hands: &Hands, socket: io::Result<Socket>, accepted: impl FnOnce(Socket) -> Accepted) {
    match socket {
        Ok(socket) => hands.give(accepted(socket)),
        Err(error) => tracing::warn!(%error, "cannot hand over a connection"),
    }
}
