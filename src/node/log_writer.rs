//! The log writer: the driver's hand on the write-ahead log.
//!
//! It appends what raft hands out, in order, and syncs once for all of it. A sole voter's driver
//! waits for that sync on its own thread: no reader and no peer waits for the driver meanwhile,
//! proposals gather in the inbox and become the next batch, and a write is spared two of the
//! thread switches that would be most of its processor time.
//!
//! Invariants:
//! - A segment goes only after the mark that allows it is durable.
//! - Segments are reserved on a thread of their own, one at a time: asking the file system for a
//!   new one takes longer than a client should wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use flume::Sender;

use super::driver::Input;
use super::errands::Errands;
use super::progress::Progress;
use crate::error::Fault;
use crate::machine::Applied;
use crate::marks::{Mark, mark};
use crate::metrics::Metrics;
use crate::planted::{Mistake, planted};
use crate::raft::Persist;
use crate::storage::wal::{self, Spare, Wal};

/// The log, with what is under way to it.
pub(super) struct LogWriter {
    wal: Wal,
    /// Where a reserved segment is sent to; whoever takes it calls [`LogWriter::stock`].
    driver: Sender<Input>,
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
    errands: Errands,
    /// The newest of raft's writes that was appended and not synced.
    unsynced: Option<u64>,
    /// Segments up to this index may go once the mark that says so is durable.
    release: Option<u64>,
    /// Whether that mark is durable.
    marked: bool,
    /// Whether a segment is being reserved.
    ordered: bool,
}

impl LogWriter {
    pub fn new(
        wal: Wal,
        driver: Sender<Input>,
        progress: Arc<Progress>,
        metrics: Arc<Metrics>,
        errands: Errands,
    ) -> Self {
        Self {
            wal,
            driver,
            progress,
            metrics,
            errands,
            unsynced: None,
            release: None,
            marked: false,
            ordered: false,
        }
    }

    /// Appends a write of raft, to be made durable by the next [`LogWriter::sync`].
    pub fn append(&mut self, persist: Persist) -> Result<(), Fault> {
        self.unsynced = Some(persist.number);
        let appended = super::records::append(&mut self.wal, persist)?;
        self.metrics.wal_write_bytes.add(appended.bytes as i64);
        Ok(())
    }

    /// Makes everything appended durable; returns the number of the newest write, if there is any.
    pub fn sync(&mut self) -> Result<Option<u64>, Fault> {
        let Some(number) = self.unsynced.take() else { return Ok(None) };
        let started = Instant::now();
        if !planted(Mistake::AckBeforeSync) {
            self.wal.sync()?;
        }
        self.metrics.wal_fsync_seconds.observe(started.elapsed().as_secs_f64());
        self.marked = self.release.is_some();
        Ok(Some(number))
    }

    /// Notes that the engine has come to `applied`, durably: segments with entries up to `keep`
    /// may go, after the next sync.
    pub fn release(&mut self, applied: Applied, keep: u64) -> Result<(), Fault> {
        if applied.index < self.wal.snapshot().index {
            // A state that was made again has not come to where the one before it was.
            return Ok(());
        }
        super::records::mark(&mut self.wal, applied)?;
        self.release = Some(keep);
        self.marked = false;
        Ok(())
    }

    /// Lets go of segments nobody needs. Called when clients have their answers.
    pub fn tidy(&mut self) -> Result<(), Fault> {
        if self.marked
            && let Some(index) = self.release.take()
        {
            self.marked = false;
            self.wal.release(index)?;
            // Only now: a segment just let go may be the reserve, and no new one is needed.
            self.order();
        }
        Ok(())
    }

    /// Has the next segment reserved on a thread of its own, if none is ready.
    pub fn order(&mut self) {
        if self.ordered {
            return;
        }
        let Some(order) = self.wal.order() else { return };
        let driver = self.driver.clone();
        let reserving = self.errands.send("log-reserve", async move {
            let _ = driver.send(Input::Stock(order.fulfil()));
        });
        self.ordered = reserving.is_ok();
    }

    /// Takes a segment reserved for later, or learns why there is none.
    pub fn stock(&mut self, spare: Result<Spare, Fault>) -> Result<(), Fault> {
        self.ordered = false;
        match spare {
            Ok(spare) => {
                self.wal.stock(spare)?;
                self.progress.disk_full.store(false, Ordering::Release);
            }
            Err(fault) if wal::is_full(&fault) => {
                mark(Mark::LogWithoutSpare);
                tracing::warn!(error = %fault, "no space to reserve for the log");
                self.progress.disk_full.store(true, Ordering::Release);
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }
}
