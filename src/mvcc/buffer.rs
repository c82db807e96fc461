//! The write-behind buffer: rows already applied and not yet, or only just, in the engine.
//!
//! Rows stand in the order of their revisions in chunks of fixed size. A slot is filled once and
//! never changes, so a reader needs no lock: it takes the current list of chunks and looks. Only
//! the list itself changes under a lock, once per chunk, between the writer that adds a chunk and
//! the checkpointer that drops the ones the engine holds.
//!
//! ```text
//! list ──► [ chunk 8..519 ] [ chunk 520..1031 ] [ chunk 1032.. (filling) ]
//!            └ dropped once the engine holds all of it      └ appended to by the one writer
//! ```
//!
//! Invariants:
//! - Rows are appended in strictly growing revision order, by one [`Appender`].
//! - A row leaves the buffer only after the engine committed it. So whoever looks here first and
//!   opens an engine view afterwards cannot miss a row.
//! - A chunk is closed by count or by bytes; what outlives a checkpoint is less than one chunk.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::revision::Revision;

/// Rows per chunk.
const CHUNK_ROWS: usize = if cfg!(test) { 8 } else { 512 };
/// A chunk takes no further row once its rows hold this many bytes.
const CHUNK_BYTES: u64 = 1 << 20;

/// What a row takes beside its bytes: its slot, what keeps its bytes alive, and what becomes of
/// both in a commit. Of the rows of deletions it is most.
const ROW_EXTRA_BYTES: u64 = 256;

/// A row as the buffer holds it.
#[derive(Clone, Debug)]
pub struct Row {
    pub revision: Revision,
    pub tombstone: bool,
    pub bytes: Bytes,
    /// Bytes of all rows ever appended up to and with this one.
    end: u64,
}

#[derive(Debug)]
struct Chunk {
    first: Revision,
    slots: Box<[OnceLock<Row>]>,
    filled: AtomicUsize,
}

impl Chunk {
    fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> {
        let filled = self.filled.load(Ordering::Acquire);
        self.slots[..filled].iter().map(|slot| slot.get().expect("counted slots are filled"))
    }

    /// The number of filled slots with a revision below `bound`.
    ///
    /// Main revisions have no gaps, so a revision lies at or behind its distance from the first.
    fn before(&self, bound: Revision) -> usize {
        let filled = &self.slots[..self.filled.load(Ordering::Acquire)];
        let below = |slot: &OnceLock<Row>| slot.get().is_some_and(|row| row.revision < bound);
        let guess = usize::try_from(bound.main - self.first.main).unwrap_or(0).min(filled.len());
        if guess > 0 && !below(&filled[guess - 1]) {
            return filled.partition_point(below);
        }
        if filled.get(guess).is_some_and(|slot| !below(slot)) {
            return guess;
        }
        guess + filled[guess..].partition_point(below)
    }
}

type List = Vec<Arc<Chunk>>;

