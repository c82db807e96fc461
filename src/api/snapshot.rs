//! `Maintenance.Snapshot`: the state as a bbolt file, in blobs of 32 KiB and a SHA-256 at the end.
//!
//! The file is written as it is sent, from one view of the engine, by a thread that waits when the
//! client does not read: memory stays flat whatever the size.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status;
use crate::bolt;
use crate::error::{Error, Failure, Fault};
use crate::node::Handle;
use crate::pb::SnapshotResponse;
use crate::storage::engine::View;
use crate::version;

/// Blobs waiting for the client.
const QUEUE_MAX: usize = 8;

type Item = Result<SnapshotResponse, Status>;

/// The blobs of everything applied before the call.
pub async fn blobs(node: &Handle) -> Result<impl Stream<Item = Item> + use<>, Error> {
    let view = node.engine_view().await?;
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let node = node.clone();
    tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        if let Err(fault) = send(view, &sender) {
            let refusal = node.settle::<()>(Err(Failure::Fault(fault)));
            if let Err(error) = refusal {
                let _ = sender.blocking_send(Err(status::status(&error)));
            }
        }
        node.metrics().backend_snapshot_seconds.observe(started.elapsed().as_secs_f64());
    });
    Ok(ReceiverStream::new(receiver))
}

fn send(view: Box<dyn View>, queue: &mpsc::Sender<Item>) -> Result<(), Fault> {
    let mut writer = bolt::Writer::plan(view)?;
    let mut trailer = bolt::trailer::Trailer::default();
    while let Some(blob) = writer.next_chunk()? {
        trailer.update(&blob);
        if queue.blocking_send(Ok(response(blob, writer.remaining_bytes()))).is_err() {
            // The client went away.
            return Ok(());
        }
    }
    let digest = Bytes::copy_from_slice(&trailer.finish());
    let _ = queue.blocking_send(Ok(response(digest, 0)));
    Ok(())
}

fn response(blob: Bytes, remaining_bytes: u64) -> SnapshotResponse {
    SnapshotResponse { header: None, remaining_bytes, blob, version: version::STORAGE.to_owned() }
}
