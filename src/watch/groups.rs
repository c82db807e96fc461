//! The watchers by what they watch: single keys looked up, ranges searched.
//!
//! No event ever meets a watcher it does not concern: a key costs one lookup among the single keys
//! and one search among the ranges, however many watchers there are.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::span::{End, Span};

use super::intervals::{Intervals, Reach};

/// Watchers, by number, under the keys they watch.
#[derive(Debug, Default)]
pub(super) struct Groups {
    single: BTreeMap<Bytes, BTreeSet<u32>>,
    ranges: Intervals,
}

impl Groups {
    /// Adds a watcher of `span`.
    pub fn insert(&mut self, span: &Span, member: u32) {
        match reach(span) {
            Some(end) => self.ranges.insert(&span.start, &end, member),
            None => {
                let fresh = self.single.entry(span.start.clone()).or_default().insert(member);
                assert!(fresh, "a watcher is added to its key once");
            }
        }
    }

    /// Removes a watcher added with the same span.
    pub fn remove(&mut self, span: &Span, member: u32) {
        if let Some(end) = reach(span) {
            return self.ranges.remove(&span.start, &end, member);
        }
        let members = self.single.get_mut(&span.start).expect("a key that was added is found");
        let known = members.remove(&member);
        assert!(known, "a watcher that was added is found");
        if members.is_empty() {
            self.single.remove(&span.start);
        }
    }

    /// Calls `found` with every watcher of `key`, each once.
    pub fn matching(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        if let Some(members) = self.single.get(key) {
            members.iter().for_each(|member| found(*member));
        }
        self.ranges.around(key, found);
    }
}

/// Where a range ends; `None` for a single key.
fn reach(span: &Span) -> Option<Reach> {
    match &span.end {
        End::Single => None,
        End::Open => Some(Reach::Open),
        End::Before(end) => Some(Reach::Before(end.clone())),
    }
}
