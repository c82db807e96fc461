//! Why a file was refused, where, and what to do about it.

use std::io;
use std::path::Path;

use crate::error::Fault;

/// A refusal of a bbolt file or of the hash at its end.
///
/// Where etcdutl has a sentence for the same thing, `Display` is that sentence, so that runbooks
/// and scripts that look for it keep working; [`Error::advice`] says what to do. When a hash is not
/// right, the source is what opening the file says: cut off, or not a snapshot at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {length} bytes at offset {offset}: {source}")]
    Io { offset: u64, length: usize, source: io::Error },
    #[error("file size too small {size_bytes}")]
    TooSmall { size_bytes: u64 },
    #[error("invalid database")]
    NotBolt,
    #[error("version mismatch")]
    Version,
    #[error("checksum error")]
    Checksum,
    #[error("page size {page_bytes} is not a power of two between 1 KiB and 16 MiB")]
    PageSize { page_bytes: u64 },
    #[error("the meta pages give different page sizes, {first_bytes} and {second_bytes}")]
    PageSizes { first_bytes: u32, second_bytes: u32 },
    #[error("file is truncated: {size_bytes} bytes, {needed_bytes} needed")]
    Truncated { size_bytes: u64, needed_bytes: u64 },
    #[error("page {page}: {damage}")]
    Damaged { page: u64, offset: u64, damage: Damage },
    #[error("bucket {name:?} is not one of etcd's and has rows")]
    UnknownBucket { name: String },
    #[error("snapshot missing hash but --skip-hash-check=false")]
    HashMissing {
        #[source]
        cause: Option<Box<Error>>,
    },
    #[error("expected sha256 {}, got {}", decimal(expected), decimal(got))]
    HashWrong {
        expected: [u8; 32],
        got: [u8; 32],
        #[source]
        cause: Option<Box<Error>>,
    },
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("is outside the file, which ends before page {high_water}")]
    OutOfRange { high_water: u64 },
    #[error("calls itself page {found}")]
    WrongId { found: u64 },
    #[error("has unexpected flags {flags:#x}")]
    WrongKind { flags: u16 },
    #[error("continues past the end of the file (overflow {overflow})")]
    Overflow { overflow: u32 },
    #[error("is {size_bytes} bytes large, more than any etcd writes")]
    TooLarge { size_bytes: u64 },
    #[error("is reached twice")]
    ReachedTwice,
    #[error("lies deeper than any tree grows")]
    TooDeep,
    #[error("is a branch without children")]
    EmptyBranch,
    #[error("has no room for its {count} elements")]
    Elements { count: u16 },
    #[error("element {index} lies outside its page or over another one")]
    Element { index: usize },
    #[error("element {index} has unknown flags {flags:#x}")]
    ElementFlags { index: usize, flags: u32 },
    #[error("element {index} has a key of {size_bytes} bytes")]
    KeySize { index: usize, size_bytes: usize },
    #[error("element {index} is not above the key before it")]
    OutOfOrder { index: usize },
    #[error("element {index} is outside the range its parent page gives")]
    OutsideParent { index: usize },
    #[error("element {index} is a row where only buckets may be")]
    NotABucket { index: usize },
    #[error("element {index} is a bucket inside a bucket, which etcd never writes")]
    NestedBucket { index: usize },
    #[error("element {index} is a bucket without a header")]
    BucketHeader { index: usize },
    #[error("freelist has no room for its {count} entries")]
    FreelistSize { count: u64 },
    #[error("freelist entry {index} is out of order or out of range")]
    FreelistEntry { index: u64 },
    #[error("is in use and in the freelist")]
    ReachableFree,
    #[error("is neither in use nor in the freelist")]
    Lost,
}

impl Error {
    pub(super) fn unknown_bucket(name: &[u8]) -> Self {
        Self::UnknownBucket { name: String::from_utf8_lossy(name).into_owned() }
    }

    /// What an operator can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Io { .. } => "Check the disk and the permissions of the file",
            Self::TooSmall { .. } | Self::Truncated { .. } => {
                "The copy was cut off: take the snapshot again, or copy it again and compare sizes"
            }
            Self::NotBolt | Self::PageSize { .. } | Self::PageSizes { .. } => {
                "This is not a snapshot or a `member/snap/db` file of etcd: check the path, and \
                 whether the file is still compressed or encrypted"
            }
            Self::Version => "The file is of another bbolt format; etcd 3.x writes version 2",
            Self::Checksum => "Both meta pages are damaged: use another snapshot",
            Self::Damaged { .. } => "Use another snapshot, or another member's copy",
            Self::UnknownBucket { .. } => {
                "The file is not etcd's, or of an etcd newer than this program knows"
            }
            Self::HashMissing { cause: Some(cause) } => cause.advice(),
            Self::HashMissing { cause: None } => {
                "A file that `snapshot save` wrote ends in a hash, and this one does not: if it \
                 was copied from a data directory, add --skip-hash-check"
            }
            Self::HashWrong { cause: Some(cause), .. } => cause.advice(),
            Self::HashWrong { cause: None, .. } => {
                "The file is not what was saved: copy it again, or use another snapshot"
            }
        }
    }

    /// Where in the file it shows.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Io { offset, .. } | Self::Damaged { offset, .. } => *offset,
            Self::Truncated { size_bytes, .. } | Self::TooSmall { size_bytes } => *size_bytes,
            Self::NotBolt
            | Self::Version
            | Self::Checksum
            | Self::PageSize { .. }
            | Self::PageSizes { .. }
            | Self::UnknownBucket { .. }
            | Self::HashMissing { .. }
            | Self::HashWrong { .. } => 0,
        }
    }

    /// The same, for a node that cannot go on without this file.
    pub fn into_fault(self, path: &Path) -> Fault {
        match self {
            Self::Io { source, .. } => Fault::io("read", path, source),
            other => Fault::Corrupt {
                path: path.to_owned(),
                offset: other.offset(),
                what: other.to_string(),
                advice: other.advice(),
            },
        }
    }
}

/// A hash as etcdutl prints it: decimal bytes between brackets.
fn decimal(hash: &[u8; 32]) -> String {
    let bytes: Vec<String> = hash.iter().map(u8::to_string).collect();
    format!("[{}]", bytes.join(" "))
}
