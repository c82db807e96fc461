//! The checkpointer: the thread that moves applied rows into the state engine.
//!
//! It is nobody's bottleneck: clients were answered when the log was durable, and readers find rows
//! in memory until they are here. Because it alone commits, it alone can swap the engine for a
//! defragmented copy.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;

use super::applier;
use super::defrag::Defrag;
use super::driver::Input;
use super::fatal;
use crate::error::Fault;
use crate::machine::Checkpoint;
use crate::metrics::Metrics;
use crate::mvcc::Reader;
use crate::storage::engine::Engine;

/// What the checkpointer can be told.
pub(super) enum Job {
    Commit(Checkpoint),
    /// Copy the last rows into the new engine and put it in the place of the old.
    Swap(Box<Defrag>, oneshot::Sender<Result<(), Fault>>),
    Stop,
}

/// What the checkpointer is given at its start.
pub(super) struct Parts {
    pub engine: Arc<dyn Engine>,
    pub reader: Reader,
    pub jobs: Receiver<Job>,
    pub applier: Sender<applier::Job>,
    pub driver: Sender<Input>,
    pub metrics: Arc<Metrics>,
}

/// Starts the thread. It ends on [`Job::Stop`].
pub(super) fn start(parts: Parts) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name("checkpointer".into())
        .spawn(move || {
            if let Err(fault) = run(parts) {
                fatal(&fault);
            }
        })
        .expect("the process may start threads")
}

fn run(mut parts: Parts) -> Result<(), Fault> {
    while let Ok(job) = parts.jobs.recv() {
        match job {
            Job::Commit(mut checkpoint) => {
                let started = Instant::now();
                parts.engine.commit(&checkpoint.writes())?;
                let took = started.elapsed();
                parts.metrics.backend_commit_seconds.observe(took.as_secs_f64());
                // Rows leave memory only now that a view of the engine shows them.
                parts.reader.checkpointed(checkpoint.revision());
                let _ = parts.applier.send(applier::Job::Checkpointed);
                let _ = parts.driver.send(Input::Checkpointed(checkpoint.applied));
            }
            Job::Swap(defrag, reply) => {
                let swapped = defrag.finish(&*parts.engine);
                let answer = swapped.map(|engine| {
                    parts.reader.replace_engine(engine.clone());
                    parts.engine = engine;
                });
                let _ = reply.send(answer);
            }
            Job::Stop => break,
        }
    }
    Ok(())
}
