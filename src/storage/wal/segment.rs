//! A segment: its name, its header, and how a reserve becomes one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::error::Fault;
use crate::storage::disk::{Disk, DiskFile};

use super::format::{self, Link, SECTOR_BYTES};
use super::standing::Standing;
use super::{HardState, Identity, Snapshot, Spare, Tail};

/// The first bytes of a header's body.
const MAGIC: [u8; 8] = *b"kvorumWL";
/// What this program writes, and the only thing it reads.
const VERSION: u64 = 1;
const SUFFIX: &str = ".wal";

/// What a file name says; names sort as sequences do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub sequence: u64,
    /// The index the log would go on with when the segment was begun.
    pub first_index: u64,
}

/// What the first frame of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub identity: Identity,
    pub first_index: u64,
    /// Where the segment before it ends; what lies behind that place there is not of the log.
    pub previous_end: u64,
    /// The log up to here, so that the segments before it can go.
    pub standing: Standing,
}

/// A segment of an open log.
#[derive(Debug)]
pub struct Segment {
    pub name: Name,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    /// Length of the file.
    pub bytes: u64,
    /// The highest index of any entry in it, replaced ones included; zero without entries.
    pub index_max: u64,
}

impl Name {
    /// Reads a file name, if it is a segment's.
    pub fn parse(name: &Path) -> Option<Self> {
        let (sequence, first_index) = name.to_str()?.strip_suffix(SUFFIX)?.split_once('-')?;
        let number = |digits: &str| {
            let plain = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            (plain && digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        let name = Self { sequence: number(sequence)?, first_index: number(first_index)? };
        // The last of all sequences has no successor; no log lives to see it.
        (name.sequence < u64::MAX).then_some(name)
    }

    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:016x}{SUFFIX}", self.sequence, self.first_index))
    }
}

impl Header {
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        let Standing { hard_state, snapshot, last_index } = self.standing;
        debug_assert_eq!(last_index + 1, self.first_index, "a segment goes on where the log ends");
        buffer.extend_from_slice(&MAGIC);
        let identity = [VERSION, self.identity.cluster_id, self.identity.member_id];
        format::put(buffer, &identity);
        format::put(buffer, &[self.first_index, self.previous_end]);
        format::put(buffer, &[hard_state.term, hard_state.vote, hard_state.commit]);
        format::put(buffer, &[snapshot.index, snapshot.term]);
    }

    pub fn decode(mut body: Bytes) -> Result<Self, String> {
        if !body.starts_with(&MAGIC) {
            return Err("the header is not of this kind of log".into());
        }
        body.advance(MAGIC.len());
        let [version] = format::numbers(&mut body)?;
        if version != VERSION {
            return Err(format!("format version {version} is unknown, {VERSION} is known"));
        }
        let [cluster_id, member_id, first_index, previous_end] = format::numbers(&mut body)?;
        let [term, vote, commit] = format::numbers(&mut body)?;
        let [index, snapshot_term] = format::numbers(&mut body)?;
        if body.has_remaining() {
            return Err("the header is too long".into());
        }
        let last_index = first_index.checked_sub(1).ok_or("the header's first index is zero")?;
        let hard_state = HardState { term, vote, commit };
        let snapshot = Snapshot { index, term: snapshot_term };
        if commit > last_index || index > last_index {
            return Err("the header contradicts itself".into());
        }
        Ok(Self {
            identity: Identity { cluster_id, member_id },
            first_index,
            previous_end,
            standing: Standing { hard_state, snapshot, last_index },
        })
    }
}

/// Gives a reserve a header and then a name. Whatever stops this in between, no segment of that
/// name exists unless its header is durable (etcd #16596: a torn first file that would not open).
pub fn begin(
    disk: &dyn Disk,
    dir: &Path,
    spare: Spare,
    name: Name,
    header: &Header,
    link: Link,
) -> Result<(Segment, Tail), Fault> {
    let mut buffer = Vec::with_capacity(SECTOR_BYTES as usize);
    format::begin(&mut buffer);
    header.encode(&mut buffer);
    let link = format::seal(&mut buffer, Link { salt: 0, ..link }, 0);
    buffer.resize(SECTOR_BYTES as usize, 0);
    let Spare { path: spare_path, file, bytes } = spare;
    file.write_at(0, &buffer).map_err(|err| Fault::io("write", &spare_path, err))?;
    file.sync().map_err(|err| Fault::io("sync", &spare_path, err))?;
    let path = name.path(dir);
    disk.rename(&spare_path, &path).map_err(|err| Fault::io("rename", &spare_path, err))?;
    disk.sync_dir(dir).map_err(|err| Fault::io("sync", dir, err))?;
    let link = Link { salt: link.previous, ..link };
    let (offset, synced) = (SECTOR_BYTES, SECTOR_BYTES);
    let tail = Tail { file: file.clone(), capacity: bytes, offset, synced, link };
    Ok((Segment { name, path, file, bytes, index_max: 0 }, tail))
}
