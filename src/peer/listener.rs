//! The sockets that other members call, bound before anything else is begun.
//!
//! A bound socket refuses its callers until it [listens](Listener::listen). Members that begin at
//! the same time ask each other things before they can answer any: refused, they need not wait.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
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

/// A bound address. Callers are refused until it listens, and then wait until it is served.
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
        let socket = std::net::TcpListener::from(bind_any(&url.address)?);
        let address = socket.local_addr()?;
        Ok(Self { socket, address, tls })
    }

    /// Lets callers in; again, it changes nothing. It fails if somebody else took the address in
    /// between.
    pub fn listen(&self) -> io::Result<()> {
        Ok(rustix::net::listen(&self.socket, limits::LISTEN_BACKLOG)?)
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

/// A socket bound to the first address of `host:port` that is free, which does not listen yet.
fn bind_any(address: &str) -> io::Result<OwnedFd> {
    let mut refusal = io::Error::new(io::ErrorKind::InvalidInput, "the host has no address");
    for address in address.to_socket_addrs()? {
        match bind_one(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn bind_one(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // What a member before us has closed still occupies the address for a minute.
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_refused_until_it_listens() {
        let first = Listener::bind(&Url::http("localhost:0"), None).expect("a free port");
        let refused = std::net::TcpStream::connect(first.address()).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));

        let url = Url::http(&first.address().to_string());
        let second = Listener::bind(&url, None).expect("nobody listens there yet");
        first.listen().expect("it is the first");
        first.listen().expect("it listens already");
        std::net::TcpStream::connect(first.address()).expect("callers wait");
        let taken = second.listen().map_err(|error| error.kind());
        assert_eq!(taken.err(), Some(io::ErrorKind::AddrInUse));
        let taken = Listener::bind(&url, None).map_err(|error| error.kind());
        assert_eq!(taken.err(), Some(io::ErrorKind::AddrInUse));
    }
}
