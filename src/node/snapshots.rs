//! States on their way between members: bbolt files, made from one engine and read into another.
//!
//! ```text
//! here:  flush ─▶ view of the engine ─▶ bbolt file, piece by piece ─▶ peer
//! there: pieces ─▶ file ─▶ rows into an engine beside ours ─▶ raft wants it? ─▶ takes ours' place
//! ```
//!
//! Memory stays flat whatever the size: pieces wait for the network on one side, and for the disk
//! on the other.
//!
//! Invariants:
//! - What raft is told of a state, its index, term and members, is what the state itself says.
//! - Until raft's log says that the state was installed, and that is durable, ours is not touched.
//!   A start that finds the log so far ahead takes up the state that lies beside.
//! - One state comes at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use flume::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};

use super::applier::Job;
use super::clock;
use super::driver::Input;
use super::errands::Errands;
use super::fatal;
use super::transport::{Outgoing, Transport};
use crate::bolt;
use crate::error::{Error, Fault};
use crate::limits;
use crate::machine::Applied;
use crate::marks::{Mark, mark};
use crate::metrics::Metrics;
use crate::mvcc::Reader;
use crate::planted::{Mistake, planted};
use crate::raft::{ConfState, Message, Snapshot, SnapshotMetadata};
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::engine::{Engine, Table, View, Write};
use crate::storage::keys;
use crate::storage::state::Place;

/// Pieces that wait for the peer that takes them.
const PIECES_WAITING_MAX: usize = 8;
/// Bytes of rows in one commit of the engine.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a file read at a time to see whether it is what arrived.
const REREAD_BYTES: usize = 1024 * 1024;

/// A state that was received, whole and durable, in an engine beside ours.
#[derive(Debug)]
pub(super) struct Staged {
    pub generation: u64,
    pub engine: Arc<dyn Engine>,
    pub applied: Applied,
    place: Place,
}

impl Staged {
    /// Removes a state that nobody wants.
    pub fn discard(self) -> Result<(), Fault> {
        let Self { generation, engine, place, .. } = self;
        tracing::info!(generation, "a received snapshot is not needed");
        drop(engine);
        place.remove(generation)
    }
}

/// What it takes to send our state.
#[derive(Clone)]
pub(super) struct Sending {
    pub reader: Reader,
    pub applier: Sender<Job>,
    pub driver: Sender<Input>,
    pub errands: Errands,
}

impl Sending {
    /// Sends our newest state to the member that `message` names, on a thread of its own.
    pub fn begin(&self, message: Message, peers: Arc<dyn Transport>) {
        let (to, sending) = (message.to, self.clone());
        let begun = self.errands.send("snapshot-send", async move {
            match sending.run(message, &*peers).await {
                Ok(true) => {}
                Ok(false) => sending.failed(to),
                Err(fault) => fatal(&fault),
            }
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "cannot send a snapshot");
            self.failed(to);
        }
    }

    fn failed(&self, to: u64) {
        let _ = self.driver.send(Input::SnapshotSent { to, arrived: false });
    }

    /// Our newest state, for a member that lost its own and asks for it.
    pub fn hand_out(&self) -> Result<Outgoing, Error> {
        self.offer()?.recv().map_err(|_| Error::Stopped)
    }

    /// The same, to be waited for.
    pub fn offer(&self) -> Result<Receiver<Outgoing>, Error> {
        let (sender, receiver) = flume::bounded(1);
        let sending = self.clone();
        let begun = self.errands.send("snapshot-send", async move {
            if let Err(fault) = sending.pieces(&sender).await {
                fatal(&fault);
            }
        });
        begun.map_err(|_| Error::RequestTooManyRequests)?;
        Ok(receiver)
    }

    async fn pieces(&self, taker: &Sender<Outgoing>) -> Result<(), Fault> {
        let Some(view) = self.flushed().await? else { return Ok(()) };
        let writer = bolt::Writer::plan(view)?;
        let (pieces, chunks) = mpsc::channel(PIECES_WAITING_MAX);
        let _ = taker.send(Outgoing { bytes: writer.size_bytes(), chunks });
        write_all(writer, &pieces).await.map(|_| ())
    }

    /// The engine with everything applied by now; `None` if the node stops.
    async fn flushed(&self) -> Result<Option<Box<dyn View>>, Fault> {
        let (reply, flushed) = oneshot::channel();
        let _ = self.applier.send(Job::Flush(reply));
        if flushed.await.is_err() {
            return Ok(None);
        }
        self.reader.engine().view().map(Some)
    }

