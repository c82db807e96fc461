//! The driver of a member: threads, clock, waiters, leader duties.
//!
//! Below this floor everything is a pure function of its inputs; here is what feeds those functions
//! and does what they say. Other members are reached through a [`Transport`].
//!
//! | thread | owns | waits for |
//! |---|---|---|
//! | driver | the raft core; while alone, the write-ahead log | proposals, messages, ticks, completions |
//! | log | among peers, the write-ahead log | writes, syncs |
//! | applier | the state machine | committed entries |
//! | checkpointer | the right to commit to the engine | applied rows |
//! | index-image, log-reserve, snapshot-send, snapshot-receive | nothing; they come and go | the disk, a peer |
//! | watch, watch-history | the watch hub; nothing | changes and requests; catch-up jobs |
//! | duties | nothing | time, a change of leadership |
//! | corruption-watch | nothing | time |
//!
//! What a thread owns is a value that takes turns and never waits; waiting is all a thread adds. So
//! whoever brings time, a disk and a network can let the same values take their turns, as the
//! simulation of `tests/sim` does.
//!
//! Everybody else holds a [`Handle`].

mod accounts;
mod applier;
mod arrivals;
mod boot;
mod checkpointer;
mod clock;
mod compaction;
mod corruption;
mod driver;
mod duties;
mod errands;
mod forgotten;
mod fuzz;
mod handle;
mod haste;
mod heartbeats;
mod ids;
mod images;
mod launch;
mod leases;
mod log;
mod log_writer;
mod means;
mod membership;
mod missing;
mod peers;
mod progress;
mod proposals;
mod queues;
mod reads;
mod rebuild;
mod reconfigure;
mod records;
mod replace;
mod sendings;
#[cfg(debug_assertions)]
pub mod sim;
mod snapshots;
mod tally;
mod transport;
mod watches;

use std::sync::atomic::Ordering;
use std::thread;

use flume::Sender;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::error::Fault;

pub use accounts::{Account, Accounts, Charge};
pub use boot::{BootError, Connect, Founding, Joined, Told};
pub use clock::Clock;
pub use forgotten::{Heard, Promise};
pub use fuzz::fuzz_files;
pub(crate) use fuzz::receive_in_memory;
pub use handle::{Answer, Handle, Limits, Sizes};
pub use progress::Standing;
pub use rebuild::{Damage, note_panic, rebuild};
pub use replace::{INTERVAL as REPLACEMENT_INTERVAL, Replaced, Unreplaced};
pub use tally::tally;
pub use transport::{Alone, BoxFuture, Outgoing, Overrun, Transport};
pub(crate) use watches::{Requests as WatchRequests, Stream as WatchStream};

/// A member at work, without its listeners.
pub struct Node {
    handle: Handle,
    stop: Stop,
}

/// Everything it takes to stop the threads, in order.
struct Stop {
    duties: mpsc::UnboundedSender<()>,
    corruption: mpsc::Sender<()>,
    applier: Sender<applier::Job>,
    checkpointer: Sender<checkpointer::Job>,
    driver: Sender<driver::Input>,
    watches: Sender<watches::Input>,
    threads: Vec<thread::JoinHandle<()>>,
    errands: Vec<errands::Errand>,
    /// Held until the last byte is written: no second process on the same directory.
    lock: boot::DirectoryLock,
}

impl Node {
    /// Opens or founds the data directory and starts the threads.
    ///
    /// `told` is what others said: to a member that joins, and to one that was here before.
    /// `connect` makes the way to them.
    pub fn start(config: Config, told: Told, connect: Connect) -> Result<Self, BootError> {
        boot::start(config, told, connect)
    }

    /// A handle to the node.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops the threads after a last checkpoint, and lets the directory go.
    pub fn stop(self) {
        let Stop { duties, corruption, applier, checkpointer, driver, watches, .. } = self.stop;
        let Stop { threads, errands, lock, .. } = self.stop;
        self.handle.shared.progress.stopping.store(true, Ordering::Release);
        drop((duties, corruption));
        // The applier's last checkpoint needs the checkpointer and tells the driver.
        let _ = applier.send(applier::Job::Stop);
        let mut rest = Vec::new();
        for thread in threads {
            if thread.thread().name() == Some("applier") {
                let _ = thread.join();
            } else {
                rest.push(thread);
            }
        }
        let _ = checkpointer.send(checkpointer::Job::Stop);
        let _ = driver.send(driver::Input::Stop);
        let _ = watches.send(watches::Input::Stop);
        for thread in rest {
            let _ = thread.join();
        }
        errands.into_iter().for_each(errands::Errand::wait);
        drop(lock);
    }
}

/// Whether a configuration's directory holds a member, or something that is not to be touched;
/// otherwise a member begins there.
pub fn is_begun(config: &Config) -> bool {
    boot::is_begun(config)
}

/// Takes a data directory for as long as the result lives; refused while a process uses it.
pub fn lock(data_dir: &std::path::Path) -> Result<impl Sized + use<>, BootError> {
    boot::DirectoryLock::take(data_dir)
}

/// Starts a thread of the node's own. A fault in it ends the process.
fn start_thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::Builder::new()
        .name(name.into())
        .spawn(move || run().unwrap_or_else(|fault| fatal(&fault)))
        .expect("the process may start threads")
}

/// Ends the process over a fault. What is durable stays durable; going on could break a promise.
fn fatal(fault: &Fault) -> ! {
    #[cfg(debug_assertions)]
    sim::die(fault);
    tracing::error!(%fault, "the member cannot go on and stops");
    rebuild::note(fault);
    std::process::abort();
}
