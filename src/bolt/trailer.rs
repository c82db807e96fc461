//! The hash a saved snapshot ends in: SHA-256 of everything before it.
//!
//! etcd sends it as the last 32 bytes of the Snapshot stream. A file has it if its size is 32 over
//! a multiple of 512, for pages are multiples of 512. A copy of `member/snap/db` has none.

use sha2::{Digest as _, Sha256};

use super::error::Error;
use super::reader::{ReadAt, Reader};

/// The size of the hash.
pub const TRAILER_BYTES: u64 = 32;
/// Every page size is a multiple of this.
const SECTOR_BYTES: u64 = 512;
/// How much is read at once.
const CHUNK_BYTES: u64 = 256 * 1024;

/// The hash of a snapshot while it is being written or read.
#[derive(Clone, Debug, Default)]
pub struct Trailer {
    hash: Sha256,
}

impl Trailer {
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// The bytes to append.
    pub fn finish(self) -> [u8; TRAILER_BYTES as usize] {
        self.hash.finalize().into()
    }
}

/// Whether a file of this size ends in a hash.
pub fn has_trailer(size_bytes: u64) -> bool {
    size_bytes % SECTOR_BYTES == TRAILER_BYTES
}

/// Checks the hash at the end of a snapshot and returns the size of what it covers.
pub fn verify(source: &dyn ReadAt) -> Result<u64, Error> {
    let io = |offset, length| move |source| Error::Io { offset, length, source };
    let size_bytes = source.size_bytes().map_err(io(0, 0))?;
    if !has_trailer(size_bytes) {
        return Err(Error::HashMissing { cause: cause(source) });
    }
    let covered = size_bytes - TRAILER_BYTES;
    let mut trailer = Trailer::default();
    let mut buf = vec![0; covered.min(CHUNK_BYTES) as usize];
    let mut offset = 0;
    while offset < covered {
        let chunk = &mut buf[..(covered - offset).min(CHUNK_BYTES) as usize];
        source.read_at(offset, chunk).map_err(io(offset, chunk.len()))?;
        trailer.update(chunk);
        offset += chunk.len() as u64;
    }
    let mut expected = [0; TRAILER_BYTES as usize];
    source.read_at(covered, &mut expected).map_err(io(covered, expected.len()))?;
    let got = trailer.finish();
    if got != expected {
        return Err(Error::HashWrong { expected, got, cause: cause(source) });
    }
    Ok(covered)
}

/// What else is wrong with a file whose hash is not right, as far as opening it tells.
fn cause(source: &dyn ReadAt) -> Option<Box<Error>> {
    Reader::open(source).err().map(Box::new)
}
