//! The in-memory model engine: ordered maps, one per table.
//!
//! It is the oracle the other engines are compared with and the engine simulated nodes run on. A
//! handle is a disk: clones share the rows, so a node that "restarts" opens a clone and finds
//! everything committed. [`Mem::keeping`] also remembers older commits, so that a simulated crash
//! can fall back to one of them, as an engine would whose device lied about a sync.
//!
//! Invariants:
//! - A commit is durable at once.
//! - A view shares the maps it saw; a commit copies a map only while some view still holds it.
//!   Views held for long over large tables make commits slow: this is a model, not a product.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::engine::{Engine, Found, Table, View, Visit, Write};
use crate::error::Fault;

/// The maps of one commit.
#[derive(Clone, Debug, Default)]
struct Tables {
    maps: [Arc<BTreeMap<Bytes, Bytes>>; Table::COUNT],
    used_bytes: u64,
}

/// An engine without a disk.
#[derive(Clone, Debug, Default)]
pub struct Mem {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    now: Tables,
    /// Older commits, newest first.
    past: VecDeque<Tables>,
    past_max: usize,
}

impl Mem {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty engine that remembers its last `commits` states for [`Mem::rewind`].
    pub fn keeping(commits: usize) -> Self {
        let mem = Self::default();
        mem.disk.lock().past_max = commits;
        mem
    }

    /// Loses a row, as damage to a page would: it is not found, and nothing else says so.
    #[cfg(test)]
    pub fn lose(&self, table: Table, key: &[u8]) {
        let mut disk = self.disk.lock();
        Arc::make_mut(&mut disk.now.maps[table as usize]).remove(key);
    }

    /// Falls back by up to `commits` commits; returns by how many.
    pub fn rewind(&self, commits: usize) -> usize {
        let mut disk = self.disk.lock();
        let commits = commits.min(disk.past.len());
        let older = disk.past.drain(..commits).next_back();
        if let Some(older) = older {
            disk.now = older;
        }
        commits
    }
}

impl Engine for Mem {
    fn name(&self) -> &'static str {
        "mem"
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Fault> {
        let mut disk = self.disk.lock();
        if disk.past_max > 0 {
            let before = disk.now.clone();
            disk.past.push_front(before);
            let past_max = disk.past_max;
            disk.past.truncate(past_max);
        }
        for write in writes {
            disk.now.apply(write);
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        Ok(Box::new(self.disk.lock().now.clone()))
    }

    fn size_bytes(&self) -> Result<u64, Fault> {
        self.used_bytes()
    }

    fn used_bytes(&self) -> Result<u64, Fault> {
        Ok(self.disk.lock().now.used_bytes)
    }
}

impl Tables {
    fn apply(&mut self, write: &Write) {
        let map = Arc::make_mut(&mut self.maps[write.table() as usize]);
        let key = write.key();
        let (old, new) = match write {
            Write::Put { value, .. } => (map.insert(key.clone(), value.clone()), Some(value)),
            Write::Delete { .. } => (map.remove(key), None),
        };
        let row = |value: &Bytes| (key.len() + value.len()) as u64;
        self.used_bytes += new.map_or(0, row);
        self.used_bytes -= old.as_ref().map_or(0, row);
    }
}

impl View for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(self.maps[table as usize].get(key).cloned())
    }

    fn get_each(&self, table: Table, keys: &[&[u8]], found: &mut Found<'_>) -> Result<(), Fault> {
        let map = &self.maps[table as usize];
        keys.iter().enumerate().try_for_each(|(at, key)| found(at, map.get(*key).map(|v| &v[..])))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Fault> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let map = &self.maps[table as usize];
        for (key, value) in map.range::<[u8], _>((Bound::Included(from), to)) {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn check_found(&self, bytes: u64) -> Result<(), Fault> {
        match bytes == self.used_bytes {
            true => Ok(()),
            false => Err(Fault::Engine {
                engine: "mem",
                what: format!("{bytes} bytes of rows are found of {}", self.used_bytes),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
