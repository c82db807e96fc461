//! The undo log: what every change replaced, in the order of the changes.
//!
//! The tree holds only the newest state of a key. A reader of an older revision starts there and
//! steps back: a state that replaced another names, by sequence number, the record that says what
//! was before. So history costs 24 bytes per change instead of a list per key, no node of the tree
//! grows with it, and compaction is a walk along the log: it meets exactly the states that were
//! replaced, oldest first, and drops the log's front behind it.
//!
//! ```text
//! tree   a: 9 ─────────────────────┐         b: 7 (made at 7, nothing before)
//! log    [..] [8: c was 3] [9: a was 5] ─► [5: a was 2] ─► ...
//! ```
//!
//! A record is three words: the older state's main revision; its sub revision and kind, with the
//! distance of the change from the chunk's first change; the older state's own record. Creation
//! revision and version of the older state follow from the newer one, since a put counts up and a
//! deletion keeps both. Where they do not (a key made again after a deletion), a second record
//! carries them.
//!
//! Invariants:
//! - Records are written by the one writer and read only through states published after them; a
//!   word never changes once written.
//! - A state above the compact revision has its record, unless nothing was before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::super::revision::Revision;
use super::{Facts, Head};

/// Records per chunk.
const CHUNK: usize = if cfg!(test) { 4 } else { 2048 };
const WORDS: usize = 3;
/// In a record's second word: the next record holds creation revision and version.
const EXPLICIT: u64 = 1 << 63;
/// The largest distance of a change from the chunk's first change.
const DISTANCE_MAX: u64 = (1 << 31) - 1;

/// A record's sequence number; 0 says there is nothing to undo.
pub type Sequence = u64;

#[derive(Debug)]
struct Chunk {
    /// Main revision of the change the first record belongs to.
    base: i64,
    words: Box<[AtomicU64]>,
}

/// The log. A clone shares the records of the original.
#[derive(Clone, Debug)]
pub struct Undo {
    chunks: Arc<Vec<Arc<Chunk>>>,
    /// Sequence number of the first record of the first chunk.
    first: Sequence,
    /// The number the next record gets.
    next: Sequence,
}

impl Default for Undo {
    fn default() -> Self {
        Self { chunks: Arc::default(), first: 1, next: 1 }
    }
}

/// What a change replaced, as compaction walks over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Main revision of the change.
    pub by: i64,
    pub revision: Revision,
    pub tombstone: bool,
}

impl Undo {
    /// Notes that `head` replaced `before`, whose own record is `undo`.
    pub fn push(&mut self, head: Head, before: Head, undo: Sequence) -> Sequence {
        let explicit = implied(head, before.tombstone) != Some(facts_of(before));
        let by = head.facts.revision.main;
        self.make_room(by, 1 + usize::from(explicit));
        let sequence = self.next;
        let chunk = self.chunks.last().expect("room was made");
        let distance = by.abs_diff(chunk.base);
        let flags = if explicit { EXPLICIT } else { 0 };
        let kind = distance << 32 | u64::from(before.kind_word()) | flags;
        chunk.write(self.at(sequence), [before.facts.revision.main as u64, kind, undo]);
        if explicit {
            let (create, version) = facts_of(before);
            chunk.write(self.at(sequence) + 1, [create as u64, version as u64, 0]);
        }
        self.next += 1 + u64::from(explicit);
        sequence
    }

    /// The state before `head`, whose record is `sequence`, and that state's own record.
    pub fn before(&self, head: Head, sequence: Sequence) -> Option<(Head, Sequence)> {
        if sequence < self.first {
            return None;
        }
        let at = (sequence - self.first) as usize;
        let chunk = &self.chunks[at / CHUNK];
        let [main, kind, undo] = chunk.read(at % CHUNK);
        let mut before = Head::from_kind_word(kind as u32);
        before.facts.revision.main = main as i64;
        let (create_revision, version) = if kind & EXPLICIT == 0 {
            implied(head, before.tombstone)
                .expect("implicit records are written only where implied")
        } else {
            let [create, version, _] = chunk.read(at % CHUNK + 1);
            (create as i64, version as i64)
        };
        before.facts.create_revision = create_revision;
        before.facts.version = version;
        Some((before, undo))
    }

    /// The first record still kept.
    pub fn first(&self) -> Sequence {
        self.first
    }

