//! The sockets that other members call, bound before anything else is begun.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::patience::Patient;
use super::server::Desk;
use crate::config::{Scheme, Url};
use crate::limits;

/// The pause after a connection could not be accepted, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address. Until it is served, callers wait.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds a URL of `--listen-peer-urls`; port 0 picks a free port.
    pub fn bind(url: &Url) -> io::Result<Self> {
        match url.scheme {
            Scheme::Http => {}
            Scheme::Https | Scheme::Unix | Scheme::Unixs => {
                return Err(io::ErrorKind::Unsupported.into());
            }
        }
        let socket = std::net::TcpListener::bind(&url.address)?;
        rustix::net::listen(&socket, limits::LISTEN_BACKLOG)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers other members for as long as it is polled. Dropping it closes all connections.
    pub(super) async fn serve(self, desk: Desk, seats: Arc<Semaphore>) {
        let listener = TcpListener::from_std(self.socket).expect("a bound socket");
        let mut connections = JoinSet::new();
        loop {
            let seat = seats.clone().acquire_owned().await.expect("nobody closes the semaphore");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let desk = desk.clone();
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
    let stream = Patient::new(stream, limits::PEER_IO_TIMEOUT);
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP1_HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a peer's connection ended badly");
    }
}
