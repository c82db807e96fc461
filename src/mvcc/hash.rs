//! HashKV: a checksum over the rows that all members must agree on, exactly etcd's.
//!
//! It is CRC-32C over the table's name and then, in key order, key and value of every row up to the
//! revision asked for that a compaction at that revision would not have removed. What members have
//! physically deleted so far must not matter, so rows at or below the compact revision are looked
//! up in the index rather than trusted to be gone.
//!
//! Each compaction, from the one before at P to its own at C, also leaves a hash of what it saw:
//! rows in (P, C], whole, and of those up to P what is still visible at C. Members compare these
//! later. If nothing is left at C but the deletion of the last key, that is not what a member
//! answers that has not come to this compaction yet, as in etcd: such a hash compares nothing.
//!
//! Invariants:
//! - The hash depends on revision and compact revision alone, not on how far deletion has come.
//! - Tombstones at the compact revision are left out: etcd before 3.5.16 removes them.
//! - Memory does not grow with the store: rows stream by, the index answers one at a time.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::index::Index;
use super::reader::{Reader, Shared};
use super::revision::{KEY_BYTES_MAX, Revision};
use super::row::Fields;
use super::rows::Pinned;
use super::whole::Whole;
use crate::error::{Error, Failure, Fault};
use crate::span::{End, Span};
use crate::storage::engine::Table;

/// Hashes of compactions kept for comparison.
const KEPT: usize = 10;

/// A hash and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
    /// The newest revision when asked, for the response header.
    pub revision: i64,
}

/// The hashes recent compactions left, by rising revision. Gone after a restart, as in etcd.
#[derive(Debug, Default)]
pub struct Hashes(Vec<Left>);

/// What a compaction left.
#[derive(Clone, Copy, Debug)]
struct Left {
    hash: HashKv,
    /// Whether a member that has not made this compaction yet answers the same.
    is_common: bool,
}

impl Hashes {
    fn keep(&mut self, left: Left) {
        let revision = left.hash.hash_revision;
        let at = self.0.partition_point(|kept| kept.hash.hash_revision < revision);
        self.0.insert(at, left);
        let excess = self.0.len().saturating_sub(KEPT);
        self.0.drain(..excess);
    }

    pub(super) fn get(&self, revision: i64) -> Option<HashKv> {
        self.0.iter().map(|kept| kept.hash).find(|hash| hash.hash_revision == revision)
    }
}

impl Reader {
    /// The hash at `revision`, 0 meaning the newest.
    ///
    /// The revision of a recent compaction answers with the hash that compaction left.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Failure> {
        loop {
            let view = self.view();
            let (current, compact_revision) = (view.revision(), view.compact_revision());
            if let Some(kept) = self.shared.hashes.lock().get(revision) {
                return Ok(HashKv { revision: current, ..kept });
            }
            if revision > 0 && revision < compact_revision {
                return Err(Error::Compacted.into());
            }
            if revision > current {
                return Err(Error::FutureRev.into());
            }
            let pinned = self.shared.rows.pin()?;
            if self.compact_revision() != compact_revision {
                // Rows this view still counts may be gone from what was pinned.
                continue;
            }
            let at = if revision == 0 { current } else { revision };
            let index = &view.published.index;
            let keeps = index.count(&everything(), at) > 0;
            let hasher = Hasher {
                index,
                compact_revision,
                at,
                seen_from: if keeps { at } else { compact_revision },
            };
            return Ok(HashKv { revision: current, ..hasher.hash(&pinned)? });
        }
    }

    /// The hashes recent compactions left, oldest first; of those that members can be compared by.
    pub fn compaction_hashes(&self) -> Vec<HashKv> {
        let hashes = self.shared.hashes.lock();
        hashes.0.iter().filter(|left| left.is_common).map(|left| left.hash).collect()
    }
}

