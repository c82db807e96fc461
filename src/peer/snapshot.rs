//! Snapshots: the message that says what they are, and the state they stand for as a bbolt file.
//!
//! ```text
//! POST /raft/snapshot    [length u64][raftpb.Message][the file, to the end of the body]
//! ```
//!
//! The file is never held: what is read is sent, what comes is handed on, and whoever is slower
//! makes the other wait. Nobody waits for ever: a transfer that does not move is given up, and raft
//! begins another.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Host;
use super::codec::{check_addresses, decode_message};
use super::dial::{Trouble, text};
use super::headers::{Membership, read_message_answer};
use super::outward::Line;
use super::server::Desk;
use crate::limits;
use crate::node::Outgoing;
use crate::raft::{Message, MessageType, wire};

/// Tells the host what became of a snapshot, however that comes to be known.
pub(super) struct Report {
    host: Arc<dyn Host>,
    to: u64,
    arrived: bool,
}

impl Report {
    pub fn new(host: Arc<dyn Host>, to: u64) -> Self {
        Self { host, to, arrived: false }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.host.snapshot_sent(self.to, self.arrived);
    }
}

impl Line {
    /// Sends a snapshot and waits until it is taken over.
    pub async fn send_snapshot(self, message: Message, state: Outgoing, mut report: Report) {
        let peer_id = format!("{:x}", self.remote.id);
        let index = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref());
        let (index, bytes) = (index.map_or(0, |metadata| metadata.index), state.bytes);
        tracing::info!(peer_id, index, bytes, "sending a snapshot to a peer");
        let (turn, transfer) = (self.remote.turn(), self.remote.metrics.sends.begin());
        match self.try_send_snapshot(turn, message, state).await {
            Ok(()) => {
                transfer.arrived();
                self.remote.metrics.sent_bytes.inc_by(bytes);
                tracing::info!(peer_id, index, bytes, "a peer has taken over a snapshot");
                report.arrived = true;
            }
            Err(error) => {
                self.remote.pass(turn);
                self.remote.metrics.sent_failures.inc();
                tracing::warn!(peer_id, index, bytes, %error, "a peer takes no snapshot");
            }
        }
    }

    async fn try_send_snapshot(
        &self,
        turn: u64,
        message: Message,
        state: Outgoing,
    ) -> Result<(), Trouble> {
        let mut connection = self.connect(turn, limits::PEER_SNAPSHOT_STALL).await?;
        let mut headers = self.identity.headers(None);
        let content_type = HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, content_type);
        let (moved, mut patience) = watch::channel(limits::PEER_SNAPSHOT_STALL);
        let load = Load::new(message, state, moved).boxed_unsync();
        let asked = connection.ask_patiently(Method::POST, "/raft/snapshot", headers, load);
        tokio::pin!(asked);
        let answer = loop {
            let longest = *patience.borrow_and_update();
            tokio::select! {
                answer = &mut asked => break answer?,
                still = timeout(longest, patience.changed()) => match still {
                    Ok(Ok(())) => {}
                    Err(_) => return Err(Trouble::Slow(longest)),
                    // The load is gone, and with it the connection: the answer says so.
                    Ok(Err(_)) => {
                        let answer = timeout(longest, &mut asked).await;
                        break answer.map_err(|_| Trouble::Slow(longest))??;
                    }
                },
            }
        };
        let status = answer.status();
        Ok(read_message_answer(status, &text(answer.into_body()).await)?)
    }
}

/// The body of the request.
struct Load {
    head: Bytes,
    state: Outgoing,
    /// Shows every move, with how long the next one may take.
    moved: watch::Sender<Duration>,
}

impl Load {
    fn new(message: Message, state: Outgoing, moved: watch::Sender<Duration>) -> Self {
        let message = wire::encode(message);
        let mut head = BytesMut::with_capacity(8 + message.len());
        head.put_u64(message.len() as u64);
        head.put_slice(&message);
        Self { head: head.freeze(), state, moved }
    }
}

impl Body for Load {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if !this.head.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.head)))));
        }
        let chunk = match ready!(this.state.chunks.poll_recv(context)) {
            None if this.state.bytes == 0 => None,
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Some(Ok(chunk)) if chunk.len() as u64 > this.state.bytes => {
                Some(Err(io::Error::other("the state is longer than was said")))
            }
            Some(chunk) => Some(chunk),
        };
        if let Some(Ok(chunk)) = &chunk {
            this.state.bytes -= chunk.len() as u64;
        }
        this.moved.send_replace(match this.state.bytes {
            0 => limits::PEER_SNAPSHOT_ANSWER,
            _ => limits::PEER_SNAPSHOT_STALL,
        });
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.state.bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.head.len() as u64 + self.state.bytes)
    }
}

