//! The sockets that other members call, bound before anything else is begun.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::patience::Patient;
use super::server::Desk;
use crate::config::{Scheme, Url};
use crate::limits;
use crate::tls::{Door, Endpoint, Peers};

/// The pause after a connection could not be accepted, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address. Until it is served, callers wait.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
    /// What an https URL is served with.
    tls: Option<Arc<Peers>>,
}

impl Listener {
    /// Binds a URL of `--listen-peer-urls`; port 0 picks a free port. An https URL needs TLS.
    pub fn bind(url: &Url, tls: Option<&Arc<Peers>>) -> io::Result<Self> {
        let tls = match (url.scheme, tls) {
            (Scheme::Http, _) => None,
            (Scheme::Https, Some(tls)) => Some(tls.clone()),
            (Scheme::Https, None) => {
                let why = "--peer-cert-file and --peer-key-file are not given";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            (Scheme::Unix | Scheme::Unixs, _) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = std::net::TcpListener::bind(&url.address)?;
        rustix::net::listen(&socket, limits::LISTEN_BACKLOG)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers other members for as long as it is polled. Dropping it closes all connections.
    pub(super) async fn serve(self, desk: Desk, gate: Arc<Gate>) {
        let Self { socket, tls, .. } = self;
        let listener = TcpListener::from_std(socket).expect("a bound socket");
        let mut connections = JoinSet::new();
        loop {
            let seat = gate.seats.clone().acquire_owned().await;
            let seat = seat.expect("nobody closes the semaphore");
            match listener.accept().await {
                Ok((stream, from)) => {
                    let (desk, gate, tls) = (desk.clone(), gate.clone(), tls.clone());
                    connections.spawn(async move {
                        gate.receive(desk, stream, from, tls).await;
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

/// What callers of all listeners have to pass.
pub(super) struct Gate {
    /// How many more connections may be open.
    seats: Arc<Semaphore>,
    door: Door,
}

impl Gate {
    pub fn new() -> Self {
        let (time, most) = (limits::TLS_HANDSHAKE_TIMEOUT, limits::PEER_HANDSHAKES_MAX);
        let seats = Arc::new(Semaphore::new(limits::PEER_CONNECTIONS_MAX));
        Self { seats, door: Door::new(Endpoint::Peer, time, most) }
    }

    async fn receive(
        &self,
        desk: Desk,
        stream: TcpStream,
        from: SocketAddr,
        tls: Option<Arc<Peers>>,
    ) {
        let _ = stream.set_nodelay(true);
        let mut stream = Patient::new(stream, limits::PEER_IO_TIMEOUT);
        match tls {
            None => {
                if self.door.hears_plain_text(&mut stream, &from.to_string()).await {
                    answer_all(desk, stream, from).await;
                }
            }
            Some(peers) => {
                if let Some(stream) = self.door.admit(stream, &peers, from).await {
                    answer_all(desk, stream, from).await;
                }
            }
        }
    }
}

/// Answers the requests of one connection.
pub(super) async fn answer_all<S>(desk: Desk, stream: S, from: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request, from.ip()).await) }
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

const _: () = assert!(
    limits::PEER_HANDSHAKES_MAX < limits::PEER_CONNECTIONS_MAX,
    "who shows no certificate cannot take every seat"
);
