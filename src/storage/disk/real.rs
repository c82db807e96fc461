//! The real disk: `std::fs` with positional IO, `fdatasync` and `fallocate`.
//!
//! Files are created 0600 and directories 0700: a member's data is nobody else's business.
//! Errors pass through as the system gave them, `StorageFull` and EIO included.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;

use super::{Disk, DiskFile};

/// What a file system without `fallocate` is given instead, a piece at a time.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = std::fs::read_dir(dir)?
            .map(|entry| Ok(PathBuf::from(entry?.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// Goes up to the first ancestor that exists and syncs every parent on the way down: a
    /// directory lost in a power cut takes everything in it along, however well that was synced.
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        self.create_dir(parent)?;
        match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => self.sync_dir(parent),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            Err(err) => Err(err),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn exists(&self, path: &Path) -> bool {
        path.try_exists().unwrap_or(true)
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.fill(len),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn occupied(&self) -> io::Result<u64> {
        // The unit of `st_blocks` is 512 bytes, whatever the file system's block size.
        Ok(self.0.metadata()?.blocks() * 512)
    }

    fn settle(&self) -> io::Result<()> {
        self.0.sync_data()?;
        // Advice the system may ignore, and file systems without a page cache do.
        fadvise(&self.0, 0, None, Advice::DontNeed).or_else(|errno| match errno {
            Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => Ok(()),
            errno => Err(errno.into()),
        })
    }
}

impl RealFile {
    /// Reserves by writing: the missing tail becomes zeros on blocks of its own.
    fn fill(&self, len: u64) -> io::Result<()> {
        let mut offset = self.len()?;
        while offset < len {
            let piece = (len - offset).min(ZEROS.len() as u64) as usize;
            self.write_at(offset, &ZEROS[..piece])?;
            offset += piece as u64;
        }
        Ok(())
    }
}
