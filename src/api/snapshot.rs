//! `Maintenance.Snapshot`: the state as a bbolt file, in blobs of 32 KiB and a SHA-256 at the end.
//!
//! The file is written as it is sent, from one view of the engine, by a thread that waits when the
//! client does not read: memory stays flat whatever the size. Only so many are sent at a time, and
//! who reads nothing for long has its snapshot broken off, for others wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::status;
use crate::bolt;
use crate::error::{Error, Failure, Fault};
use crate::limits;
use crate::node::Handle;
use crate::pb::SnapshotResponse;
use crate::storage::engine::View;
use crate::version;

/// Blobs waiting for the client.
const QUEUE_MAX: usize = 8;
/// How long it is looked often whether the client has taken a blob, and how often.
const CLOSELY: Duration = Duration::from_millis(200);
const OFTEN: Duration = Duration::from_millis(1);
const SELDOM: Duration = Duration::from_millis(20);

type Item = Result<SnapshotResponse, Status>;

/// The blobs of everything applied before the call.
pub async fn blobs(
    node: &Handle,
    turns: &Arc<Semaphore>,
) -> Result<impl Stream<Item = Item> + use<>, Error> {
    let turn = turns.clone().acquire_owned().await.map_err(|_| Error::Stopped)?;
    let view = node.engine_view().await?;
    let (queue, receiver) = mpsc::channel(QUEUE_MAX);
    let stalled = Arc::<AtomicBool>::default();
    let (node, client) = (node.clone(), Client { queue, stalled: stalled.clone() });
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let started = Instant::now();
        if let Err(fault) = send(view, &client) {
            let refusal = node.settle::<()>(Err(Failure::Fault(fault)));
            if let Err(error) = refusal {
                let _ = client.queue.blocking_send(Err(status::status(&error)));
            }
        }
        node.metrics().backend_snapshot_seconds.observe(started.elapsed().as_secs_f64());
    });
    let end = std::iter::from_fn(move || {
        let stalled = stalled.swap(false, Ordering::AcqRel);
        stalled.then(|| Err(Status::deadline_exceeded("the snapshot was not read for too long")))
    });
    Ok(ReceiverStream::new(receiver).chain(tokio_stream::iter(end)))
}

/// Who takes the blobs.
struct Client {
    queue: mpsc::Sender<Item>,
    /// Whether it took nothing for so long that it was given up.
    stalled: Arc<AtomicBool>,
}

impl Client {
    /// Whether the client takes another blob, or is gone, or might as well be.
    fn takes(&self, blob: SnapshotResponse) -> bool {
        let mut waiting = Ok(blob);
        let since = Instant::now();
        loop {
            match self.queue.try_send(waiting) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(_)) if since.elapsed() > limits::SNAPSHOT_STALL => {
                    tracing::warn!("a client takes nothing of its snapshot, which is broken off");
                    self.stalled.store(true, Ordering::Release);
                    return false;
                }
                Err(TrySendError::Full(blob)) => waiting = blob,
            }
            // Who reads is waited for closely; a timer would need the runtime, which may be going.
            let is_slow = since.elapsed() > CLOSELY;
            std::thread::sleep(if is_slow { SELDOM } else { OFTEN });
        }
    }
}

fn send(view: Box<dyn View>, client: &Client) -> Result<(), Fault> {
    let mut writer = bolt::Writer::plan(view)?;
    let mut trailer = bolt::trailer::Trailer::default();
    while let Some(blob) = writer.next_chunk()? {
        trailer.update(&blob);
        if !client.takes(response(blob, writer.remaining_bytes())) {
            return Ok(());
        }
    }
    let digest = Bytes::copy_from_slice(&trailer.finish());
    client.takes(response(digest, 0));
    Ok(())
}

fn response(blob: Bytes, remaining_bytes: u64) -> SnapshotResponse {
    SnapshotResponse { header: None, remaining_bytes, blob, version: version::STORAGE.to_owned() }
}
