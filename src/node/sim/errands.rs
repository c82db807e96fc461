//! Errands and the log of a member without threads: whoever simulates polls them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::super::fatal;
use super::super::log::Keeper;
use super::super::log_writer::LogWriter;
use crate::error::Fault;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a member's errands wait to be polled.
#[derive(Clone, Debug, Default)]
pub struct Errands(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    errands: Vec<Errand>,
    log: Option<Lent>,
}

/// One errand. Whoever waits for it does it.
#[derive(Clone)]
pub struct Errand {
    pub name: &'static str,
    work: Arc<Mutex<Option<Work>>>,
}

impl fmt::Debug for Errand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

/// The log in the simulation's hands.
#[derive(Clone)]
pub(in crate::node) struct Lent(Arc<Mutex<Option<Keeper>>>);

impl fmt::Debug for Lent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the log")
    }
}

impl Errands {
    pub(in crate::node) fn send(&self, name: &'static str, work: Work) -> Errand {
        let errand = Errand { name, work: Arc::new(Mutex::new(Some(work))) };
        self.0.lock().errands.push(errand.clone());
        errand
    }

    pub(in crate::node) fn lend(&self, keeper: Keeper) -> Lent {
        let lent = Lent(Arc::new(Mutex::new(Some(keeper))));
        self.0.lock().log = Some(lent.clone());
        lent
    }

    pub(super) fn take(&self) -> Vec<Errand> {
        std::mem::take(&mut self.0.lock().errands)
    }

    /// Lets go of everything: what waits here knows this place, so neither would go by itself.
    pub(super) fn clear(&self) {
        // Dropped when nobody is kept waiting any more.
        let _waiting = std::mem::take(&mut *self.0.lock());
    }

    fn log(&self) -> Option<Lent> {
        self.0.lock().log.clone()
    }

    pub(super) fn log_is_asked(&self) -> bool {
        let is_asked = |lent: Lent| lent.0.lock().as_ref().is_some_and(Keeper::is_asked);
        self.log().is_some_and(is_asked)
    }

    pub(super) fn log_turn(&self) -> Result<(), Fault> {
        let Some(lent) = self.log() else { return Ok(()) };
        let mut keeper = lent.0.lock();
        keeper.as_mut().map_or(Ok(()), Keeper::turn_if_asked)
    }
}

impl Lent {
    pub(in crate::node) fn take_back(self) -> LogWriter {
        let keeper = self.0.lock().take().expect("the log is lent to one at a time");
        // Nobody can ask for more, so this ends.
        keeper.run().unwrap_or_else(|fault| fatal(&fault))
    }
}

impl Errand {
    /// Goes on with it.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        // Not held while it runs, for it may end in a panic.
        let Some(mut work) = self.work.lock().take() else { return Poll::Ready(()) };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            *self.work.lock() = Some(work);
        }
        polled
    }

    /// Does what is left of it.
    pub(in crate::node) fn run(&self) {
        let mut context = Context::from_waker(Waker::noop());
        while self.poll(&mut context).is_pending() {
            std::hint::spin_loop();
        }
    }
}
