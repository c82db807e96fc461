//! The write-ahead log: raft's entries, hard state and snapshot marks, in the order they were
//! agreed on, on a disk that may stop at any moment.
//!
//! The log is a row of segment files of one size. A [`Batch`] becomes one frame: one checksum, one
//! write, all of it or nothing after a crash. Frames are chained by their checksums, across
//! segments too, so that a log is one unbroken sequence or is refused.
//!
//! ```text
//!   0000000000000007-00000000000004b1.wal          sequence 7, next entry is 0x4b1
//!   ┌────────┬───────────┬───────┬────────────┬──────────────────────────┐
//!   │ header │ batch     │ batch │ batch      │ reserved; old bytes,     │
//!   │        │           │       │            │ never taken for frames   │
//!   └────────┴───────────┴───────┴────────────┴──────────────────────────┘
//!     512 B    each frame starts on a sector of its own
//! ```
//!
//! Invariants:
//! - A frame is never written into a sector that holds synced bytes: a crash may ruin every sector
//!   that is being written and still cannot reach what was acknowledged.
//! - A segment gets its name after its header is durable, and only when all before it is durable.
//!   It carries the hard state and the snapshot mark, so older segments may go at any time.
//! - Blocks are reserved before bytes need them. [`Wal::append`] refuses a batch for lack of space
//!   before it wrote any of it, and the log goes on working.
//! - After any other failure the log answers nothing but errors: nobody knows what the disk holds.
//! - Opening writes nothing into the log, so it may be interrupted and repeated.
//!
//! What a torn tail is. Every frame says up to where the log was durable when it was written. An
//! unreadable place is cut off if no later frame of the segment claims to have been written after
//! that place was durable; otherwise it was acknowledged once, and the log is refused as damaged.
//!
//! Deliberately absent: threads (a reserve is [ordered](Wal::order) here and fulfilled wherever the
//! caller likes), repair of damage (a member that lost part of its log must not vote), and reading
//! entries back while running (raft keeps its window in memory).

mod format;
mod fuzz;
mod open;
mod segment;
mod spare;
mod standing;
mod verify;
mod walk;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Fault;
use crate::planted::{Mistake, planted};
use crate::storage::disk::{Disk, DiskFile};

pub use fuzz::fuzz_open;
pub use open::Recovered;
pub use spare::{Order, Spare};
pub use verify::{Report, SegmentReport, verify};
pub use walk::is_lost;

use format::{Link, PAGE_BYTES, SECTOR_BYTES};
use segment::{Header, Name, Segment};
use standing::Standing;

/// Reserves kept ready. Two, because a released segment usually arrives shortly after the reserve
/// was used and another one ordered; the third would only go round in circles.
const SPARES_MAX: usize = 2;

/// Whose log it is. Every segment says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
}

/// What an entry means to raft; the numbers are raft's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Normal = 0,
    ConfChange = 1,
    ConfChangeV2 = 2,
}

/// One entry of the raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub term: u64,
    pub index: u64,
    pub kind: EntryKind,
    pub data: Bytes,
}

/// What raft must not forget besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}

/// A point up to which the state is durable elsewhere. The default is the empty state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub index: u64,
    pub term: u64,
}

/// A snapshot and what it does to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Our own state reached this point; the entries stay until they are released.
    Taken(Snapshot),
    /// State came from the leader and replaces the log, which goes on behind it.
    Installed(Snapshot),
}

/// What one write makes durable, in this order. It is recovered whole or not at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    pub snapshot: Option<Mark>,
    /// Consecutive. The first one replaces every entry from its index on.
    pub entries: &'a [Entry],
    /// A commit index alone need not be written: it may ride with the next batch.
    pub hard_state: Option<HardState>,
}

/// What [`Wal::append`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Bytes of the frame, its padding to the next sector included.
    pub bytes: u64,
    /// Whether a new segment was begun; the moment to [order](Wal::order) the next reserve.
    pub switched: bool,
}

/// What can be appended without asking the file system for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes left in the segment being written.
    pub active_bytes: u64,
    /// Whole segments behind it.
    pub spares: usize,
}

/// How a log is laid out. It may change between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment. A batch that does not fit in one gets a segment of its own size.
    pub segment_bytes: u64,
    /// Whether a fresh reserve is written with zeros, not only allocated. It costs one pass over
    /// the segment, off the commit path, and spares every later sync a change of metadata. Off by
    /// default: `benches/wal.rs` found no difference on ext4 that stood out from the noise.
    pub prefill: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, prefill: false }
    }
}

/// A log open for appending.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    identity: Identity,
    /// What the log amounts to, the unsynced end included.
    standing: Standing,
    /// Index of the newest durable snapshot mark; no entry above it is ever released.
    released_max: u64,
    /// Oldest first. The last one is being written and is never released.
    segments: VecDeque<Segment>,
    tail: Tail,
    spares: Vec<Spare>,
    /// Number of the next reserve file, for a name of its own.
    spare_next: u64,
    /// The frame being built; kept for its allocation.
    buffer: Vec<u8>,
    failed: bool,
}

