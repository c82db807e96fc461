//! Another member, as all that deals with it shares it: addresses, lanes, counters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::codec::Kind;
use super::dial::Connection;
use super::lane::{Lane, Untaken};
use crate::limits;
use crate::metrics::Peer as Metrics;
use crate::raft::{Message, MessageType};

/// Another member.
#[derive(Debug)]
pub(super) struct Remote {
    pub id: u64,
    pub urls: Vec<String>,
    /// Goes up when an address fails, so that the next one is tried.
    turn: AtomicU64,
    append: Lane,
    message: Lane,
    /// Messages that are posted one by one, for want of a stream.
    posts: mpsc::Sender<Box<Message>>,
    heard: Mutex<Heard>,
    /// A stream from it was closed, and none was opened since.
    was_closed: AtomicBool,
    pub counters: Counters,
    /// Connections that questions were asked on, for the next.
    idle: Mutex<Vec<Connection>>,
    pub metrics: Metrics,
}

/// Which streams from a member are up.
#[derive(Debug, Default)]
struct Heard {
    append: bool,
    message: bool,
    /// Since when both are.
    since: Option<Instant>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }
}

/// What has passed between this member and another.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub sent: Count,
    pub posted: Count,
    pub received: Count,
    pub undelivered: Count,
    pub overrun: Count,
    pub dials: Count,
}

/// What has passed between this member and another since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages written on streams.
    pub sent: u64,
    /// Messages posted and taken.
    pub posted: u64,
    /// Messages read from streams.
    pub received: u64,
    /// Messages dropped because a queue was full or a post failed.
    pub undelivered: u64,
    /// Messages received and dropped because the node had no room for them.
    pub overrun: u64,
    /// Attempts to open a stream.
    pub dials: u64,
}

impl Counters {
    pub fn read(&self) -> Traffic {
        let read = |count: &Count| count.0.load(Ordering::Relaxed);
        Traffic {
            sent: read(&self.sent),
            posted: read(&self.posted),
            received: read(&self.received),
            undelivered: read(&self.undelivered),
            overrun: read(&self.overrun),
            dials: read(&self.dials),
        }
    }
}

impl Remote {
    pub fn new(
        id: u64,
        urls: Vec<String>,
        posts: mpsc::Sender<Box<Message>>,
        metrics: Metrics,
    ) -> Self {
        metrics.active.set(0);
        Self {
            id,
            urls,
            turn: AtomicU64::new(0),
            append: Lane::default(),
            message: Lane::default(),
            posts,
            heard: Mutex::default(),
            was_closed: AtomicBool::new(false),
            counters: Counters::default(),
            idle: Mutex::default(),
            metrics,
        }
    }

    /// A connection from an earlier request, if one is left and open.
    pub fn take_connection(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        std::iter::from_fn(|| idle.pop()).find(Connection::is_open)
    }

    /// Keeps a connection for the next request.
    pub fn keep_connection(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if connection.is_open() && idle.len() < limits::PEER_IDLE_MAX {
            idle.push(connection);
        }
    }

    pub fn lane(&self, kind: Kind) -> &Lane {
        match kind {
            Kind::Append => &self.append,
            Kind::Message => &self.message,
        }
    }

    /// Sends a message the best way there is; whether there was one with room.
    pub fn send(&self, message: Message) -> bool {
        let kind = message.msg_type();
        let mut untaken = Untaken::Closed(Box::new(message));
        let lanes: &[Kind] = match kind {
            MessageType::MsgAppend => &Kind::ALL,
            _ => &[Kind::Message],
        };
        for lane in lanes {
            let Untaken::Closed(message) = untaken else { break };
            match self.lane(*lane).offer(message) {
                Ok(()) => return true,
                Err(error) => untaken = error,
            }
        }
        let taken = match untaken {
            Untaken::Full => false,
            Untaken::Closed(message) => match self.posts.try_send(message) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
            },
        };
        if !taken {
            self.note_lost();
        }
        taken
    }

    /// A message to it was lost.
    pub fn note_lost(&self) {
        self.counters.undelivered.add(1);
        self.metrics.sent_failures.inc();
    }

    /// A message from it came, of so many bytes, and was taken by the node or not.
    pub fn note_posted(&self, bytes: usize, taken: bool) {
        self.metrics.received_bytes.inc_by(bytes as u64);
        if !taken {
            self.metrics.received_failures.inc();
        }
    }

    /// A stream from it is up, or is no longer.
    pub fn note(&self, kind: Kind, up: bool) {
        let mut heard = self.heard.lock();
        match kind {
            Kind::Append => heard.append = up,
            Kind::Message => heard.message = up,
        }
        let was_active = heard.since.is_some();
        heard.since = (heard.append && heard.message).then(Instant::now);
        self.metrics.active.set(i64::from(heard.since.is_some()));
        if was_active && heard.since.is_none() {
            self.metrics.disconnected.inc();
        }
        if up {
            self.was_closed.store(false, Ordering::Relaxed);
        }
    }

    /// Since when both streams from it are up.
    pub fn active_since(&self) -> Option<Instant> {
        self.heard.lock().since
    }

    /// A stream from it was closed by its end, not for its silence.
    pub fn note_closed(&self) {
        self.was_closed.store(true, Ordering::Relaxed);
    }

    /// It takes no connections. Whether its process has died since it was last heard, the first
    /// time that shows.
    pub fn has_died(&self) -> bool {
        self.was_closed.swap(false, Ordering::Relaxed)
    }

    /// Which address is to be tried now.
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// The address of a turn, if there is any.
    pub fn url(&self, turn: u64) -> Option<&str> {
        let place = turn.checked_rem(self.urls.len() as u64)?;
        Some(&self.urls[usize::try_from(place).ok()?])
    }

    /// The address of a turn did not work. Whoever else found so in the same turn changes nothing:
    /// two that both moved on would never try the second of two addresses.
    pub fn pass(&self, turn: u64) {
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.turn.compare_exchange(turn, turn.wrapping_add(1), set, read);
    }
}
