//! The log's place: on the driver's thread while its member is alone, on one of its own with peers.
//!
//! A sole voter has nothing to do while the disk syncs, so it waits itself and spares every write
//! two switches of threads. With peers the driver must go on: heartbeats are answered, and entries
//! sent, while the disk is busy.
//!
//! - The writer moves whole: whoever has it is the only one.
//! - It comes back only when nothing is under way, so that the driver never waits for a thread that
//!   waits for the driver.

use flume::{Receiver, Sender};

use super::driver::Input;
use super::errands::{Errands, Lent};
use super::log_writer::LogWriter;
use crate::error::Fault;
use crate::machine::Applied;
use crate::raft::Persist;
use crate::storage::wal::Spare;

/// What the log thread can be told; the same as what a [`LogWriter`] can be asked.
enum Job {
    Append(Persist),
    Release { applied: Applied, keep: u64 },
    Stock(Result<Spare, Fault>),
}

/// The log, wherever it is.
pub(super) struct Log {
    place: Place,
    driver: Sender<Input>,
    errands: Errands,
    /// The newest write that was handed over and is not known to be durable.
    unsynced: Option<u64>,
}

enum Place {
    Here(Box<LogWriter>),
    Thread {
        jobs: Sender<Job>,
        lent: Lent,
    },
    /// Between the two; never seen from outside.
    Moving,
}

impl Log {
    pub fn new(writer: LogWriter, driver: Sender<Input>, errands: Errands) -> Self {
        Self { place: Place::Here(Box::new(writer)), driver, errands, unsynced: None }
    }

    /// Moves the log to where it belongs now, if it can be moved.
    pub fn move_to(&mut self, thread: bool) {
        self.place = match std::mem::replace(&mut self.place, Place::Moving) {
            Place::Here(writer) if thread && self.unsynced.is_none() => self.lend(*writer),
            Place::Thread { jobs, lent } if !thread && self.unsynced.is_none() => {
                drop(jobs);
                Place::Here(Box::new(lent.take_back()))
            }
            same => same,
        };
    }

    fn lend(&self, writer: LogWriter) -> Place {
        let (jobs, queue) = flume::unbounded();
        let keeper = Keeper { writer, jobs: queue, driver: self.driver.clone() };
        Place::Thread { jobs, lent: self.errands.lend(keeper) }
    }

    /// Appends a write of raft.
    pub fn append(&mut self, persist: Persist) -> Result<(), Fault> {
        self.unsynced = Some(persist.number);
        self.give(Job::Append(persist))
    }

    /// Makes everything appended durable, if that is this thread's to do: the number of the newest
    /// write. The log thread reports by [`Input::Persisted`].
    pub fn sync(&mut self) -> Result<Option<u64>, Fault> {
        match &mut self.place {
            Place::Here(writer) => {
                self.unsynced = None;
                writer.sync()
            }
            Place::Thread { .. } | Place::Moving => Ok(None),
        }
    }

    /// Notes the log thread's report.
    pub fn persisted(&mut self, number: u64) {
        if self.unsynced == Some(number) {
            self.unsynced = None;
        }
    }

    /// See [`LogWriter::release`].
    pub fn release(&mut self, applied: Applied, keep: u64) -> Result<(), Fault> {
        self.give(Job::Release { applied, keep })
    }

    /// See [`LogWriter::stock`].
    pub fn stock(&mut self, spare: Result<Spare, Fault>) -> Result<(), Fault> {
        self.give(Job::Stock(spare))
    }

    /// See [`LogWriter::tidy`].
    pub fn tidy(&mut self) -> Result<(), Fault> {
        match &mut self.place {
            Place::Here(writer) => writer.tidy(),
            Place::Thread { .. } | Place::Moving => Ok(()),
        }
    }

    fn give(&mut self, job: Job) -> Result<(), Fault> {
        match &mut self.place {
            Place::Here(writer) => take(writer, job),
            // The thread ends only when its jobs do, or with the process.
            Place::Thread { jobs, .. } => {
                let _ = jobs.send(job);
                Ok(())
            }
            Place::Moving => Err(Fault::Broken("the log is nowhere".into())),
        }
    }
}

fn take(writer: &mut LogWriter, job: Job) -> Result<(), Fault> {
    match job {
        Job::Append(persist) => writer.append(persist),
        Job::Release { applied, keep } => writer.release(applied, keep),
        Job::Stock(spare) => writer.stock(spare),
    }
}

/// The log on a thread of its own: the writer, with what it is asked to do.
pub(super) struct Keeper {
    writer: LogWriter,
    jobs: Receiver<Job>,
    driver: Sender<Input>,
}

impl Keeper {
    /// Takes turns until nobody can ask for more, and returns the writer.
    pub fn run(mut self) -> Result<LogWriter, Fault> {
        while let Ok(first) = self.jobs.recv() {
            self.turn(first)?;
        }
        Ok(self.writer)
    }

    /// Takes everything that waits, syncs once for all of it, and says so.
    fn turn(&mut self, first: Job) -> Result<(), Fault> {
        take(&mut self.writer, first)?;
        while let Ok(job) = self.jobs.try_recv() {
            take(&mut self.writer, job)?;
        }
        if let Some(number) = self.writer.sync()? {
            // The driver is gone only when the node stops.
            let _ = self.driver.send(Input::Persisted(number));
        }
        self.writer.tidy()
    }

    /// Takes a turn if there is anything to do.
    #[cfg(debug_assertions)]
    pub fn turn_if_asked(&mut self) -> Result<(), Fault> {
        match self.jobs.try_recv() {
            Ok(first) => self.turn(first),
            Err(_) => Ok(()),
        }
    }

    #[cfg(debug_assertions)]
    pub fn is_asked(&self) -> bool {
        !self.jobs.is_empty()
    }
}