/// The buffer, as readers and the checkpointer share it.
#[derive(Debug)]
pub struct Buffer {
    list: ArcSwap<List>,
    /// Held while the list is replaced.
    change: Mutex<()>,
    /// Bytes of all rows ever appended.
    appended: AtomicU64,
    /// Bytes of all rows ever appended that the engine holds.
    checkpointed: AtomicU64,
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer {
    pub fn new() -> Self {
        Self {
            list: ArcSwap::from_pointee(List::new()),
            change: Mutex::new(()),
            appended: AtomicU64::new(0),
            checkpointed: AtomicU64::new(0),
        }
    }

    /// The rows of this moment, held still (further rows may still show up in it).
    pub fn hold(&self) -> Held {
        Held { list: self.list.load_full() }
    }

    /// Lets go of rows the engine now holds.
    pub fn checkpointed(&self, revision: Revision) {
        let _change = self.change.lock();
        let list = self.list.load();
        let mut done = 0;
        let mut end = 0;
        for (at, chunk) in list.iter().enumerate() {
            let rows = chunk.filled.load(Ordering::Acquire);
            let before = chunk.before(Revision::new(revision.main, revision.sub + 1));
            let Some(last) = before.checked_sub(1) else { break };
            end = chunk.slots[last].get().expect("counted slots are filled").end;
            // The last chunk may still be appended to, unless it is full.
            let closed = at + 1 < list.len() || rows == chunk.slots.len();
            done += usize::from(closed && before == rows);
        }
        self.checkpointed.fetch_max(end, Ordering::Relaxed);
        if done > 0 {
            self.list.store(Arc::new(list[done..].to_vec()));
        }
    }

    /// Bytes of rows the engine does not hold yet.
    pub fn bytes(&self) -> u64 {
        let checkpointed = self.checkpointed.load(Ordering::Relaxed);
        self.appended.load(Ordering::Relaxed).saturating_sub(checkpointed)
    }

    /// Bytes of memory that rows take until the engine holds them. A chunk takes what it can with
    /// its first row.
    pub fn memory(&self) -> u64 {
        match self.bytes() {
            0 => 0,
            bytes => bytes + (self.list.load().len() * CHUNK_ROWS) as u64 * ROW_EXTRA_BYTES,
        }
    }

    /// Bytes of all rows ever appended.
    pub fn appended_bytes(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    fn add(&self, chunk: &Arc<Chunk>) {
        let _change = self.change.lock();
        let list = self.list.load();
        self.list.store(Arc::new(list.iter().chain([chunk]).cloned().collect()));
    }

    /// Forgets everything: the engine was replaced by one that holds another history.
    pub fn clear(&self) {
        let _change = self.change.lock();
        self.list.store(Arc::default());
        self.checkpointed.store(self.appended.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The buffer's rows, held still.
#[derive(Clone, Debug)]
pub struct Held {
    list: Arc<List>,
}

impl Held {
    /// The row at `revision`.
    pub fn get(&self, revision: Revision) -> Option<&Row> {
        let chunk = self.list.partition_point(|chunk| chunk.first <= revision).checked_sub(1)?;
        let chunk = &self.list[chunk];
        let row = chunk.slots.get(chunk.before(revision))?.get()?;
        (row.revision == revision).then_some(row)
    }

    /// The oldest revision held. Every older row is in the engine.
    pub fn first(&self) -> Option<Revision> {
        self.list.first().map(|chunk| chunk.first)
    }

    /// Rows with `from` ≤ revision ≤ `to`, in order.
    pub fn range(&self, from: Revision, to: Revision) -> impl Iterator<Item = &Row> {
        let chunk = self.list.partition_point(|chunk| chunk.first <= from).saturating_sub(1);
        self.list[chunk.min(self.list.len())..]
            .iter()
            .take_while(move |chunk| chunk.first <= to)
            .flat_map(move |chunk| chunk.rows().skip(chunk.before(from)))
            .take_while(move |row| row.revision <= to)
    }
}

/// The writer's end of the buffer.
#[derive(Debug, Default)]
pub struct Appender {
    tail: Option<Arc<Chunk>>,
    tail_bytes: u64,
}

impl Appender {
    /// Appends a row, which must be newer than every row before it.
    pub fn append(&mut self, buffer: &Buffer, revision: Revision, tombstone: bool, bytes: &Bytes) {
        let len = bytes.len() as u64;
        let end = buffer.appended.fetch_add(len, Ordering::Relaxed) + len;
        let full = |tail: &Arc<Chunk>| tail.filled.load(Ordering::Relaxed) == tail.slots.len();
        if self.tail_bytes >= CHUNK_BYTES || self.tail.as_ref().is_some_and(full) {
            *self = Self::default();
        }
        let tail = self.tail.get_or_insert_with(|| {
            let chunk = Arc::new(Chunk {
                first: revision,
                slots: (0..CHUNK_ROWS).map(|_| OnceLock::new()).collect(),
                filled: AtomicUsize::new(0),
            });
            buffer.add(&chunk);
            chunk
        });
        let row = Row { revision, tombstone, bytes: bytes.clone(), end };
        let at = tail.filled.load(Ordering::Relaxed);
        if let Some(last) = at.checked_sub(1).and_then(|last| tail.slots[last].get()) {
            assert!(last.revision < revision, "rows are appended in the order of their revisions");
        }
        tail.slots[at].set(row).expect("a slot is filled once");
        tail.filled.store(at + 1, Ordering::Release);
        self.tail_bytes += len;
    }
}
