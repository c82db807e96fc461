//! The reader: from the oldest segment that counts to the end of the log, believing nothing.
//!
//! Invariants:
//! - A place that cannot be read by the device is a fault, never a torn tail.
//! - A row of segments without a hole, ending at the newest one, is the log. What lies before a
//!   hole are removals that did not reach the disk, if a snapshot mark covers the start of the row,
//!   and otherwise a log with a piece missing.
//! - What is cut off was never durable: see the module's page.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Fault;
use crate::storage::disk::{Disk, DiskFile};

use super::format::{self, HEAD_BYTES, Head, Items, Link, SECTOR_BYTES};
use super::segment::{Header, Name, Segment};
use super::standing::Standing;
use super::{Batch, Entry, Identity, Mark, Tail};

/// Read at a time. Entries hold on to the piece they were read with, so it is not a whole segment.
const CHUNK_BYTES: u64 = 1024 * 1024;

const LOST: &str = "Take this member out of the cluster and add it as a new one, or restore it \
                    from a snapshot: a member that lost part of its log must not vote";
const FOREIGN: &str = "Give this member the directory that belongs to it";
const EMPTY: &str = "Give this member the directory that holds its log, or let it begin a new one";
const NEWER: &str = "Start the version of kvorum that wrote it, or a later one";

/// Whether a fault means that the log, or a part of it, is lost.
pub fn is_lost(fault: &Fault) -> bool {
    matches!(fault, Fault::Corrupt { advice, .. } if [LOST, EMPTY].contains(advice))
}

/// A log being read. After a fault it holds what was read before it.
#[derive(Debug)]
pub struct Walk<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    expected: Option<Identity>,
    pub identity: Identity,
    pub standing: Standing,
    pub entries: Vec<Entry>,
    pub visited: Vec<Visited>,
    pub tail: Option<Tail>,
    /// Whether there was something behind the tail that had to be cut off.
    pub torn: bool,
    /// Segment files that are not part of the log any more.
    pub leftovers: Vec<PathBuf>,
}

/// A segment that was read.
#[derive(Debug)]
pub struct Visited {
    pub segment: Segment,
    /// Where its last frame ends.
    pub end: u64,
    pub batches: u64,
    pub entries: u64,
}

/// The position in a segment.
#[derive(Debug)]
struct Reader {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    length: u64,
    chunk: Bytes,
    chunk_at: u64,
}

impl<'a> Walk<'a> {
    pub fn new(disk: &'a dyn Disk, dir: &'a Path, expected: Option<Identity>) -> Self {
        Self {
            disk,
            dir,
            expected,
            identity: Identity::default(),
            standing: Standing::default(),
            entries: Vec::new(),
            visited: Vec::new(),
            tail: None,
            torn: false,
            leftovers: Vec::new(),
        }
    }

    /// Reads everything. With `settle`, what the cache says of the newest segment is not believed.
    pub fn run(&mut self, mut names: Vec<Name>, settle: bool) -> Result<(), Fault> {
        names.sort();
        let row = self.row(&names)?;
        self.leftovers = names[..row].iter().map(|name| name.path(self.dir)).collect();
        for (position, name) in names.iter().enumerate().skip(row) {
            let path = name.path(self.dir);
            let file = self.disk.open(&path).map_err(|err| Fault::io("open", &path, err))?;
            if settle && position + 1 == names.len() {
                file.settle().map_err(|err| Fault::io("settle", &path, err))?;
            }
            let mut reader = Reader::new(path, file)?;
            let link = self.enter(*name, &mut reader)?;
            self.read(*name, link, &mut reader)?;
            if position + 1 == names.len() {
                self.finish(&mut reader)?;
            }
        }
        self.check_start()
    }

    /// Where the unbroken row of segments starts that ends at the newest one.
    fn row(&self, names: &[Name]) -> Result<usize, Fault> {
        if names.is_empty() {
            return Err(corrupt(self.dir, 0, "there is no log in it", EMPTY));
        }
        let mut row = names.len() - 1;
        while row > 0 && names[row].sequence - names[row - 1].sequence == 1 {
            row -= 1;
        }
        match names.windows(2).find(|pair| pair[0].sequence == pair[1].sequence) {
            Some(pair) => {
                Err(corrupt(&pair[1].path(self.dir), 0, "two segments have its sequence", LOST))
            }
            None => Ok(row),
        }
    }