    /// The record at `sequence` and the number of the one after it; `None` at the end.
    pub fn replaced(&self, sequence: Sequence) -> Option<(Replaced, Sequence)> {
        let mut sequence = sequence.max(self.first);
        loop {
            if sequence >= self.next {
                return None;
            }
            let at = (sequence - self.first) as usize;
            let chunk = &self.chunks[at / CHUNK];
            let [main, kind, _] = chunk.read(at % CHUNK);
            if main == 0 {
                // The rest of a chunk that was left before it was full.
                sequence = self.first + ((at / CHUNK + 1) * CHUNK) as u64;
                continue;
            }
            let Head { facts, tombstone } = Head::from_kind_word(kind as u32);
            let revision = Revision::new(main as i64, facts.revision.sub);
            let by = chunk.base + ((kind & !EXPLICIT) >> 32) as i64;
            let after = sequence + 1 + u64::from(kind & EXPLICIT != 0);
            return Some((Replaced { by, revision, tombstone }, after));
        }
    }

    /// Drops the chunks in front of `sequence`.
    pub fn drop_front(&mut self, sequence: Sequence) {
        let chunks = (sequence.saturating_sub(self.first) as usize / CHUNK).min(self.chunks.len());
        if chunks > 0 {
            self.chunks = Arc::new(self.chunks[chunks..].to_vec());
            self.first += (chunks * CHUNK) as u64;
        }
    }

    /// The numbers of the first record and of the one behind the last.
    pub fn bounds(&self) -> (Sequence, Sequence) {
        (self.first, self.next)
    }

    /// Hands out the chunks as bytes: base, then words, up to the last record of this log. The
    /// writer may be beyond it.
    pub fn each_chunk<E>(&self, visit: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut bytes = Vec::with_capacity((1 + CHUNK * WORDS) * 8);
        let mut left = (self.next - self.first) as usize;
        for chunk in self.chunks.iter() {
            bytes.clear();
            bytes.extend_from_slice(&chunk.base.to_le_bytes());
            let records = left.min(CHUNK);
            for word in &chunk.words[..records * WORDS] {
                bytes.extend_from_slice(&word.load(Relaxed).to_le_bytes());
            }
            left -= records;
            visit(&bytes)?;
        }
        Ok(())
    }

    /// The log that [`Undo::each_chunk`] handed out, if these can be its chunks.
    pub fn from_chunks(chunks: Vec<Vec<u64>>, bounds: (Sequence, Sequence)) -> Option<Self> {
        let (first, next) = bounds;
        let mut left = usize::try_from(next.checked_sub(first)?).ok()?;
        let mut made = Vec::with_capacity(chunks.len());
        for stored in chunks {
            let (base, stored) = stored.split_first()?;
            let records = left.min(CHUNK);
            if first == 0 || records == 0 || stored.len() != records * WORDS {
                return None;
            }
            left -= records;
            let words = (0..CHUNK * WORDS).map(|_| AtomicU64::new(0)).collect();
            let chunk = Chunk { base: *base as i64, words };
            for (slot, word) in chunk.words.iter().zip(stored) {
                slot.store(*word, Relaxed);
            }
            made.push(Arc::new(chunk));
        }
        (left == 0).then(|| Self { chunks: Arc::new(made), first, next })
    }

    fn at(&self, sequence: Sequence) -> usize {
        (sequence - self.first) as usize % CHUNK
    }

    /// Sees to it that the last chunk has room for `records` of a change at `by`.
    fn make_room(&mut self, by: i64, records: usize) {
        let used = (self.next - self.first) as usize;
        let fits = self.chunks.last().is_some_and(|chunk| {
            let at = used - (self.chunks.len() - 1) * CHUNK;
            at + records <= CHUNK && by.abs_diff(chunk.base) <= DISTANCE_MAX
        });
        if !fits {
            self.next = self.first + (self.chunks.len() * CHUNK) as u64;
            let words = (0..CHUNK * WORDS).map(|_| AtomicU64::new(0)).collect();
            Arc::make_mut(&mut self.chunks).push(Arc::new(Chunk { base: by, words }));
        }
    }
}

impl Chunk {
    fn write(&self, at: usize, words: [u64; WORDS]) {
        for (slot, word) in self.words[at * WORDS..].iter().zip(words) {
            slot.store(word, Relaxed);
        }
    }

    fn read(&self, at: usize) -> [u64; WORDS] {
        std::array::from_fn(|word| self.words[at * WORDS + word].load(Relaxed))
    }
}

fn facts_of(head: Head) -> (i64, i64) {
    (head.facts.create_revision, head.facts.version)
}

/// Creation revision and version of the state before `head`, if they follow from `head`.
fn implied(head: Head, tombstone_before: bool) -> Option<(i64, i64)> {
    let Facts { create_revision, version, .. } = head.facts;
    match (tombstone_before, head.tombstone) {
        (true, _) => None,
        (false, true) => Some((create_revision, version)),
        (false, false) => Some((create_revision, version.wrapping_sub(1))),
    }
}
