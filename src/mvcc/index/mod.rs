//! The key index: every key, its newest state, and the way back through its older ones.
//!
//! The tree holds the newest state of each key in packed leaves; older states are reached through
//! the [undo log](undo). The tree is copy-on-write: a clone is a snapshot that shares every node,
//! and a change copies the path from the root to one leaf, unless nobody shares it any more, when
//! it happens in place. Leaves hold no pointers, so copying one is copying its bytes.
//!
//! ```text
//!               ┌ separators, per child: live keys, newest revision ┐
//! inner         │                                                   │
//!               └──┬────────────────┬───────────────┬───────────────┘
//! leaf      keys packed,      keys packed,     keys packed,
//!           36 bytes each     36 bytes each    36 bytes each ──► undo log
//! ```
//!
//! A child that did not change since the revision asked for is counted without a visit, so
//! counting is logarithmic for the newest state and for recent ones alike.
//!
//! Invariants:
//! - A key is in the tree while its newest state is live, or is a tombstone compaction kept.
//! - Per child, `live` is the number of keys whose newest state is live, and `newest` is not below
//!   any of its states' main revisions.
//! - Every node but the root holds at least one key or two children.

pub mod fuzz;
mod image;
mod leaf;
mod node;
mod page;
mod undo;

use std::ops::ControlFlow;

pub use image::{Builder, Pieces};
pub use page::KeyParts;
pub use undo::{Replaced, Sequence};

use super::revision::Revision;
use crate::span::{End, Span};
use node::Child;
use undo::Undo;

/// What the index knows of one live state of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Of the change that made this state; also names the row.
    pub revision: Revision,
    pub create_revision: i64,
    pub version: i64,
    /// Whether a lease is attached; its row says which.
    pub leased: bool,
}

/// A state of a key: live, or deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Of a tombstone: all but the revision are those of the life it ended.
    pub facts: Facts,
    pub tombstone: bool,
}

impl Head {
    /// The facts, if the state is live.
    pub fn live(self) -> Option<Facts> {
        (!self.tombstone).then_some(self.facts)
    }

    /// Sub revision and kind in one word.
    fn kind_word(self) -> u32 {
        let Facts { revision, leased, .. } = self.facts;
        revision.sub | u32::from(leased) << 30 | u32::from(self.tombstone) << 31
    }

    /// A state of which only sub revision and kind are set.
    fn from_kind_word(word: u32) -> Self {
        let revision = Revision::new(0, word & Revision::SUB_MAX);
        let leased = word >> 30 & 1 == 1;
        Self { facts: Facts { revision, leased, ..Facts::default() }, tombstone: word >> 31 == 1 }
    }
}

/// What a visit calls for each live key, in key order.
pub type Visit<'a> = dyn FnMut(KeyParts<'_>, Facts) -> ControlFlow<()> + 'a;

/// The main revision that means "as of now" to the methods of [`Index`].
pub const NOW: i64 = i64::MAX;

/// The index of all keys. A clone is a snapshot: it shares everything until either side changes.
#[derive(Clone, Debug, Default)]
pub struct Index {
    root: Child,
    undo: Undo,
}

impl Index {
    /// The newest state of `key`, even a tombstone.
    pub fn head(&self, key: &[u8]) -> Option<Head> {
        self.root.find(key).map(|(head, _)| head)
    }

    /// The state of `key` at main revision `at`, if it is live there.
    pub fn get(&self, key: &[u8], at: i64) -> Option<Facts> {
        let (head, undo) = self.root.find(key)?;
        self.undo.live_at(head, undo, at)
    }

    /// Visits the keys of `span` that are live at `at`, in key order.
    pub fn visit(&self, span: &Span, at: i64, visit: &mut Visit<'_>) {
        if span.is_empty() {
            return;
        }
        let end = match &span.end {
            End::Single => {
                if let Some(facts) = self.get(&span.start, at) {
                    // A visit of one key ends after it, whatever the visitor says.
                    let _ = visit(KeyParts { prefix: &[], suffix: &span.start }, facts);
                }
                return;
            }
            End::Open => None,
            End::Before(end) => Some(&end[..]),
        };
        let walk = node::Walk { at, undo: &self.undo };
        // Whether the visitor broke off or the keys ended makes no difference here.
        let _ = walk.visit(&self.root, Some(&span.start), end, visit);
    }

    /// The number of keys of `span` that are live at `at`.
    pub fn count(&self, span: &Span, at: i64) -> i64 {
        let walk = node::Walk { at, undo: &self.undo };
        match &span.end {
            _ if span.is_empty() => 0,
            End::Single => i64::from(self.get(&span.start, at).is_some()),
            End::Open => walk.count(&self.root, Some(&span.start), None),
            End::Before(end) => walk.count(&self.root, Some(&span.start), Some(end)),
        }
    }

    /// Gives `key` a newer state; returns the one before.
    pub fn put(&mut self, key: &[u8], head: Head) -> Option<Head> {
        self.root.put(key, head, &mut self.undo)
    }

    /// Forgets a key whose newest state is the tombstone at `revision`; says whether it was.
    pub fn forget(&mut self, key: &[u8], revision: Revision) -> bool {
        let is_it = |head: Head| head.tombstone && head.facts.revision == revision;
        let found = self.head(key).is_some_and(is_it);
        if found {
            self.root.remove(key);
        }
        found
    }

    /// The oldest record of what was replaced.
    pub fn oldest(&self) -> Sequence {
        self.undo.first()
    }

    /// The record at `sequence` and the number of the one after it; `None` at the end.
    pub fn replaced(&self, sequence: Sequence) -> Option<(Replaced, Sequence)> {
        self.undo.replaced(sequence)
    }

    /// Lets go of history before `sequence`: nobody will ask for a revision that needs it.
    pub fn drop_history(&mut self, sequence: Sequence) {
        self.undo.drop_front(sequence);
    }

    /// Panics if an invariant of the tree does not hold.
    pub fn check(&self) {
        self.root.check(None, None, true);
    }
}

impl Undo {
    /// Steps back from a newest state to the one at main revision `at`, if that is live.
    fn live_at(&self, mut head: Head, mut undo: Sequence, at: i64) -> Option<Facts> {
        while head.facts.revision.main > at {
            if undo == 0 {
                return None;
            }
            (head, undo) = self.before(head, undo)?;
        }
        head.live()
    }
}

#[cfg(test)]
mod tests;
