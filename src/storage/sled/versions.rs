//! What commits replaced, kept for as long as a view needs it.
//!
//! sled has one state, the newest. Before a commit changes it, the old values of the rows it will
//! touch are put here under the commit's number. A view knows the number of the newest commit it
//! may see; it reads the tree first and then asks here: if a later commit touched the row, the
//! value kept by the first such commit is the view's, whatever the tree said.
//!
//! Invariants:
//! - Kept before the tree changes, dropped only when every view is new enough not to ask.
//! - No lock is held while sled works, so views never wait for a commit here.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;

use bytes::Bytes;

/// The old values of the rows a commit touches, by head key; `None` where there was no row.
pub type Undo = BTreeMap<Vec<u8>, Option<Bytes>>;

/// The commits that some view must not see, and the views.
#[derive(Default)]
pub struct Versions {
    /// The newest commit that is in the tree completely.
    applied: u64,
    /// Undo of the commits after the oldest view's, oldest first.
    undone: VecDeque<(u64, Undo)>,
    /// How many views see each commit.
    views: BTreeMap<u64, usize>,
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let undone: Vec<u64> = self.undone.iter().map(|(commit, _)| *commit).collect();
        write!(f, "applied {}, undone {undone:?}, views {:?}", self.applied, self.views)
    }
}

impl Versions {
    /// A commit is about to change the tree.
    pub fn begin(&mut self, undo: Undo) {
        let newest = self.undone.back().map_or(self.applied, |(commit, _)| *commit);
        assert_eq!(newest, self.applied, "commits happen one by one");
        self.undone.push_back((self.applied + 1, undo));
    }

    /// The tree is changed.
    pub fn end(&mut self) {
        self.applied += 1;
        self.prune();
    }

    /// A view of the newest complete commit begins; returns its number.
    pub fn open(&mut self) -> u64 {
        *self.views.entry(self.applied).or_insert(0) += 1;
        self.applied
    }

    /// A view ends.
    pub fn close(&mut self, commit: u64) {
        let views = self.views.get_mut(&commit).expect("a view closes once");
        *views -= 1;
        if *views == 0 {
            self.views.remove(&commit);
            self.prune();
        }
    }

    /// The value of a row as of `commit`, if a later commit touched it.
    pub fn get(&self, commit: u64, head: &[u8]) -> Option<Option<Bytes>> {
        self.after(commit).find_map(|undo| undo.get(head)).cloned()
    }

    /// The rows in a range as of `commit` that later commits touched.
    pub fn range(&self, commit: u64, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Undo {
        let mut rows = Undo::new();
        for undo in self.after(commit) {
            for (head, old) in undo.range::<[u8], _>(range) {
                rows.entry(head.clone()).or_insert_with(|| old.clone());
            }
        }
        rows
    }

    fn after(&self, commit: u64) -> impl Iterator<Item = &Undo> {
        self.undone.iter().filter(move |(later, _)| *later > commit).map(|(_, undo)| undo)
    }

    fn prune(&mut self) {
        let oldest = self.views.keys().next().map_or(self.applied, |oldest| *oldest);
        while self.undone.front().is_some_and(|(commit, _)| *commit <= oldest) {
            self.undone.pop_front();
        }
    }
}