    /// Reads a header and checks that it goes on where the segment before it ended.
    fn enter(&mut self, name: Name, reader: &mut Reader) -> Result<Link, Fault> {
        let frame = reader.frame(0, name.sequence, 0)?;
        let Some((head, Some(body))) = frame else {
            return Err(reader.corrupt(0, "the header is unreadable", LOST));
        };
        let header = Header::decode(body).map_err(|what| {
            let advice = if what.starts_with("format version") { NEWER } else { LOST };
            reader.corrupt(0, what, advice)
        })?;
        if header.first_index != name.first_index {
            return Err(reader.corrupt(0, "the header and the file name disagree", LOST));
        }
        let expected = match self.visited.is_empty() {
            true => self.expected.unwrap_or(header.identity),
            false => self.identity,
        };
        if header.identity != expected {
            let Identity { cluster_id, member_id } = header.identity;
            let what = format!(
                "it belongs to member {member_id:x} of cluster {cluster_id:x}, not to member {:x} \
                 of cluster {:x}",
                expected.member_id, expected.cluster_id
            );
            return Err(reader.corrupt(0, what, FOREIGN));
        }
        self.identity = header.identity;
        if let (Some(before), Some(tail)) = (self.visited.last(), &self.tail) {
            if tail.offset < header.previous_end {
                let what = "a record is unreadable although the log goes on behind it";
                return Err(corrupt(&before.segment.path, tail.offset, what, LOST));
            }
            if tail.offset != header.previous_end
                || tail.link.previous != head.previous
                || self.standing != header.standing
            {
                let what = "it does not go on where the segment before it ends";
                return Err(reader.corrupt(0, what, LOST));
            }
        }
        self.standing = header.standing;
        Ok(Link { sequence: name.sequence, salt: head.crc, previous: head.crc, epoch: head.epoch })
    }

    /// Reads the frames of a segment up to the first that is not of the log.
    fn read(&mut self, name: Name, mut link: Link, reader: &mut Reader) -> Result<(), Fault> {
        let mut offset = SECTOR_BYTES;
        let (mut batches, mut entries, mut index_max) = (0, 0, 0);
        while let Some((head, Some(body))) = reader.frame(offset, link.sequence, link.salt)?
            && head.previous == link.previous
        {
            let bytes = format::frame_bytes(body.len() as u64)?;
            let items = format::decode_batch(body).map_err(|w| reader.corrupt(offset, w, LOST))?;
            batches += 1;
            entries += items.entries.len() as u64;
            index_max = items.entries.last().map_or(index_max, |last| last.index.max(index_max));
            self.take(items).map_err(|what| reader.corrupt(offset, what, LOST))?;
            link = Link { previous: head.crc, epoch: head.epoch, ..link };
            offset += bytes;
        }
        let Reader { path, file, length, .. } = &*reader;
        let segment =
            Segment { name, path: path.clone(), file: file.clone(), bytes: *length, index_max };
        self.visited.push(Visited { segment, end: offset, batches, entries });
        let (file, capacity) = (file.clone(), *length);
        self.tail = Some(Tail { file, capacity, offset, synced: offset, link });
        Ok(())
    }

