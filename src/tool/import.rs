//! Opening a snapshot file to restore from it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::bolt::{ReadAt, Reader, Row, trailer};

impl ReadAt for File {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }
}

/// How to open a snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Take a file without a hash, or with a wrong one; for copies of `member/snap/db`.
    pub skip_hash_check: bool,
}

/// A snapshot file that is what was saved, or was taken on trust.
#[derive(Debug)]
pub struct Snapshot {
    file: File,
}

/// Opens the snapshot at `path`, checks its hash, and that its last page is there.
pub fn read_snapshot(path: &Path, options: Options) -> Result<Snapshot> {
    let file = File::open(path).map_err(|error| go_error("open", path, &error))?;
    if !options.skip_hash_check {
        trailer::verify(&file)?;
    }
    Reader::open(&file)?;
    Ok(Snapshot { file })
}

impl Snapshot {
    pub fn reader(&self) -> Result<Reader<'_>> {
        Ok(Reader::open(&self.file)?)
    }

    /// All rows by table and key. The file is checked as it is read: whoever restores must not
    /// keep what was read before an error.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<Row>>> {
        Ok(self.reader()?.table_rows().map(|row| Ok(row?)))
    }
}

/// An operating system's refusal in etcdutl's words, which are Go's.
pub(super) fn go_error(action: &str, path: &Path, error: &io::Error) -> anyhow::Error {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    let text: String = first.into_iter().chain(letters).collect();
    anyhow!("{action} {}: {text}", path.display())
}
