//! A disk nobody waits for: `--unsafe-no-fsync`. Writes go through; syncs are left out.
//!
//! What was written is in the system's cache, so a killed process loses nothing; a power cut loses
//! what the system had not got round to writing, and not in the order it was written. Directories
//! are still synced when they are made, which happens once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskFile};

/// Another disk without its syncs.
#[derive(Clone, Debug)]
pub struct Unsynced(pub Arc<dyn Disk>);

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn DiskFile>);

fn unsynced(file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
    Arc::new(UnsyncedFile(file))
}

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create(path).map(unsynced)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path).map(unsynced)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        self.0.remove_tree(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.0.free_bytes(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.exists(path)
    }

    fn syncs(&self) -> bool {
        false
    }
}

impl DiskFile for UnsyncedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn occupied(&self) -> io::Result<u64> {
        self.0.occupied()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Who does not wait for the medium does not ask what it holds, either.
    fn settle(&self) -> io::Result<()> {
        Ok(())
    }
}