    /// Whether the peer's edge took the state, and will tell how it ended.
    async fn run(&self, mut message: Message, peers: &dyn Transport) -> Result<bool, Fault> {
        let Some(view) = self.flushed().await? else { return Ok(false) };
        let started = clock::now();
        let metadata = metadata(&*view)?;
        let (index, to) = (metadata.index, format!("{:x}", message.to));
        message.snapshot = Some(Snapshot { data: Bytes::new(), metadata: Some(metadata) });
        let writer = bolt::Writer::plan(view)?;
        let bytes = writer.size_bytes();
        let (pieces, chunks) = mpsc::channel(PIECES_WAITING_MAX);
        peers.send_snapshot(message, Outgoing { bytes, chunks });
        if write_all(writer, &pieces).await? {
            tracing::info!(to, index, bytes, took = ?clock::since(started), "sent a snapshot");
        }
        Ok(true)
    }
}

/// Writes a whole file piece by piece; whether it was taken to its end. A taker that goes away
/// tells itself.
async fn write_all(
    mut writer: bolt::Writer<Box<dyn View>>,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<bool, Fault> {
    while let Some(piece) = writer.next_chunk()? {
        if pieces.send(Ok(piece)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a state says of itself.
fn metadata(view: &dyn View) -> Result<SnapshotMetadata, Fault> {
    let number = |key| match view.get(Table::Meta, key)? {
        Some(value) => keys::decode_u64(Table::Meta, key, &value),
        None => Ok(0),
    };
    let conf_state = match view.get(Table::Meta, keys::CONF_STATE)? {
        Some(value) => super::records::conf_state(keys::ConfState::decode(&value)?),
        None => ConfState::default(),
    };
    Ok(SnapshotMetadata {
        conf_state: Some(conf_state),
        index: number(keys::CONSISTENT_INDEX)?,
        term: number(keys::TERM)?,
    })
}

/// What it takes to receive a state.
#[derive(Clone)]
pub(super) struct Receiving {
    pub place: Place,
    /// Where the pieces are gathered.
    pub file: PathBuf,
    pub driver: Sender<Input>,
    pub metrics: Arc<Metrics>,
    errands: Errands,
    busy: Arc<AtomicBool>,
}

/// Why a state was not received; the sender is told, and tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreceived {
    #[error("another snapshot is being received")]
    Busy,
    #[error("the snapshot did not arrive whole: {0}")]
    Cut(io::Error),
    #[error("the snapshot is not sound: {0}")]
    Unsound(#[from] bolt::Error),
    #[error("the snapshot says it is of index {found}, its message says {said}")]
    Other { said: u64, found: u64 },
    #[error("the disk has room for {free} bytes beyond its reserve; the snapshot needs more")]
    Full { free: u64 },
    #[error("cannot keep the snapshot: {0}")]
    Fault(#[from] Fault),
    #[error("the disk did not keep the snapshot as it arrived")]
    Rotten,
    #[error("the member stops")]
    Stopped,
}

impl Receiving {
    pub fn new(
        place: Place,
        file: PathBuf,
        driver: Sender<Input>,
        metrics: Arc<Metrics>,
        errands: Errands,
    ) -> Self {
        Self { place, file, driver, metrics, errands, busy: Arc::default() }
    }

    /// Receives a state on a thread of its own, and offers it to raft; the answer comes when raft
    /// has heard of it.
    pub fn begin(
        &self,
        message: Message,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> oneshot::Receiver<Result<(), Unreceived>> {
        let (reply, answer) = oneshot::channel();
        if self.busy.swap(true, Ordering::AcqRel) {
            mark(Mark::SnapshotRefusedBusy);
            let _ = reply.send(Err(Unreceived::Busy));
            return answer;
        }
        let receiving = self.clone();
        let begun = self.errands.send("snapshot-receive", async move {
            let received = receiving.run(message, chunks).await;
            receiving.busy.store(false, Ordering::Release);
            let _ = reply.send(received);
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "cannot receive a snapshot");
            self.busy.store(false, Ordering::Release);
        }
        answer
    }

    async fn run(
        &self,
        message: Message,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<(), Unreceived> {
        let (index, started) = (message.get_snapshot().get_metadata().index, clock::now());
        tracing::info!(from = format!("{:x}", message.from), index, "receiving a snapshot");
        let gathered = gather(&self.place, &self.file, chunks).await;
        if let Err(Unreceived::Cut(_)) = gathered {
            mark(Mark::SnapshotCut);
        }
        let staged = gathered.and_then(|arrived| self.stage(index, arrived));
        let _ = self.disk().remove(&self.file);
        let staged = staged?;
        self.metrics.snapshots.save_seconds.observe(clock::since(started).as_secs_f64());
        let input = Input::Snapshot { message: Box::new(message), staged };
        self.driver.send(input).map_err(|_| Unreceived::Stopped)
    }

    fn disk(&self) -> &dyn Disk {
        &*self.place.disk
    }

    /// Reads the file into an engine beside ours.
    fn stage(&self, index: u64, arrived: Arrived) -> Result<Staged, Unreceived> {
        let started = clock::now();
        let (generation, engine) = self.place.create_next()?;
        match read(&self.place, &self.file, &*engine, (index, arrived)) {
            Ok(applied) => {
                let took = clock::since(started).as_secs_f64();
                self.metrics.snapshots.sync_seconds.observe(took);
                Ok(Staged { generation, engine, applied, place: self.place.clone() })
            }
            Err(error) => {
                drop(engine);
                self.place.remove(generation)?;
                Err(error)
            }
        }
    }
}

/// The size and the checksum of what arrived. The pages of a bbolt file have none, and a bit that
/// turns in them on this disk would become a row like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    bytes: u64,
    sum: u32,
}

impl Arrived {
    fn take(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.sum = crc32c::crc32c_append(self.sum, piece);
    }
}

/// Writes the pieces into a file, up to the empty one that says it is whole; what arrived.
pub(super) async fn gather(
    place: &Place,
    path: &Path,
    mut chunks: mpsc::Receiver<io::Result<Bytes>>,
) -> Result<Arrived, Unreceived> {
    let io = |error| Unreceived::Fault(Fault::io("write", path, error));
    if place.disk.exists(path) {
        place.disk.remove(path).map_err(io)?;
    }
    let file = place.disk.create(path).map_err(io)?;
    let mut arrived = Arrived::default();
    loop {
        let piece = chunks.recv().await.unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
        let piece = piece.map_err(Unreceived::Cut)?;
        if piece.is_empty() {
            return Ok(arrived);
        }
        check_room(place, piece.len())?;
        file.write_at(arrived.bytes, &piece).map_err(io)?;
        arrived.take(&piece);
    }
}

/// Reads a file that was gathered into an empty engine; it must be what arrived, and its state be
/// as of the entry that was said.
pub(super) fn read(
    place: &Place,
    path: &Path,
    engine: &dyn Engine,
    (said, arrived): (u64, Arrived),
) -> Result<Applied, Unreceived> {
    let file = place.disk.open(path).map_err(|error| Fault::io("open", path, error))?;
    if !planted(Mistake::StagedUnchecked) && reread(path, &file)? != arrived {
        mark(Mark::RotFoundOnArrival);
        return Err(Unreceived::Rotten);
    }
    let applied = fill(place, &file, engine)?;
    let found = applied.index;
    if found == said { Ok(applied) } else { Err(Unreceived::Other { said, found }) }
}

/// What is in the file by now.
fn reread(path: &Path, file: &Arc<dyn DiskFile>) -> Result<Arrived, Fault> {
    let io = |error| Fault::io("read", path, error);
    let (mut read, length) = (Arrived::default(), file.len().map_err(io)?);
    let mut piece = vec![0; REREAD_BYTES];
    while read.bytes < length {
        let left = usize::try_from(length - read.bytes).unwrap_or(usize::MAX);
        let piece = &mut piece[..left.min(REREAD_BYTES)];
        file.read_at(read.bytes, piece).map_err(io)?;
        read.take(piece);
    }
    Ok(read)
}

/// Leaves the log room to grow.
fn check_room(place: &Place, bytes: usize) -> Result<(), Unreceived> {
    let free = place.free_bytes()?.saturating_sub(limits::DISK_RESERVE_BYTES);
    if free < bytes as u64 {
        mark(Mark::SnapshotWithoutSpace);
        return Err(Unreceived::Full { free });
    }
    Ok(())
}

/// Reads a bbolt file into an empty engine; how far its state has come.
pub(super) fn fill(
    place: &Place,
    file: &dyn bolt::ReadAt,
    engine: &dyn Engine,
) -> Result<Applied, Unreceived> {
    let reader = bolt::Reader::open(file)?;
    let (mut writes, mut bytes) = (Vec::new(), 0);
    let mut rows = reader.table_rows();
    for row in &mut rows {
        let bolt::Row { table, key, value } = row?;
        bytes += key.len() + value.len();
        // Rows are slices of whole pages, which would stay in memory until the commit.
        let (key, value) = (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
        writes.push(Write::Put { table, key, value });
        if bytes >= COMMIT_BYTES {
            check_room(place, bytes)?;
            engine.commit(&writes)?;
            writes.clear();
            bytes = 0;
        }
    }
    rows.finish()?;
    engine.commit(&writes)?;
    let SnapshotMetadata { index, term, .. } = metadata(&*engine.view()?)?;
    Ok(Applied { index, term })
}