/// The hash of one compaction, to be computed beside it.
#[derive(Debug)]
pub struct HashJob {
    pub(super) shared: Arc<Shared>,
    /// As it was when the compaction was accepted.
    pub(super) index: Index,
    pub(super) previous: i64,
    pub(super) at: i64,
    /// Whether a key was deleted exactly at the compact revision.
    pub(super) keeps_tombstone: bool,
    pub(super) gate: Gate,
}

impl HashJob {
    /// Computes the hash and keeps it for [`Reader::hash_kv`].
    pub fn run(self) -> Result<HashKv, Fault> {
        let pinned = self.shared.rows.pin()?;
        self.gate.set_open();
        let sees = self.index.count(&everything(), self.at) > 0;
        let keeps = self.keeps_tombstone || sees;
        let hasher = Hasher {
            index: &self.index,
            compact_revision: self.previous,
            at: self.at,
            seen_from: if keeps { self.at } else { self.previous },
        };
        let hash = hasher.hash(&pinned)?;
        self.shared.hashes.lock().keep(Left { hash, is_common: keeps == sees });
        Ok(hash)
    }
}

impl Drop for HashJob {
    fn drop(&mut self) {
        self.gate.set_open();
    }
}

/// Holds back a compaction's deletions until the job of its hash has pinned its rows.
#[derive(Clone, Debug)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    pub fn open() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub fn closed() -> Self {
        Self(Arc::default())
    }

    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set_open(&self) {
        self.0.store(true, Ordering::Release);
    }
}

fn everything() -> Span {
    Span { start: Bytes::new(), end: End::Open }
}

/// What to hash.
struct Hasher<'a> {
    index: &'a Index,
    compact_revision: i64,
    at: i64,
    /// Rows up to the compact revision count if they are what this revision sees.
    seen_from: i64,
}

impl Hasher<'_> {
    fn hash(&self, pinned: &Pinned) -> Result<HashKv, Fault> {
        let mut hash = crc32c::crc32c(Table::Key.name().as_bytes());
        let mut key = Vec::with_capacity(KEY_BYTES_MAX);
        let to = Revision::new(self.at, Revision::SUB_MAX);
        // A member with rows missing would be outvoted, and everybody's writes stopped for it.
        let mut whole = Whole::behind(Revision::default(), self.compact_revision);
        let mut kept = 0;
        pinned.scan(Revision::default(), to, &mut |revision, tombstone, row| {
            whole.follow(revision)?;
            if self.covers(revision, tombstone, row)? {
                kept += u64::from(self.is_old(revision));
                key.clear();
                revision.put_row_key(tombstone, &mut key);
                hash = crc32c::crc32c_append(hash, &key);
                hash = crc32c::crc32c_append(hash, row);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        whole.end(self.at)?;
        if kept != self.count_kept() {
            let last = Revision::new(self.compact_revision, Revision::SUB_MAX).row_key(false);
            return Err(Fault::row(Table::Key.name(), &last, "rows up to it are missing"));
        }
        let (hash_revision, revision) = (self.at, self.at);
        Ok(HashKv { hash, compact_revision: self.compact_revision, hash_revision, revision })
    }

    fn is_old(&self, revision: Revision) -> bool {
        revision.main <= self.compact_revision
    }

    /// How many rows that compaction kept count. A negative revision is before all of them.
    fn count_kept(&self) -> u64 {
        let mut kept = 0;
        self.index.visit(&everything(), self.seen_from, &mut |_, facts| {
            kept += u64::from(self.is_old(facts.revision) && facts.revision.main <= self.at);
            ControlFlow::Continue(())
        });
        kept
    }

    fn covers(&self, revision: Revision, tombstone: bool, row: &[u8]) -> Result<bool, Fault> {
        if !self.is_old(revision) {
            return Ok(true);
        }
        if tombstone {
            return Ok(false);
        }
        let key = Fields::decode(row)?.key;
        let seen = self.index.get(key, self.seen_from);
        Ok(seen.is_some_and(|facts| facts.revision == revision))
    }
}
