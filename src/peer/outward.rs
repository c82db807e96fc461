//! What a member asks of another: its two streams, and to take a message where it has none.
//!
//! - A request that fails is logged once, then again after one that did not; in between it is tried
//!   at growing intervals. Nobody waits for any of it.
//! - A stream that lasted is asked for again at once when it ends. If it was closed and the new
//!   connection is refused, the other process has died, and the host is told: that is an election
//!   timeout sooner than silence would tell it. A stream that was merely replaced is had again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Host;
use super::codec::{Decoder, Frame, Kind};
use super::dial::{Connection, Trouble, in_time, text, whole};
use super::headers::{Identity, Unwelcome, read_message_answer, read_stream_answer};
use super::remote::Remote;
use crate::limits;
use crate::node::Overrun;
use crate::raft::{Message, wire};
use crate::tls::Peers;

/// All that talking to one member takes.
#[derive(Clone)]
pub(super) struct Line {
    pub identity: Arc<Identity>,
    pub host: Arc<dyn Host>,
    pub remote: Arc<Remote>,
    /// What members with https URLs are shown.
    pub tls: Option<Arc<Peers>>,
}

impl Line {
    /// Asks for a stream, reads it, and asks again when it ends, as long as the task lives.
    pub async fn listen(self, kind: Kind) {
        let mut pause = limits::PEER_REDIAL_MIN;
        let mut told = false;
        loop {
            self.remote.counters.dials.add(1);
            let (turn, asked) = (self.remote.turn(), Instant::now());
            match self.ask_for(kind, turn).await {
                Ok(body) => {
                    self.remote.note(kind, true);
                    let trouble = self.read(kind, body).await;
                    self.remote.note(kind, false);
                    if trouble.is_close() {
                        self.remote.note_closed();
                    }
                    self.tell(kind, &trouble, false);
                    (pause, told) = (limits::PEER_REDIAL_MIN, false);
                    tokio::time::sleep_until(asked + limits::PEER_REDIAL_APART).await;
                }
                Err(trouble) => {
                    self.remote.pass(turn);
                    self.tell(kind, &trouble, told);
                    told = true;
                    if trouble.is_refusal() && self.remote.has_died() {
                        self.host.disconnected(self.remote.id);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(limits::PEER_REDIAL_MAX);
                }
            }
        }
    }

    /// Logs the first failure of a row, and hands on what concerns the whole member.
    fn tell(&self, kind: Kind, error: &Trouble, told: bool) {
        let (peer_id, stream) = (format!("{:x}", self.remote.id), kind.path());
        match told {
            false => tracing::warn!(peer_id, stream, %error, "no stream from a peer"),
            true => tracing::debug!(peer_id, stream, %error, "no stream from a peer"),
        }
        if matches!(error, Trouble::Unwelcome(Unwelcome::Removed)) {
            self.host.removed();
        }
    }

    /// Connects to the member, whose side may let writes wait so long.
    pub async fn connect(&self, turn: u64, patience: Duration) -> Result<Connection, Trouble> {
        match self.remote.url(turn) {
            Some(url) => Connection::open(url, patience, self.tls.as_deref()).await,
            None => Err(Trouble::Address(Vec::new())),
        }
    }

    async fn ask_for(&self, kind: Kind, turn: u64) -> Result<Incoming, Trouble> {
        let mut connection = self.connect(turn, limits::PEER_IO_TIMEOUT).await?;
        let path = format!("/raft/stream/{}/{:x}", kind.path(), self.identity.member_id);
        let headers = self.identity.headers(Some(self.remote.id));
        let answer = connection.ask(Method::GET, &path, headers, whole(Bytes::new())).await?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            read_stream_answer(head.status, &head.headers, "")?;
            return Ok(body);
        }
        read_stream_answer(head.status, &head.headers, &text(body).await)?;
        Err(Trouble::End)
    }

    /// Reads a stream to its end, and says why it ended.
    async fn read(&self, kind: Kind, mut body: Incoming) -> Trouble {
        let mut decoder = Decoder::new(kind, self.identity.member_id, self.remote.id);
        loop {
            let piece = async {
                let frame = body.frame().await.ok_or(Trouble::End)??;
                Ok(frame.into_data().unwrap_or_default())
            };
            match in_time(limits::PEER_IO_TIMEOUT, piece).await {
                Ok(piece) => {
                    self.remote.metrics.received_bytes.inc_by(piece.len() as u64);
                    decoder.push(&piece);
                }
                Err(trouble) => return trouble,
            }
            if let Err(trouble) = self.take_frames(&mut decoder) {
                return trouble;
            }
        }
    }

    fn take_frames(&self, decoder: &mut Decoder) -> Result<(), Trouble> {
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame::LinkHeartbeat => {}
                Frame::Message(message) => {
                    self.remote.counters.received.add(1);
                    if let Err(Overrun) = self.host.receive(*message) {
                        self.remote.counters.overrun.add(1);
                        self.remote.metrics.received_failures.inc();
                    }
                }
            }
        }
        Ok(())
    }

    /// Posts messages one after another, as long as the task lives.
    pub async fn post_all(self, mut messages: mpsc::Receiver<Box<Message>>) {
        let mut kept = None;
        let mut told = false;
        while let Some(message) = messages.recv().await {
            let turn = self.remote.turn();
            match self.post(&mut kept, turn, *message).await {
                Ok(()) => {
                    told = false;
                    self.remote.counters.posted.add(1);
                }
                Err(trouble) => {
                    kept = None;
                    self.remote.note_lost();
                    self.remote.pass(turn);
                    self.tell_of_post(&trouble, told);
                    told = true;
                    self.host.unreachable(self.remote.id);
                }
            }
        }
    }

    fn tell_of_post(&self, error: &Trouble, told: bool) {
        let peer_id = format!("{:x}", self.remote.id);
        match told {
            false => tracing::warn!(peer_id, %error, "a peer takes no message"),
            true => tracing::debug!(peer_id, %error, "a peer takes no message"),
        }
        if matches!(error, Trouble::Unwelcome(Unwelcome::Removed)) {
            self.host.removed();
        }
    }

    async fn post(
        &self,
        kept: &mut Option<Connection>,
        turn: u64,
        message: Message,
    ) -> Result<(), Trouble> {
        let mut connection = match kept.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => self.connect(turn, limits::PEER_IO_TIMEOUT).await?,
        };
        let mut headers = self.identity.headers(None);
        let content_type = HeaderValue::from_static("application/protobuf");
        headers.insert(header::CONTENT_TYPE, content_type);
        let bytes = wire::encode(message);
        let (size, body) = (bytes.len(), whole(Bytes::from(bytes)));
        let answer = connection.ask(Method::POST, "/raft", headers, body).await?;
        let status = answer.status();
        read_message_answer(status, &text(answer.into_body()).await)?;
        self.remote.metrics.sent_bytes.inc_by(size as u64);
        *kept = Some(connection);
        Ok(())
    }
}

const _: () = assert!(
    limits::PEER_LINK_HEARTBEAT.as_millis() * 2 < limits::PEER_IO_TIMEOUT.as_millis(),
    "one late heartbeat ends no stream"
);
