//! The disk seam: the few file operations durable storage needs, real or simulated.
//!
//! Code above this line never names `std::fs`, so the same WAL and the same redb engine run on a
//! disk that loses unsynced writes, tears them, fails or fills up.
//!
//! Invariants:
//! - Data, length and directory entries become durable separately: `sync` covers a file's data and
//!   length, `sync_dir` the names in a directory.
//! - After a `sync` failed, nothing may be assumed about the file; the node stops. Whoever opens
//!   the file next calls `settle` before believing what it reads: the cache may hold what the disk
//!   does not.
//! - Directories are durable once `create_dir` returns; the files in them are not.

pub mod real;
pub mod sim;
mod unsynced;

pub use real::RealDisk;
pub use sim::SimDisk;
pub use unsynced::Unsynced;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system directory tree, as much of it as storage needs.
pub trait Disk: Debug + Send + Sync {
    /// Creates a file that must not exist, open for reading and writing, mode 0600.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it; one that is absent is left so.
    fn remove_tree(&self, dir: &Path) -> io::Result<()>;
    /// The names (not paths) of the entries of a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a directory and its parents, mode 0700, durably; one that exists is left alone.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that files under a directory may still grow by; no limit if it cannot be told.
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    /// Whether a path exists. What cannot be told counts as there: who opens it hears why.
    fn exists(&self, path: &Path) -> bool;
    /// Whether `sync` and `sync_dir` do what they say; an engine with files of its own asks.
    fn syncs(&self) -> bool {
        true
    }
}

/// An open file. Reads and writes are positional; a handle is shared freely.
#[expect(clippy::len_without_is_empty, reason = "nobody asks; a length can fail")]
pub trait DiskFile: Debug + Send + Sync {
    /// Reads exactly `buf.len()` bytes at `offset`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`, growing the file if needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// The bytes of storage the file takes up: its length, less the holes in it.
    fn occupied(&self) -> io::Result<u64> {
        self.len()
    }
    /// Sets the length; new bytes read as zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves blocks for the first `len` bytes, so that writing them cannot run out of space,
    /// and grows the file to `len` if it is shorter.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes data and length durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Syncs, then forgets what is cached, so that later reads see what the medium holds.
    ///
    /// A sync that failed in an earlier process left pages in the cache that are marked clean and
    /// were never written; read through the cache they look durable.
    fn settle(&self) -> io::Result<()> {
        self.sync()
    }
}

#[cfg(test)]
mod tests;
