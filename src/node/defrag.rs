//! Defragmentation: a fresh copy of the engine, made beside the old one, swapped in between two
//! checkpoints.
//!
//! ```text
//! hold compactions ─▶ copy base ─▶ copy what came since, until little is left ─▶ checkpointer:
//!                     (requests go on, checkpoints go on)             copy the rest, rename, swap
//! ```
//!
//! Rows of the table `key` are immutable and keyed by revision, so what came since is a suffix.
//! Requests never wait: reads use the old engine until the swap, writes are in the log and memory.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::applier::Job;
use super::{Handle, checkpointer};
use crate::error::{Error, Failure, Fault};
use crate::storage::defrag::Copy;
use crate::storage::engine::Engine;
use crate::storage::state::Place;

/// How to make an engine like the one in use.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub place: Place,
    /// One at a time.
    pub running: Arc<tokio::sync::Mutex<()>>,
}

/// A copy that lacks only the newest rows.
pub(super) struct Defrag {
    copy: Copy,
    recipe: Recipe,
}

impl Defrag {
    /// Copies the rest and puts the copy's files in the place of the old ones.
    pub fn finish(mut self, old: &dyn Engine) -> Result<Arc<dyn Engine>, Fault> {
        self.copy.catch_up(&*old.view()?)?;
        let fresh = self.copy.finish()?;
        self.recipe.place.replace()?;
        Ok(fresh)
    }
}

/// Runs one defragmentation from start to end.
pub(super) async fn run(node: &Handle) -> Result<(), Error> {
    let recipe = node.shared.defrag.clone();
    let _one_at_a_time = recipe.running.clone().lock_owned().await;
    let started = Instant::now();
    node.metrics().defrag_inflight.set(1);
    let _ = node.shared.applier.send(Job::HoldCompaction(true));
    let result = copy_and_swap(node, recipe).await;
    let _ = node.shared.applier.send(Job::HoldCompaction(false));
    node.metrics().defrag_inflight.set(0);
    node.metrics().backend_defrag_seconds.observe(started.elapsed().as_secs_f64());
    let took_ms = started.elapsed().as_millis() as u64;
    tracing::info!(took_ms, "finished defragmenting directory");
    result
}

async fn copy_and_swap(node: &Handle, recipe: Recipe) -> Result<(), Error> {
    // After the hold took effect, so that a deletion that was on its way is in the base.
    node.flush().await?;
    let engine = node.reader().engine();
    let copying = tokio::task::spawn_blocking(move || copy(&*engine, recipe));
    let defrag = node.settle(copying.await.map_err(|_| Error::Stopped)?.map_err(Failure::Fault))?;
    let (reply, swapped) = oneshot::channel();
    let _ = node.shared.checkpointer.send(checkpointer::Job::Swap(Box::new(defrag), reply));
    match swapped.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fault)) => node.fault(&fault),
        Err(_) => Err(Error::Stopped),
    }
}

fn copy(engine: &dyn Engine, recipe: Recipe) -> Result<Defrag, Fault> {
    let fresh = recipe.place.create_beside()?;
    let mut copy = Copy::start(engine.view()?, fresh)?;
    // The first pass takes long, the second only what came meanwhile.
    copy.run()?;
    copy.catch_up(&*engine.view()?)?;
    Ok(Defrag { copy, recipe })
}
