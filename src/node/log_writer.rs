//! The log writer: the thread that makes entries durable.
//!
//! It takes every write that is waiting, appends them in order, syncs once and reports the last.
//! While the disk works, the driver goes on reading its inbox, so reads and heartbeats never wait
//! for a sync, and the next batch grows by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::driver::Input;
use super::fatal;
use super::progress::Progress;
use crate::error::Fault;
use crate::machine::Applied;
use crate::metrics::Metrics;
use crate::raft::Persist;
use crate::storage::wal::{self, Spare, Wal};

/// The most writes one sync covers; bounds what is encoded before the disk starts.
const WRITES_PER_SYNC_MAX: usize = 256;

/// What the log writer is asked for.
pub(super) enum Job {
    Stop,
    /// Make this durable, then report its number.
    Write(Persist),
    /// The engine has come to `applied`, durably; segments with entries up to `keep` may go.
    Release {
        applied: Applied,
        keep: u64,
    },
    /// A segment reserved for later, or why there is none.
    Stock(Result<Spare, Fault>),
}

/// What the log writer is given at its start.
pub(super) struct Parts {
    pub wal: Wal,
    pub inbox: Receiver<Job>,
    /// For reserves, which other threads make.
    pub own: Sender<Job>,
    pub driver: Sender<Input>,
    pub progress: Arc<Progress>,
    pub metrics: Arc<Metrics>,
}

/// Starts the thread. It ends on [`Job::Stop`].
pub(super) fn start(parts: Parts) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name("log-writer".into())
        .spawn(move || LogWriter { parts, release: None, ordered: false, stopped: false }.run())
        .expect("the process may start threads")
}

struct LogWriter {
    parts: Parts,
    /// Segments up to this index may go once the mark that says so is durable.
    release: Option<u64>,
    /// Whether a segment is being reserved.
    ordered: bool,
    stopped: bool,
}

impl LogWriter {
    fn run(mut self) {
        self.order();
        let inbox = self.parts.inbox.clone();
        while !self.stopped
            && let Ok(job) = inbox.recv()
        {
            let rest = inbox.try_iter().take(WRITES_PER_SYNC_MAX - 1);
            if let Err(fault) = self.round(std::iter::once(job).chain(rest)) {
                fatal(&fault);
            }
        }
    }

    fn round(&mut self, jobs: impl Iterator<Item = Job>) -> Result<(), Fault> {
        let mut last = None;
        for job in jobs {
            match job {
                Job::Stop => self.stopped = true,
                Job::Write(persist) => {
                    last = Some(persist.number);
                    let appended = super::records::append(&mut self.parts.wal, persist)?;
                    self.parts.metrics.wal_write_bytes.add(appended.bytes as i64);
                }
                Job::Release { applied, keep } => {
                    // Durable with the next write; until then the segments stay.
                    super::records::mark(&mut self.parts.wal, applied)?;
                    self.release = Some(keep);
                    self.order();
                }
                Job::Stock(spare) => {
                    self.ordered = false;
                    match spare {
                        Ok(spare) => {
                            self.parts.wal.stock(spare)?;
                            self.parts.progress.disk_full.store(false, Ordering::Release);
                        }
                        Err(fault) if wal::is_full(&fault) => {
                            tracing::warn!(error = %fault, "no space to reserve for the log");
                            self.parts.progress.disk_full.store(true, Ordering::Release);
                        }
                        Err(fault) => return Err(fault),
                    }
                }
            }
        }
        if let Some(number) = last {
            let started = Instant::now();
            self.parts.wal.sync()?;
            self.parts.metrics.wal_fsync_seconds.observe(started.elapsed().as_secs_f64());
            // The driver is gone only when the node stops; then nobody waits for this.
            let _ = self.parts.driver.send(Input::Persisted(number));
        }
        // After the report: nobody should wait for a directory to be tidied.
        if let Some(index) = self.release
            && last.is_some()
        {
            self.parts.wal.release(index)?;
            self.release = None;
        }
        Ok(())
    }

    /// Has the next segment reserved on a thread of its own, if none is ready.
    fn order(&mut self) {
        if self.ordered {
            return;
        }
        let Some(order) = self.parts.wal.order() else { return };
        let jobs = self.parts.own.clone();
        let reserving = thread::Builder::new().name("log-reserve".into()).spawn(move || {
            let _ = jobs.send(Job::Stock(order.fulfil()));
        });
        self.ordered = reserving.is_ok();
    }
}
