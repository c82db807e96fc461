//! The door: what a fresh connection must show before it is served.
//!
//! ```text
//! first byte ─▶ TLS port: is it TLS? ─▶ handshake, in time ─▶ served
//!            ─▶ plain port: is it not TLS?                 ─▶ served
//! ```
//!
//! - A handshake has a deadline, and there is a bound on handshakes under way. At the bound the
//!   *oldest* goes: a client that means it needs milliseconds, so a flood of silent connections
//!   ends itself and not the clients among it. Waiting for a free place would do the opposite.
//! - Who speaks TLS to a plain port, or plain text to a TLS port, is answered in HTTP: its own
//!   library then says what is wrong, as curl, Go and gRPC do.
//! - Whoever is turned away is logged by [`Refusals`]; who leaves without a word, as probes of
//!   ports do, is not.
//! - A member that calls another shows a certificate that fits where it calls from
//!   ([`Door::admit`]).

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::peers::{Peers, Unplaced};
use super::refusals::{Endpoint, Refusals};
use crate::limits;

#[cfg(test)]
mod tests;

/// The type of the record every TLS connection begins with (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How long a client that came to the wrong port may take to hear so.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES_MAX: u64 = 64 * 1024;

const PLAIN_TEXT_HERE: &str = "HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\nconnection: close\r\n\r\n\
    this port is served in plain text: use http://, or configure a certificate\n";
const TLS_HERE: &str = "HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\nconnection: close\r\n\r\n\
    client sent an HTTP request to a TLS port: use https:// and this cluster's CA certificate\n";

/// Why a client is not let in. The first is etcd's wording, which operators search for.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("tls: first record does not look like a TLS handshake")]
    PlainText,
    #[error("TLS handshake on a plain-text port: the client uses https://, the URL is http://")]
    Tls,
    #[error("TLS handshake not done within {} s", .0.as_secs_f32())]
    Slow(Duration),
    #[error("too many TLS handshakes under way; the oldest goes")]
    Crowd,
    #[error("tls: {0}")]
    Handshake(io::Error),
    #[error("tls: the client shows the certificate of a CA (CA:TRUE); sign one with it instead")]
    CaCertificate,
    #[error(transparent)]
    Unplaced(#[from] Unplaced),
    #[error("the client left without a word")]
    Left,
}

/// What a caller says first.
pub enum First {
    Byte(u8),
    /// Nothing: it is gone.
    End,
    /// This kind of socket lets nobody look.
    Unseen,
}

/// A client's end of a connection, before anything was read from it.
pub trait Caller: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Waits for the first byte and leaves it where it is.
    fn first(&self) -> impl Future<Output = First> + Send;
}

impl Caller for TcpStream {
    async fn first(&self) -> First {
        let mut byte = [0];
        match self.peek(&mut byte).await {
            Ok(0) | Err(_) => First::End,
            Ok(_) => First::Byte(byte[0]),
        }
    }
}

impl Caller for UnixStream {
    async fn first(&self) -> First {
        First::Unseen
    }
}

/// Lets connections in, on all threads that serve them.
pub struct Door {
    handshake_time: Duration,
    handshakes_max: usize,
    pending: Mutex<Pending>,
    refusals: Refusals,
}

/// The handshakes under way, oldest first.
#[derive(Default)]
struct Pending {
    next: u64,
    /// Dropping a sender ends the handshake that holds the other end.
    callers: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A place among the handshakes under way.
struct Ticket<'a> {
    door: &'a Door,
    number: u64,
    called_off: oneshot::Receiver<()>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.door.pending.lock().callers.remove(&self.number);
    }
}

impl Door {
    /// A door with so much time for a handshake, and so many at once.
    pub fn new(endpoint: Endpoint, handshake_time: Duration, handshakes_max: usize) -> Self {
        let (pending, refusals) = (Mutex::default(), Refusals::new(endpoint));
        Self { handshake_time, handshakes_max, pending, refusals }
    }