/// The end of the segment being written.
#[derive(Clone, Debug)]
struct Tail {
    file: Arc<dyn DiskFile>,
    /// Length of the file, all of it reserved.
    capacity: u64,
    /// Where the next frame starts; a multiple of the sector.
    offset: u64,
    /// Up to here the segment is durable.
    synced: u64,
    link: Link,
}

impl Wal {
    /// Whether `dir` holds a log. What a creation cut short left behind is none.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, Fault> {
        if !disk.exists(dir) {
            return Ok(false);
        }
        let names = disk.list(dir).map_err(|err| Fault::io("list", dir, err))?;
        Ok(names.iter().any(|name| Name::parse(name).is_some()))
    }

    /// The newest hard state, durable or not.
    pub fn hard_state(&self) -> HardState {
        self.standing.hard_state
    }

    /// The newest snapshot mark, durable or not.
    pub fn snapshot(&self) -> Snapshot {
        self.standing.snapshot
    }

    /// The index of the last entry, or of the snapshot the log begins after.
    pub fn last_index(&self) -> u64 {
        self.standing.last_index
    }

    /// Bytes of all files, reserves included.
    pub fn bytes(&self) -> u64 {
        let spares: u64 = self.spares.iter().map(|spare| spare.bytes).sum();
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + spares
    }

    /// What can be appended before the file system is asked for space.
    ///
    /// When no reserve is left and an [`Order`] came back with [`is_full`], the node raises NOSPACE
    /// and refuses what grows the state: the rest of the active segment is there for deletes,
    /// compactions and raft itself. Releasing segments or a later order ends it.
    pub fn room(&self) -> Room {
        // The last sector of a segment may end behind a file that was cut short by hand.
        let active_bytes = self.tail.capacity.saturating_sub(self.tail.offset);
        Room { active_bytes, spares: self.spares.len() }
    }

    /// Writes a batch. It is durable after the next [`Wal::sync`].
    ///
    /// Fails without having written anything, and leaves the log usable, if there is no space for
    /// it ([`is_full`]) or if the batch contradicts the log ([`Fault::Broken`]).
    pub fn append(&mut self, batch: &Batch<'_>) -> Result<Appended, Fault> {
        self.check()?;
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let standing = self.standing.after(batch).map_err(|what| Fault::Broken(what.into()))?;
        let bytes = format::frame_bytes(format::batch_bytes(batch))?;
        let switched = self.tail.offset + bytes > self.tail.capacity;
        if switched {
            self.switch(bytes)?;
        }
        self.buffer.clear();
        format::begin(&mut self.buffer);
        format::encode_batch(&mut self.buffer, batch);
        let padding = format::padding(self.tail.offset, bytes);
        if padding > 0 {
            self.buffer.resize((bytes + padding) as usize, 0);
        }
        let bytes = bytes + padding;
        let link = format::seal(&mut self.buffer, self.tail.link, self.tail.synced);
        // To the end of the page: a page written whole is not read first. Whatever lies there is
        // behind the tail, so zeros are as good as anything.
        let end = (self.tail.offset + bytes).next_multiple_of(PAGE_BYTES).min(self.tail.capacity);
        self.buffer.resize((end - self.tail.offset) as usize, 0);
        let written = self.tail.file.write_at(self.tail.offset, &self.buffer);
        self.end("write", written)?;
        self.tail.link = link;
        self.tail.offset += bytes;
        self.standing = standing;
        let active = self.segments.back_mut().expect("a log has a segment");
        active.index_max = batch.entries.iter().map(|e| e.index).fold(active.index_max, u64::max);
        Ok(Appended { bytes, switched })
    }

    /// Makes everything appended durable. There is no second attempt after a failure.
    pub fn sync(&mut self) -> Result<(), Fault> {
        self.check()?;
        if self.tail.synced == self.tail.offset {
            return Ok(());
        }
        let mut synced = self.tail.file.sync();
        if planted(Mistake::SyncErrorIgnored) {
            synced = Ok(());
        }
        self.end("sync", synced)?;
        self.tail.synced = self.tail.offset;
        self.released_max = self.standing.snapshot.index;
        Ok(())
    }

    /// Lets go of segments whose entries are all at or below `index`, as far as a durable snapshot
    /// mark covers them, and says how many. Their files become reserves first.
    pub fn release(&mut self, index: u64) -> Result<usize, Fault> {
        self.check()?;
        let bound = index.min(self.released_max);
        let past = |segment: &Segment| segment.index_max <= bound;
        let inactive = self.segments.len() - 1;
        let count = self.segments.iter().take(inactive).take_while(|s| past(s)).count();
        for _ in 0..count {
            let segment = self.segments.pop_front().expect("counted above");
            let retired = self.retire(segment);
            self.end_fault(retired)?;
        }
        if count > 0 {
            // Before a reserve is written to: the old name must be gone by then.
            let synced = self.disk.sync_dir(&self.dir);
            self.end("sync", synced)?;
        }
        Ok(count)
    }

    /// A reserve to be made, if none is ready. [Fulfil](Order::fulfil) it on any thread and
    /// [stock](Wal::stock) what comes of it.
    pub fn order(&mut self) -> Option<Order> {
        self.spares.is_empty().then(|| self.new_order(self.options.segment_bytes))
    }

    /// Takes a reserve in. One too many is removed.
    pub fn stock(&mut self, spare: Spare) -> Result<(), Fault> {
        if self.spares.len() < SPARES_MAX {
            self.spares.push(spare);
            return Ok(());
        }
        spare.discard(&*self.disk)
    }

    /// Orders, fulfils and stocks in one go, for callers that can wait.
    pub fn reserve(&mut self) -> Result<(), Fault> {
        self.check()?;
        match self.order() {
            Some(order) => self.stock(order.fulfil()?),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.failed {
            return Err(Fault::Broken("the log is used after it failed".into()));
        }
        Ok(())
    }

    /// Ends an operation on the active file; a failure is final.
    fn end(&mut self, action: &'static str, result: io::Result<()>) -> Result<(), Fault> {
        result.map_err(|err| {
            self.failed = true;
            let active = self.segments.back().expect("a log has a segment");
            Fault::io(action, &active.path, err)
        })
    }

    fn end_fault<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        self.failed |= result.is_err();
        result
    }

    fn new_order(&mut self, bytes: u64) -> Order {
        let path = self.spare_path();
        Order { disk: self.disk.clone(), path, bytes, prefill: self.options.prefill }
    }

    fn spare_path(&mut self) -> PathBuf {
        let number = self.spare_next;
        self.spare_next = number.wrapping_add(1);
        self.dir.join(spare::name(number))
    }

    /// Begins a new segment that has room for a frame of `bytes`.
    fn switch(&mut self, bytes: u64) -> Result<(), Fault> {
        let wanted = (SECTOR_BYTES + bytes).next_multiple_of(PAGE_BYTES);
        let fits = self.spares.iter().position(|spare| spare.bytes >= wanted);
        let spare = match fits {
            Some(position) => self.spares.remove(position),
            // Nothing of the log is touched yet: a failure here is a refusal.
            None => self.new_order(wanted.max(self.options.segment_bytes)).fulfil()?,
        };
        self.sync()?;
        let active = self.segments.back().expect("a log has a segment");
        let name =
            Name { sequence: active.name.sequence + 1, first_index: self.standing.last_index + 1 };
        let header = Header {
            identity: self.identity,
            first_index: name.first_index,
            previous_end: self.tail.offset,
            standing: self.standing,
        };
        let link = Link { sequence: name.sequence, ..self.tail.link };
        let begun = segment::begin(&*self.disk, &self.dir, spare, name, &header, link);
        let (segment, tail) = self.end_fault(begun)?;
        self.segments.push_back(segment);
        self.tail = tail;
        Ok(())
    }

    /// Turns a segment nobody needs into a reserve, or removes it.
    fn retire(&mut self, segment: Segment) -> Result<(), Fault> {
        if self.spares.len() == SPARES_MAX || segment.bytes != self.options.segment_bytes {
            let removed = self.disk.remove(&segment.path);
            return removed.map_err(|err| Fault::io("remove", &segment.path, err));
        }
        // Nobody will read it again, and what is cached in large folios counts as written in whole
        // folios.
        let dropped = segment.file.settle();
        dropped.map_err(|err| Fault::io("drop the cached pages of", &segment.path, err))?;
        let path = self.spare_path();
        let renamed = self.disk.rename(&segment.path, &path);
        renamed.map_err(|err| Fault::io("rename", &segment.path, err))?;
        self.spares.push(Spare { path, file: segment.file, bytes: segment.bytes });
        Ok(())
    }
}

impl Batch<'_> {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.entries.is_empty() && self.hard_state.is_none()
    }
}

impl Options {
    /// Sizes a file can have: whole pages, and room for something behind the header.
    fn rounded(self) -> Self {
        let segment_bytes = self.segment_bytes.max(2 * PAGE_BYTES).next_multiple_of(PAGE_BYTES);
        Self { segment_bytes, ..self }
    }
}

/// Whether a fault says that the file system has no space left: of a reserve or of an append it is
/// a refusal, after which the log goes on.
pub fn is_full(fault: &Fault) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    matches!(fault, Fault::Io { source, .. } if full.contains(&source.kind()))
}

#[cfg(test)]
mod tests;
