//! The log writer: the thread that makes entries durable.
//!
//! It takes every write that is waiting, appends them in order, syncs once and reports the last.
//! While the disk works, the driver goes on reading its inbox, so reads and heartbeats never wait
//! for a sync, and the next batch grows by itself.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::driver::Input;
use super::fatal;
use crate::error::Fault;
use crate::machine::Applied;
use crate::metrics::Metrics;
use crate::raft::Persist;
use crate::storage::wal::{Order, Spare, Wal};

/// The most writes one sync covers; bounds what is encoded before the disk starts.
const WRITES_PER_SYNC_MAX: usize = 256;

/// What the log writer is asked for.
pub(super) enum Job {
    /// Make this durable, then report its number.
    Write(Persist),
    /// The engine has come to `applied`, durably; segments with entries up to `keep` may go.
    Release { applied: Applied, keep: u64 },
    /// A segment reserved for later.
    Stock(Spare),
}

/// Starts the thread. It ends when `jobs` closes.
pub(super) fn start(
    wal: Wal,
    jobs: Receiver<Job>,
    driver: Sender<Input>,
    metrics: Arc<Metrics>,
) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name("log-writer".into())
        .spawn(move || LogWriter { wal, driver, metrics }.run(&jobs))
        .expect("the process may start threads")
}

struct LogWriter {
    wal: Wal,
    driver: Sender<Input>,
    metrics: Arc<Metrics>,
}

impl LogWriter {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let rest = jobs.try_iter().take(WRITES_PER_SYNC_MAX - 1);
            if let Err(fault) = self.round(std::iter::once(job).chain(rest)) {
                fatal(&fault);
            }
        }
    }

    fn round(&mut self, jobs: impl Iterator<Item = Job>) -> Result<(), Fault> {
        let mut last = None;
        let mut release = None;
        for job in jobs {
            match job {
                Job::Write(persist) => {
                    last = Some(persist.number);
                    let appended = super::records::append(&mut self.wal, persist)?;
                    self.metrics.wal_write_bytes.add(appended.bytes as i64);
                }
                Job::Release { applied, keep } => {
                    super::records::mark(&mut self.wal, applied)?;
                    release = Some(keep);
                }
                Job::Stock(spare) => self.wal.stock(spare)?,
            }
        }
        if let Some(number) = last {
            let started = Instant::now();
            self.wal.sync()?;
            self.metrics.wal_fsync_seconds.observe(started.elapsed().as_secs_f64());
            // The driver is gone only when the node stops; then nobody waits for this.
            let _ = self.driver.send(Input::Persisted(number));
        }
        // After the report: nobody should wait for a directory to be tidied.
        if let Some(index) = release {
            self.wal.release(index)?;
        }
        Ok(())
    }
}