    /// Whether a caller on a plain-text port is to be served.
    pub async fn hears_plain_text(&self, stream: &mut impl Caller, from: &str) -> bool {
        match tokio::time::timeout(limits::HTTP1_HEADER_TIMEOUT, stream.first()).await {
            Ok(First::Byte(TLS_HANDSHAKE)) => {
                self.refuse(from, &Refusal::Tls);
                say(stream, PLAIN_TEXT_HERE).await;
                false
            }
            Ok(First::Byte(_) | First::Unseen) => true,
            Ok(First::End) | Err(_) => false,
        }
    }

    /// The encrypted stream of a caller on a TLS port, if it is to be served.
    pub async fn shake_hands<S: Caller>(
        &self,
        stream: S,
        tls: Arc<rustls::ServerConfig>,
        from: &str,
    ) -> Option<TlsStream<S>> {
        self.in_time(from, handshake(stream, tls)).await
    }

    /// The encrypted stream of another member, if it may call from where it does.
    pub async fn admit<S: Caller>(
        &self,
        stream: S,
        peers: &Peers,
        address: SocketAddr,
    ) -> Option<TlsStream<S>> {
        let admitted = async {
            let stream = handshake(stream, peers.server()).await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            if let Some(certificate) = shown {
                peers.check_address(certificate, address.ip()).await?;
            }
            Ok(stream)
        };
        self.in_time(&address.to_string(), admitted).await
    }

    /// What comes of a handshake that takes a place, and not too long.
    async fn in_time<T>(
        &self,
        from: &str,
        handshake: impl Future<Output = Result<T, Refusal>>,
    ) -> Option<T> {
        let mut ticket = self.enter();
        let shaken = tokio::time::timeout(self.handshake_time, handshake);
        let shaken = tokio::select! {
            shaken = shaken => shaken.unwrap_or(Err(Refusal::Slow(self.handshake_time))),
            _ = &mut ticket.called_off => Err(Refusal::Crowd),
        };
        shaken.map_err(|refusal| self.refuse(from, &refusal)).ok()
    }

    fn enter(&self) -> Ticket<'_> {
        let (sender, called_off) = oneshot::channel();
        let mut pending = self.pending.lock();
        let number = pending.next;
        pending.next += 1;
        if pending.callers.len() >= self.handshakes_max {
            pending.callers.pop_first();
        }
        pending.callers.insert(number, sender);
        Ticket { door: self, number, called_off }
    }

    fn refuse(&self, from: &str, refusal: &Refusal) {
        match refusal {
            Refusal::Left => {
                tracing::debug!(remote_addr = from, "a client left without a word");
            }
            refusal => self.refusals.log(from, refusal),
        }
    }
}

async fn handshake<S: Caller>(
    mut stream: S,
    tls: Arc<rustls::ServerConfig>,
) -> Result<TlsStream<S>, Refusal> {
    match stream.first().await {
        First::Byte(TLS_HANDSHAKE) | First::Unseen => {
            match TlsAcceptor::from(tls).accept(stream).into_fallible().await {
                Ok(stream) => Ok(stream),
                Err((error, mut stream)) => {
                    // The alert that says why is on its way.
                    say(&mut stream, "").await;
                    Err(match error.to_string().contains("CaUsedAsEndEntity") {
                        true => Refusal::CaCertificate,
                        false => Refusal::Handshake(error),
                    })
                }
            }
        }
        First::Byte(_) => {
            say(&mut stream, TLS_HERE).await;
            Err(Refusal::PlainText)
        }
        First::End => Err(Refusal::Left),
    }
}

/// Says why, then waits a little for the client to hear it: closing with unread bytes would reset
/// the connection and take the words back.
async fn say(stream: &mut impl Caller, words: &str) {
    let farewell = async {
        stream.write_all(words.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(FAREWELL_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // A client that does not listen has been told all there is.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}
