//! A file of checked blocks that is replaced whole: for what can be made again, but not quickly.
//!
//! ```text
//! magic │ length │ crc │ kind │ payload │ length │ crc │ kind │ payload │ ... │ end block
//!         4 bytes  4     1                                                  kind 0, no payload
//! ```
//!
//! - A reader believes a block only if its checksum is right, and the file only if it has its end.
//! - The file appears under its name when all of it is durable; before that there is the old one,
//!   or none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use crate::error::Fault;

/// What the file begins with; the digit counts its versions.
const MAGIC: &[u8; 8] = b"kvblock1";
const HEAD_BYTES: usize = 9;
/// The kind of the last block.
const END: u8 = 0;
/// Bytes gathered before they are written, and read at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes between syncs: many written at once would stand in the way of the log's.
const SYNC_BYTES: u64 = 8 << 20;
/// The largest payload; more is damage. A block holds a few thousand keys, or one of 1.5 MiB.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// A file being written.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    temporary: PathBuf,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Bytes already written, and how many of them are durable.
    written: u64,
    synced: u64,
}

impl Writer {
    /// Begins a file that will replace the one at `path`.
    pub fn create(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self, Fault> {
        let temporary = path.with_extension("tmp");
        let create = || {
            if disk.exists(&temporary) {
                disk.remove(&temporary)?;
            }
            disk.create(&temporary)
        };
        let file = create().map_err(|source| Fault::io("create", &temporary, source))?;
        Ok(Self {
            disk: disk.clone(),
            path: path.to_owned(),
            temporary,
            file,
            buffer: MAGIC.to_vec(),
            written: 0,
            synced: 0,
        })
    }

    /// Adds a block; its payload is `pieces`, one behind the other. Kind 0 is taken.
    pub fn put(&mut self, kind: u8, pieces: &[&[u8]]) -> Result<(), Fault> {
        assert!(kind != END, "only finishing ends a file");
        self.block(kind, pieces)
    }

    fn block(&mut self, kind: u8, pieces: &[&[u8]]) -> Result<(), Fault> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(length <= PAYLOAD_BYTES_MAX, "a block of {length} bytes");
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[kind]);
        pieces.iter().for_each(|piece| crc.update(piece));
        self.buffer.extend_from_slice(&(length as u32).to_le_bytes());
        self.buffer.extend_from_slice(&crc.finalize().to_le_bytes());
        self.buffer.push(kind);
        pieces.iter().for_each(|piece| self.buffer.extend_from_slice(piece));
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let written = self.file.write_at(self.written, &self.buffer);
        written.map_err(|source| Fault::io("write", &self.temporary, source))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync().map_err(|source| Fault::io("sync", &self.temporary, source))?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Makes the file durable and gives it its name; returns its length in bytes.
    pub fn finish(mut self) -> Result<u64, Fault> {
        self.block(END, &[])?;
        self.flush()?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let named = self.file.sync().and_then(|()| {
            self.disk.rename(&self.temporary, &self.path)?;
            self.disk.sync_dir(dir)
        });
        named.map_err(|source| Fault::io("finish", &self.path, source))?;
        Ok(self.written)
    }

    /// Removes what was written: the file at the path stays as it was.
    pub fn give_up(self) {
        // What is left of it is removed before the next attempt.
        let _ = self.disk.remove(&self.temporary);
    }
}

/// A file being read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// Where in the file the buffer begins.
    offset: u64,
    buffer: Vec<u8>,
    /// How much of the buffer has been handed out.
    taken: usize,
}

impl Reader {
    /// Opens the file at `path`; `None` if there is none.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, Fault> {
        if !disk.exists(path) {
            return Ok(None);
        }
        let opened = disk.open(path).and_then(|file| Ok((file.len()?, file)));
        let (length, file) = opened.map_err(|source| Fault::io("open", path, source))?;
        let path = path.to_owned();
        let mut reader = Self { path, file, length, offset: 0, buffer: Vec::new(), taken: 0 };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(reader.damage("it does not begin as it should"));
        }
        Ok(Some(reader))
    }

    /// The next block's kind and payload; `None` behind the last.
    pub fn next_block(&mut self) -> Result<Option<(u8, &[u8])>, Fault> {
        let head = self.take(HEAD_BYTES)?;
        let word = |at: usize| head[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let (length, crc, kind) = (word(0) as usize, word(4), head[8]);
        if length > PAYLOAD_BYTES_MAX {
            return Err(self.damage("a block is too long to be one"));
        }
        self.fill(length)?;
        let payload = &self.buffer[self.taken..self.taken + length];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[kind]);
        hasher.update(payload);
        if hasher.finalize() != crc {
            return Err(self.damage("a block's checksum is wrong"));
        }
        if kind == END {
            return Ok(None);
        }
        self.taken += length;
        Ok(Some((kind, &self.buffer[self.taken - length..self.taken])))
    }

    /// What to say of a file whose blocks do not make sense.
    pub fn damage(&self, what: &str) -> Fault {
        Fault::Corrupt {
            path: self.path.clone(),
            offset: self.offset + self.taken as u64,
            what: what.to_owned(),
            advice: "It is made again from the state engine; nothing is lost.",
        }
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Fault> {
        self.fill(length)?;
        self.taken += length;
        Ok(&self.buffer[self.taken - length..self.taken])
    }

    /// Sees to it that `length` bytes are in the buffer and not handed out.
    fn fill(&mut self, length: usize) -> Result<(), Fault> {
        if self.buffer.len() - self.taken >= length {
            return Ok(());
        }
        self.buffer.drain(..self.taken);
        self.offset += self.taken as u64;
        self.taken = 0;
        let have = self.buffer.len();
        let left = self.length.saturating_sub(self.offset + have as u64);
        if left < (length - have) as u64 {
            return Err(self.damage("it ends too early"));
        }
        let want = left.min(length.max(BUFFER_BYTES) as u64 - have as u64) as usize;
        self.buffer.resize(have + want, 0);
        let read = self.file.read_at(self.offset + have as u64, &mut self.buffer[have..]);
        read.map_err(|source| Fault::io("read", &self.path, source))
    }
}

#[cfg(test)]
mod tests;
