//! The checkpointer: the thread that moves applied rows into the state engine.
//!
//! It is nobody's bottleneck: clients were answered when the log was durable, and readers find rows
//! in memory until they are here. Because it alone commits, it alone can defragment: it copies the
//! engine into a fresh one in bounded steps between its commits, passes every commit on to the
//! copy, and takes the copy in the engine's place when it is whole. Requests never wait for that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use flume::{Receiver, Sender, TryRecvError};
use tokio::sync::oneshot;

use super::driver::{Input, Next};
use super::progress::Progress;
use super::snapshots::Staged;
use super::{applier, images, start_thread};
use crate::error::Fault;
use crate::limits;
use crate::machine::Checkpoint;
use crate::marks::{Mark, mark};
use crate::metrics::Metrics;
use crate::mvcc::Reader;
use crate::planted::{Mistake, planted};
use crate::storage::defrag::{self, Defrag};
use crate::storage::engine::{Engine, Write};
use crate::storage::state::Place;

/// Bytes of rows a defragmentation copies between two looks at the inbox.
const DEFRAG_STEP_BYTES: usize = 1024 * 1024;

/// What a commit may make the engine's file grow by, in terms of the bytes of its rows.
const COMMIT_GROWTH: u64 = 3;
/// How often a full disk is looked at again.
pub(super) const SPACE_POLL: Duration = Duration::from_millis(200);

/// What the checkpointer can be told.
pub(super) enum Job {
    Commit(Box<Checkpoint>),
    /// Rewrite the engine's files; the reply comes when the fresh ones are in use.
    Defragment(oneshot::Sender<()>),
    /// A received state takes the engine's place; the applier is told when that is durable.
    Install(Staged),
    Stop,
}

/// What the checkpointer is given at its start.
pub(super) struct Parts {
    pub engine: Arc<dyn Engine>,
    pub generation: u64,
    pub place: Place,
    pub reader: Reader,
    pub jobs: Receiver<Job>,
    pub applier: Sender<applier::Job>,
    pub driver: Sender<Input>,
    pub progress: Arc<Progress>,
    pub metrics: Arc<Metrics>,
    pub images: images::Writer,
}

/// Starts the thread. It ends on [`Job::Stop`].
pub(super) fn start(parts: Parts) -> thread::JoinHandle<()> {
    start_thread("checkpointer", move || run(parts))
}

fn run(parts: Parts) -> Result<(), Fault> {
    let jobs = parts.jobs.clone();
    let mut checkpointer = Checkpointer::new(parts);
    loop {
        let job = match checkpointer.wants() {
            Wants::Job => match jobs.recv() {
                Ok(job) => Some(job),
                Err(_) => return Ok(()),
            },
            Wants::JobIfAny => match jobs.try_recv() {
                Err(TryRecvError::Disconnected) => return Ok(()),
                tried => tried.ok(),
            },
            Wants::Pause => {
                thread::sleep(SPACE_POLL);
                None
            }
        };
        if checkpointer.turn(job)?.is_stop() {
            return Ok(());
        }
    }
}

/// What a turn of the checkpointer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// A job: there is nothing to do without.
    Job,
    /// A job if one waits; there is something to do without.
    JobIfAny,
    /// No job, and [some time](SPACE_POLL).
    Pause,
}

pub(super) struct Checkpointer {
    parts: Parts,
    copying: Option<Copying>,
    /// A checkpoint that there is no space for.
    waiting: Option<Waiting>,
    /// Whether one was given up: then none behind it may be committed, which would say that the
    /// engine has what that one held.
    has_given_up: bool,
    /// Engines that were replaced but may still have readers.
    retired: Vec<(u64, Arc<dyn Engine>)>,
}

struct Waiting {
    checkpoint: Checkpoint,
    writes: Vec<Write>,
}

