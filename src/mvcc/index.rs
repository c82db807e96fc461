//! The key index: for every key, where its states lie in history.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::revision::Revision;
use crate::span::{End, Span};

/// What the index knows of one live state of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Of the change that made this state; also the row's key in the engine.
    pub revision: Revision,
    pub create_revision: i64,
    pub version: i64,
}

/// A key's newest state: live, or deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub facts: Facts,
    pub tombstone: bool,
}

impl Head {
    pub fn live(self) -> Option<Facts> {
        (!self.tombstone).then_some(self.facts)
    }
}

/// A key as the index holds it: in two pieces.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    pub prefix: &'a [u8],
    pub suffix: &'a [u8],
}

impl KeyParts<'_> {
    /// Appends the key.
    pub fn append_to(self, key: &mut Vec<u8>) {
        key.extend_from_slice(self.prefix);
        key.extend_from_slice(self.suffix);
    }

    /// The key in one piece.
    pub fn to_vec(self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }
}

/// What a visit calls for each live key, in key order.
pub type Visit<'a> = dyn FnMut(KeyParts<'_>, Facts) -> ControlFlow<()> + 'a;

/// The index of all keys. A clone is a snapshot: it shares everything until either side changes.
#[derive(Clone, Debug, Default)]
pub struct Index {
    keys: Arc<BTreeMap<Vec<u8>, Vec<Head>>>,
}

/// The revision that means "as of now" to the methods of [`Index`].
pub const NOW: i64 = i64::MAX;

impl Index {
    /// The newest state of `key`, even a tombstone.
    pub fn head(&self, key: &[u8]) -> Option<Head> {
        self.keys.get(key).and_then(|states| states.last().copied())
    }

    /// The state of `key` at main revision `at`, if it is live there.
    pub fn get(&self, key: &[u8], at: i64) -> Option<Facts> {
        state_at(self.keys.get(key)?, at)
    }

    /// Visits the keys of `span` that are live at `at`, in key order.
    pub fn visit(&self, span: &Span, at: i64, visit: &mut Visit<'_>) {
        if span.is_empty() {
            return;
        }
        let end = match &span.end {
            End::Single => Bound::Included(&span.start[..]),
            End::Open => Bound::Unbounded,
            End::Before(end) => Bound::Excluded(&end[..]),
        };
        for (key, states) in self.keys.range::<[u8], _>((Bound::Included(&span.start[..]), end)) {
            if let Some(facts) = state_at(states, at) {
                if visit(KeyParts { prefix: &[], suffix: key }, facts).is_break() {
                    break;
                }
            }
        }
    }

    /// The number of keys of `span` that are live at `at`.
    pub fn count(&self, span: &Span, at: i64) -> i64 {
        let mut count = 0;
        self.visit(span, at, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
        count
    }

    /// Gives `key` a newer state; returns the one before.
    pub fn put(&mut self, key: &[u8], head: Head) -> Option<Head> {
        let states = Arc::make_mut(&mut self.keys).entry(key.to_vec()).or_default();
        let before = states.last().copied();
        if let Some(before) = before {
            assert!(before.facts.revision < head.facts.revision, "revisions of a key only grow");
        }
        states.push(head);
        before
    }
}

fn state_at(states: &[Head], at: i64) -> Option<Facts> {
    let after = states.partition_point(|head| head.facts.revision.main <= at);
    states[..after].last().and_then(|head| head.live())
}