/// Why a snapshot is not taken over, in etcd's words.
#[derive(Debug)]
pub(super) struct Refused {
    pub status: StatusCode,
    pub text: String,
}

impl Refused {
    fn new(status: StatusCode, text: String) -> Self {
        Self { status, text }
    }

    fn undecodable(why: impl std::fmt::Display) -> Self {
        let text = format!("failed to decode raft message ({why})");
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    fn unprocessed(why: impl std::fmt::Display) -> Self {
        let text = format!("failed to process raft message ({why})");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

/// Takes in a snapshot. It goes on when the connection breaks, and then ends by itself: the host is
/// not interrupted in the middle of it.
pub(super) async fn take_in(desk: Desk, body: Incoming) -> Result<(), Refused> {
    let Ok(seat) = desk.snapshots.clone().try_acquire_owned() else {
        return Err(Refused::unprocessed("another snapshot is being received"));
    };
    let mut pieces = Pieces { body, rest: Bytes::new(), bytes: 0 };
    let message = read_message(&desk, &mut pieces).await?;
    let remote = desk.peers.get(message.from);
    let transfer = remote.as_ref().map(|remote| remote.metrics.receives.begin());
    let taken = tokio::spawn(async move {
        let (sender, chunks) = mpsc::channel(limits::PEER_SNAPSHOT_PIECES_MAX);
        let received = desk.host.receive_snapshot(message, chunks);
        let (received, bytes) = tokio::join!(received, pass_on(pieces, sender));
        drop(seat);
        if let Some(remote) = remote {
            remote.metrics.received_bytes.inc_by(bytes);
        }
        if let (Ok(()), Some(transfer)) = (&received, transfer) {
            transfer.arrived();
        }
        received.map_err(Refused::unprocessed)
    });
    taken.await.unwrap_or_else(|error| Err(Refused::unprocessed(error)))
}

/// Reads what a snapshot is, and refuses what is none or is not for us.
async fn read_message(desk: &Desk, pieces: &mut Pieces) -> Result<Message, Refused> {
    let length = pieces.exactly(8).await.map_err(Refused::undecodable)?.get_u64();
    if length > limits::PEER_MESSAGE_BYTES_MAX as u64 {
        return Err(Refused::undecodable("error limit exceeded"));
    }
    let bytes = pieces.exactly(length as usize).await.map_err(Refused::undecodable)?;
    let message = decode_message(bytes).map_err(Refused::undecodable)?;
    if message.msg_type() != MessageType::MsgSnapshot {
        let text = "wrong raft message type".to_owned();
        return Err(Refused::new(StatusCode::BAD_REQUEST, text));
    }
    if desk.host.membership(message.from) == Membership::Removed {
        return Err(Refused::unprocessed("cannot process message from removed member"));
    }
    check_addresses(&message, desk.identity.member_id, message.from)
        .map_err(|_| Refused::unprocessed("cannot process message to mismatch member"))?;
    Ok(message)
}

/// Hands on the pieces of a file, and an empty one when it is whole; how many bytes were read.
async fn pass_on(mut pieces: Pieces, sender: mpsc::Sender<io::Result<Bytes>>) -> u64 {
    loop {
        let piece = pieces.next().await;
        let is_last = match &piece {
            Ok(Some(piece)) if piece.is_empty() => continue,
            Ok(Some(_)) => false,
            Ok(None) | Err(_) => true,
        };
        let sent = sender.send(piece.map(Option::unwrap_or_default));
        // The host may have seen enough, and answers why.
        if sent.await.is_err() || is_last {
            return pieces.bytes;
        }
    }
}

/// The bytes of a request, none of which may keep us waiting.
struct Pieces {
    body: Incoming,
    /// Read and not yet taken.
    rest: Bytes,
    /// How many were read.
    bytes: u64,
}

impl Pieces {
    /// The next bytes; nothing at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        match timeout(limits::PEER_SNAPSHOT_STALL, self.body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let piece = frame.into_data().unwrap_or_default();
                self.bytes += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Ok(None) => Ok(None),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// So many bytes. Memory follows what came, not what is asked for.
    async fn exactly(&mut self, count: usize) -> io::Result<Bytes> {
        let mut bytes = BytesMut::new();
        while bytes.len() < count {
            let Some(mut piece) = self.next().await? else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
            };
            let taken = piece.split_to(piece.len().min(count - bytes.len()));
            bytes.put(taken);
            self.rest = piece;
        }
        Ok(bytes.freeze())
    }
}