    /// Applies a batch to the log in memory.
    fn take(&mut self, mut items: Items) -> Result<(), &'static str> {
        let Items { snapshot, entries, hard_state } = &items;
        let batch = Batch { snapshot: *snapshot, entries, hard_state: *hard_state };
        self.standing = self.standing.after(&batch)?;
        match items.snapshot {
            Some(Mark::Installed(_)) => self.entries.clear(),
            Some(Mark::Taken(_)) | None => {}
        }
        if let (Some(old), Some(new)) = (self.entries.first(), items.entries.first()) {
            self.entries.truncate(new.index.saturating_sub(old.index) as usize);
        }
        self.entries.append(&mut items.entries);
        Ok(())
    }

    /// Looks behind the end of the newest segment: was the end ever durable further on?
    fn finish(&mut self, reader: &mut Reader) -> Result<(), Fault> {
        let tail = self.tail.as_mut().expect("a segment was read");
        let Link { sequence, salt, epoch: written, .. } = tail.link;
        let mut offset = tail.offset;
        while offset + HEAD_BYTES as u64 <= reader.length {
            if let Some(head) = reader.head(offset, sequence, salt)? {
                // Remains from before the newest record was written were cut off earlier.
                self.torn |= head.epoch >= written;
                // A record like it must not be written again, or it would count again.
                tail.link.epoch = tail.link.epoch.max(head.epoch);
                if head.synced > tail.offset {
                    let what = format!(
                        "a record is unreadable although it was durable when the one at {offset} \
                         was written"
                    );
                    return Err(reader.corrupt(tail.offset, what, LOST));
                }
            }
            offset += SECTOR_BYTES;
        }
        Ok(())
    }

    /// The log must begin where a snapshot ends, or earlier.
    fn check_start(&self) -> Result<(), Fault> {
        let first = self.entries.first().map_or(self.standing.last_index + 1, |e| e.index);
        let covered = self.standing.snapshot.index;
        if first <= covered + 1 {
            return Ok(());
        }
        let oldest = &self.visited.first().expect("a segment was read").segment;
        let what = format!(
            "the segment before it is missing, and with it the entries {} to {}",
            covered + 1,
            first - 1
        );
        Err(corrupt(&oldest.path, 0, what, LOST))
    }
}

impl Reader {
    fn new(path: PathBuf, file: Arc<dyn DiskFile>) -> Result<Self, Fault> {
        let length = file.len().map_err(|err| Fault::io("measure", &path, err))?;
        Ok(Self { path, file, length, chunk: Bytes::new(), chunk_at: 0 })
    }

    /// `count` bytes at `offset`, or nothing if the file ends before.
    fn bytes(&mut self, offset: u64, count: u64) -> Result<Option<Bytes>, Fault> {
        let Some(left) = self.length.checked_sub(offset).filter(|left| count <= *left) else {
            return Ok(None);
        };
        let end = self.chunk_at + self.chunk.len() as u64;
        if offset < self.chunk_at || offset + count > end {
            let mut chunk = vec![0; count.max(CHUNK_BYTES.min(left)) as usize];
            let read = self.file.read_at(offset, &mut chunk);
            read.map_err(|err| Fault::io("read", &self.path, err))?;
            self.chunk = chunk.into();
            self.chunk_at = offset;
        }
        let start = (offset - self.chunk_at) as usize;
        Ok(Some(self.chunk.slice(start..start + count as usize)))
    }

    /// The head at `offset`, if a valid one of this segment is there.
    fn head(&mut self, offset: u64, sequence: u64, salt: u32) -> Result<Option<Head>, Fault> {
        let bytes = self.bytes(offset, HEAD_BYTES as u64)?;
        Ok(bytes.and_then(|bytes| Head::decode(&bytes, sequence, salt)))
    }

    /// The frame at `offset`: its head, and its body if that is whole.
    fn frame(
        &mut self,
        offset: u64,
        sequence: u64,
        salt: u32,
    ) -> Result<Option<(Head, Option<Bytes>)>, Fault> {
        let Some(head) = self.head(offset, sequence, salt)? else {
            return Ok(None);
        };
        let body = self.bytes(offset + HEAD_BYTES as u64, u64::from(head.length))?;
        Ok(Some((head, body.filter(|body| head.covers(body, salt)))))
    }

    fn corrupt(&self, offset: u64, what: impl Into<String>, advice: &'static str) -> Fault {
        corrupt(&self.path, offset, what, advice)
    }
}

fn corrupt(path: &Path, offset: u64, what: impl Into<String>, advice: &'static str) -> Fault {
    Fault::Corrupt { path: path.to_owned(), offset, what: what.into(), advice }
}
