//! Reserves: files of segment size that own their blocks and wait to become segments.
//!
//! A reserve is a retired segment or a fresh file. Its contents mean nothing until it is given a
//! header and a segment's name, so it may be torn, stale or half made after a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Fault;
use crate::storage::disk::{Disk, DiskFile};

const PREFIX: &str = "spare-";
/// Zeros written at a time.
const FILL_BYTES: usize = 1024 * 1024;

/// A file that is ready to become a segment.
#[derive(Debug)]
pub struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) bytes: u64,
}

/// A reserve yet to be made. It holds nothing of the log, so any thread may fulfil it.
#[derive(Debug)]
pub struct Order {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) prefill: bool,
}

impl Order {
    /// Makes the file, or leaves nothing behind.
    pub fn fulfil(self) -> Result<Spare, Fault> {
        let file = self.disk.create(&self.path).map_err(|err| self.fault("create", err))?;
        match self.fill(&*file) {
            Ok(()) => Ok(Spare { path: self.path, file, bytes: self.bytes }),
            Err(fault) => {
                // The fault is what matters; a reserve left over is removed by the next open.
                let _ = self.disk.remove(&self.path);
                Err(fault)
            }
        }
    }

    fn fill(&self, file: &dyn DiskFile) -> Result<(), Fault> {
        file.allocate(self.bytes).map_err(|err| self.fault("allocate", err))?;
        if self.prefill {
            let zeros = vec![0; FILL_BYTES.min(self.bytes as usize)];
            let mut offset = 0;
            while offset < self.bytes {
                let piece = (self.bytes - offset).min(zeros.len() as u64);
                let written = file.write_at(offset, &zeros[..piece as usize]);
                written.map_err(|err| self.fault("write", err))?;
                offset += piece;
            }
        }
        file.sync().map_err(|err| self.fault("sync", err))
    }

    fn fault(&self, action: &'static str, err: std::io::Error) -> Fault {
        Fault::io(action, &self.path, err)
    }
}

impl Spare {
    /// Takes over a reserve that an earlier run left, or removes it if it is of no use.
    pub(super) fn adopt(disk: &dyn Disk, path: PathBuf, bytes: u64) -> Result<Option<Self>, Fault> {
        let file = disk.open(&path).map_err(|err| Fault::io("open", &path, err))?;
        let length = file.len().map_err(|err| Fault::io("measure", &path, err))?;
        let spare = Self { path, file, bytes: length };
        // The length alone proves no blocks: they may have been lost with the power.
        if length == bytes && spare.file.allocate(bytes).is_ok() {
            return Ok(Some(spare));
        }
        spare.discard(disk)?;
        Ok(None)
    }

    pub(super) fn discard(self, disk: &dyn Disk) -> Result<(), Fault> {
        disk.remove(&self.path).map_err(|err| Fault::io("remove", &self.path, err))
    }
}

/// The file name of reserve `number`.
pub fn name(number: u64) -> PathBuf {
    PathBuf::from(format!("{PREFIX}{number:016x}"))
}

/// The number of a reserve, if the file name is one.
pub fn number(name: &Path) -> Option<u64> {
    let digits = name.to_str()?.strip_prefix(PREFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}
