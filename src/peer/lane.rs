//! One outgoing stream: a bounded queue that lasts as long as the connection it is sent on.
//!
//! ```text
//! send ─▶ Lane ─▶ queue ─▶ Outgoing, the body of the answer ─▶ hyper ─▶ socket
//! ```
//!
//! - The other member asks for the stream; until it does, the lane is closed and messages go
//!   another way. Asking again replaces the stream, and the old one ends.
//! - What a full queue does not take is dropped, and raft is told: it repeats what matters.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::Host;
use super::codec::{Encoder, Kind};
use super::remote::Remote;
use crate::limits;
use crate::raft::Message;

/// The sending end.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<Option<mpsc::Sender<Box<Message>>>>,
}

/// Why a lane does not take a message.
#[derive(Debug)]
pub(super) enum Untaken {
    /// Nobody asked for this stream; the message goes another way.
    Closed(Box<Message>),
    Full,
}

impl Lane {
    /// Offers a message, without waiting.
    pub fn offer(&self, message: Box<Message>) -> Result<(), Untaken> {
        let queue = self.queue.lock();
        let Some(queue) = queue.as_ref() else { return Err(Untaken::Closed(message)) };
        queue.try_send(message).map_err(|error| match error {
            TrySendError::Closed(message) => Untaken::Closed(message),
            TrySendError::Full(_) => Untaken::Full,
        })
    }

    /// Ends the stream, if there is one.
    pub fn close(&self) {
        self.queue.lock().take();
    }

    #[cfg(test)]
    pub fn is_open(&self) -> bool {
        self.queue.lock().as_ref().is_some_and(|queue| !queue.is_closed())
    }

    fn open(&self) -> mpsc::Receiver<Box<Message>> {
        let (sender, receiver) = mpsc::channel(limits::PEER_STREAM_MESSAGES_MAX);
        *self.queue.lock() = Some(sender);
        receiver
    }

    /// Forgets a stream whose receiver is gone; whether it had not been replaced.
    fn forget(&self) -> bool {
        let mut queue = self.queue.lock();
        let ended = queue.as_ref().is_some_and(mpsc::Sender::is_closed);
        if ended {
            *queue = None;
        }
        ended
    }
}

/// The frames of one stream, as the body of an answer.
pub(super) struct Outgoing {
    kind: Kind,
    remote: Arc<Remote>,
    host: Arc<dyn Host>,
    queue: mpsc::Receiver<Box<Message>>,
    encoder: Encoder,
    link_heartbeat: Interval,
}

impl Outgoing {
    /// Opens the lane for a member that asked for its stream.
    pub fn open(kind: Kind, remote: Arc<Remote>, host: Arc<dyn Host>) -> Self {
        let period = limits::PEER_LINK_HEARTBEAT;
        let mut link_heartbeat = interval_at(Instant::now() + period, period);
        link_heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let queue = remote.lane(kind).open();
        Self { kind, remote, host, queue, encoder: Encoder::new(kind), link_heartbeat }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let (mut out, mut batch) = (BytesMut::new(), Vec::new());
        match this.queue.poll_recv_many(context, &mut batch, limits::PEER_STREAM_BATCH_MAX) {
            Poll::Ready(0) => return Poll::Ready(None),
            Poll::Ready(_) => {
                this.remote.counters.sent.add(batch.len());
                for message in batch {
                    this.encoder.encode(*message, &mut out);
                }
            }
            Poll::Pending => {
                ready!(this.link_heartbeat.poll_tick(context));
                this.encoder.link_heartbeat(&mut out);
            }
        }
        this.remote.metrics.sent_bytes.inc_by(out.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(out.freeze()))))
    }
}

impl Drop for Outgoing {
    /// What was queued, and what was written and not received, is lost.
    fn drop(&mut self) {
        self.queue.close();
        let ended = self.remote.lane(self.kind).forget();
        if ended || !self.queue.is_empty() {
            self.remote.metrics.sent_failures.inc();
            self.host.unreachable(self.remote.id);
        }
    }
}
