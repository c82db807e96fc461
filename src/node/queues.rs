//! The bounds of the driver's inbox: one for clients, one for peers.
//!
//! All come through one channel, in order. It has no bound of its own, for then clients could keep
//! peers out of it, and a flood of requests would cost the leader its followers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flume::Sender;

use super::driver::Input;
use crate::error::Error;
use crate::limits;

/// What waits in the inbox, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Queues {
    clients: Arc<AtomicUsize>,
    peers: Arc<AtomicUsize>,
}

/// Why an input is not taken.
pub(super) enum Untaken {
    Full(Box<Input>),
    Stopped(Box<Input>),
}

impl From<Untaken> for Error {
    fn from(untaken: Untaken) -> Self {
        match untaken {
            Untaken::Full(_) => Error::RequestTooManyRequests,
            Untaken::Stopped(_) => Error::Stopped,
        }
    }
}

impl Queues {
    /// Offers an input to the driver, without waiting.
    pub fn offer(&self, driver: &Sender<Input>, input: Input) -> Result<(), Untaken> {
        if let Some((count, max)) = self.bound(&input)
            && count.fetch_add(1, Ordering::Relaxed) >= max
        {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(Untaken::Full(Box::new(input)));
        }
        driver.send(input).map_err(|error| Untaken::Stopped(Box::new(error.0)))
    }

    /// Notes that the driver took an input that was offered.
    pub fn taken(&self, input: &Input) {
        if let Some((count, _)) = self.bound(input) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Inputs of clients and of peers that wait.
    #[cfg(debug_assertions)]
    pub fn counts(&self) -> (usize, usize) {
        (self.clients.load(Ordering::Relaxed), self.peers.load(Ordering::Relaxed))
    }

    fn bound(&self, input: &Input) -> Option<(&AtomicUsize, usize)> {
        match input {
            Input::Propose(_) | Input::ProposeChange { .. } | Input::Ask(_) => {
                Some((&self.clients, limits::DRIVER_INBOX_MAX))
            }
            Input::Message(_) | Input::Unreachable(_) => {
                Some((&self.peers, limits::PEER_INBOX_MAX))
            }
            // What the node's own threads say is bounded by what they do.
            _ => None,
        }
    }
}