/// A defragmentation under way.
struct Copying {
    generation: u64,
    copy: Arc<dyn Engine>,
    defrag: Defrag,
    started: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Checkpointer {
    pub fn new(parts: Parts) -> Self {
        Self { parts, copying: None, waiting: None, has_given_up: false, retired: Vec::new() }
    }

    /// What the next turn begins with.
    pub fn wants(&self) -> Wants {
        match (&self.waiting, &self.copying) {
            (Some(_), _) => Wants::Pause,
            (None, Some(_)) => Wants::JobIfAny,
            (None, None) => Wants::Job,
        }
    }

    /// Takes a job, or goes on with what is under way.
    pub fn turn(&mut self, job: Option<Job>) -> Result<Next, Fault> {
        match job {
            None if self.waiting.is_some() => self.commit_waiting()?,
            None => {
                self.copy_step()?;
                return Ok(Next::GoOn);
            }
            Some(Job::Commit(checkpoint)) => self.commit(*checkpoint)?,
            Some(Job::Defragment(reply)) => self.defragment(reply)?,
            Some(Job::Install(staged)) => self.install(staged)?,
            Some(Job::Stop) => {
                self.parts.images.wait();
                return Ok(Next::Stop);
            }
        }
        self.bury()?;
        Ok(Next::GoOn)
    }

    fn commit(&mut self, mut checkpoint: Checkpoint) -> Result<(), Fault> {
        if self.has_given_up && !planted(Mistake::CommitBehindGivenUp) {
            let _ = self.parts.applier.send(applier::Job::Checkpointed);
            return Ok(());
        }
        let writes = checkpoint.writes();
        if self.has_space(&writes)? {
            return self.write(checkpoint, &writes);
        }
        mark(Mark::CheckpointWaited);
        tracing::warn!("no space for the state: waiting until there is some");
        self.waiting = Some(Waiting { checkpoint, writes });
        Ok(())
    }

    /// Tries again what there was no space for.
    ///
    /// Meanwhile rows stay in memory and in the log, and writes that grow the state are refused.
    fn commit_waiting(&mut self) -> Result<(), Fault> {
        let Some(Waiting { checkpoint, writes }) = self.waiting.take() else { return Ok(()) };
        if self.has_space(&writes)? {
            mark(Mark::CheckpointMadeLater);
            return self.write(checkpoint, &writes);
        }
        if self.parts.progress.stopping.load(Ordering::Acquire) {
            // The node stops; the log has what the engine lacks.
            mark(Mark::CheckpointGivenUp);
            self.has_given_up = true;
            let _ = self.parts.applier.send(applier::Job::Checkpointed);
        } else {
            self.waiting = Some(Waiting { checkpoint, writes });
        }
        Ok(())
    }

    fn write(&mut self, mut checkpoint: Checkpoint, writes: &[Write]) -> Result<(), Fault> {
        let started = Instant::now();
        self.parts.engine.commit(writes)?;
        if let Some(copying) = &self.copying {
            mark(Mark::DefragmentedUnderWrites);
            let mirrored = copying.defrag.mirror(writes);
            copying.copy.commit(&mirrored)?;
        }
        self.parts.metrics.backend_commit_seconds.observe(started.elapsed().as_secs_f64());
        // Rows leave memory only now that a view of the engine shows them.
        self.parts.reader.checkpointed(checkpoint.revision());
        let _ = self.parts.applier.send(applier::Job::Checkpointed);
        let _ = self.parts.driver.send(Input::Checkpointed(checkpoint.applied));
        if let Some(image) = checkpoint.take_image() {
            self.parts.images.write(image, &self.parts.place);
        }
        Ok(())
    }

    /// Whether the disk has room for a commit, so that the engine never meets a full one.
    fn has_space(&self, writes: &[Write]) -> Result<bool, Fault> {
        let bytes: u64 = writes.iter().map(Write::bytes).sum();
        let needed = bytes.saturating_mul(COMMIT_GROWTH).max(limits::DISK_RESERVE_BYTES);
        let fits = self.parts.place.free_bytes()? >= needed;
        self.parts.progress.state_disk_full.store(!fits, Ordering::Release);
        Ok(fits)
    }

    fn defragment(&mut self, reply: oneshot::Sender<()>) -> Result<(), Fault> {
        if let Some(copying) = &mut self.copying {
            copying.waiting.push(reply);
            return Ok(());
        }
        let (generation, copy) = self.parts.place.create_next()?;
        self.parts.metrics.defrag_inflight.set(1);
        let (defrag, started) = (Defrag::new(), Instant::now());
        self.copying = Some(Copying { generation, copy, defrag, started, waiting: vec![reply] });
        Ok(())
    }

    fn copy_step(&mut self) -> Result<(), Fault> {
        let Some(copying) = &mut self.copying else { return Ok(()) };
        let source = &*self.parts.engine;
        match copying.defrag.step(source, &*copying.copy, DEFRAG_STEP_BYTES)? {
            defrag::Progress::More => Ok(()),
            defrag::Progress::Done => self.swap(),
        }
    }

    /// Takes the whole copy in the engine's place.
    fn swap(&mut self) -> Result<(), Fault> {
        let Some(copying) = self.copying.take() else { return Ok(()) };
        mark(Mark::Defragmented);
        self.parts.reader.replace_engine(copying.copy.clone());
        self.replace(copying.generation, copying.copy)?;
        let took = copying.started.elapsed();
        self.parts.metrics.defrag_inflight.set(0);
        self.parts.metrics.backend_defrag_seconds.observe(took.as_secs_f64());
        tracing::info!(took_ms = took.as_millis() as u64, "finished defragmenting directory");
        for reply in copying.waiting {
            let _ = reply.send(());
        }
        Ok(())
    }

    /// Takes a received state in the engine's place. The applier shows it to readers.
    fn install(&mut self, staged: Staged) -> Result<(), Fault> {
        let waiting = self.copying.take().map(|copying| {
            // A copy of what is replaced is of no use; the new one has no holes yet.
            mark(Mark::DefragmentationOvertaken);
            self.parts.metrics.defrag_inflight.set(0);
            (copying.generation, copying.waiting)
        });
        self.replace(staged.generation, staged.engine.clone())?;
        if let Some((generation, waiting)) = waiting {
            self.parts.place.remove(generation)?;
            for reply in waiting {
                let _ = reply.send(());
            }
        }
        // The applier awaits this; it is gone only when the node stops.
        let _ = self.parts.applier.send(applier::Job::Installed(staged.engine));
        Ok(())
    }

    /// Makes another generation the one that counts.
    fn replace(&mut self, generation: u64, engine: Arc<dyn Engine>) -> Result<(), Fault> {
        self.parts.place.make_current(generation)?;
        let replaced = std::mem::replace(&mut self.parts.engine, engine);
        let old = std::mem::replace(&mut self.parts.generation, generation);
        self.retired.push((old, replaced));
        Ok(())
    }

    /// Removes a replaced engine's files once its last reader is gone.
    fn bury(&mut self) -> Result<(), Fault> {
        let place = &self.parts.place;
        let (free, used) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, engine)| Arc::strong_count(engine) == 1);
        self.retired = used;
        free.into_iter().try_for_each(|(generation, engine)| {
            drop(engine);
            place.remove(generation)
        })
    }
}
