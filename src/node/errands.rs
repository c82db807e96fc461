//! Errands: work beside the node's own threads, each on a thread that ends with it.
//!
//! They wait for disks and peers as long as these take, and nobody waits for them. An errand is a
//! future, so that a simulation can let a node's errands take their turns without any thread.

use std::future::Future;
use std::io;
use std::thread;

use super::log::Keeper;
use super::log_writer::LogWriter;
use super::start_thread;

/// Where errands are sent from.
#[derive(Clone, Debug, Default)]
pub(super) struct Errands {
    #[cfg(debug_assertions)]
    pub simulated: Option<super::sim::Errands>,
}

/// An errand under way.
#[derive(Debug)]
pub(super) enum Errand {
    Thread(thread::JoinHandle<()>),
    #[cfg(debug_assertions)]
    Simulated(super::sim::Errand),
}

impl Errands {
    /// Sends somebody to do a piece of work.
    pub fn send(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Errand> {
        #[cfg(debug_assertions)]
        if let Some(simulated) = &self.simulated {
            return Ok(Errand::Simulated(simulated.send(name, Box::pin(work))));
        }
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.expect("the process may have another runtime").block_on(work);
        };
        Ok(Errand::Thread(thread::Builder::new().name(name.into()).spawn(run)?))
    }

    /// Gives the log away, to a thread of its own.
    pub fn lend(&self, keeper: Keeper) -> Lent {
        #[cfg(debug_assertions)]
        if let Some(simulated) = &self.simulated {
            return Lent::Simulated(simulated.lend(keeper));
        }
        Lent::Thread(start_thread("log", move || keeper.run()))
    }

    /// Runs what takes long for a request, beside what serves the others.
    pub async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        #[cfg(debug_assertions)]
        if self.simulated.is_some() {
            return Some(work());
        }
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// The log while somebody else has it.
pub(super) enum Lent {
    Thread(thread::JoinHandle<LogWriter>),
    #[cfg(debug_assertions)]
    Simulated(super::sim::Lent),
}

impl Lent {
    /// Takes the log back once all that was asked of it is done; nothing more can be asked of it.
    pub fn take_back(self) -> LogWriter {
        match self {
            Self::Thread(thread) => {
                thread.join().expect("the log thread ends the process if it fails")
            }
            #[cfg(debug_assertions)]
            Self::Simulated(lent) => lent.take_back(),
        }
    }
}

impl Errand {
    /// Waits for its end.
    pub fn wait(self) {
        match self {
            // One that panicked has left what it had to do undone.
            Self::Thread(thread) => drop(thread.join()),
            #[cfg(debug_assertions)]
            Self::Simulated(errand) => errand.run(),
        }
    }
}
