//! The row cache: rows read before, by revision.
//!
//! An engine finds a row by descending a tree of pages, which costs about two microseconds; a page
//! of 500 rows spends most of its time there. Rows never change and are named by revision, so the
//! cache needs no invalidation: what compaction removed is no longer asked for, and is evicted.
//!
//! Only reads fill it. Rows just written are in the write-behind buffer, and most are replaced
//! before anybody reads them.

use std::hash::{BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::revision::Revision;

/// What a row costs beside its bytes: its entry, its reference count, the allocator's rounding.
const ENTRY_BYTES: u64 = 128;
/// The size of a row the cache is laid out for; it adapts to others.
const ROW_BYTES: u64 = 512;

#[derive(Clone, Copy, Debug)]
struct Cost;

impl Weighter<Revision, Bytes> for Cost {
    fn weight(&self, _: &Revision, row: &Bytes) -> u64 {
        row.len() as u64 + ENTRY_BYTES
    }
}

/// Rows that were read, as many as fit.
#[derive(Debug)]
pub struct RowCache {
    rows: Cache<Revision, Bytes, Cost, BuildHasherDefault<DefaultHasher>>,
}

impl RowCache {
    /// A cache that takes about `bytes` of memory when it is full.
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / ROW_BYTES).unwrap_or(usize::MAX);
        Self { rows: Cache::with(items, bytes, Cost, Default::default(), Default::default()) }
    }

    /// The row at `revision`, if it is here.
    pub fn get(&self, revision: Revision) -> Option<Bytes> {
        self.rows.get(&revision)
    }

    /// Takes in a row the engine holds. It must not be a slice of something larger, which would
    /// stay in memory with it.
    pub fn insert(&self, revision: Revision, row: &Bytes) {
        self.rows.insert(revision, row.clone());
    }

    /// Forgets everything: the engine was replaced by one that holds another history.
    pub fn clear(&self) {
        self.rows.clear();
    }
}
