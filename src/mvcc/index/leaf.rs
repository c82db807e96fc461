//! A leaf: packed keys and, beside each, its newest state in 36 bytes.
//!
//! A leaf is plain bytes without pointers, so copy-on-write costs one copy of a few kilobytes and
//! no reference counts.

use std::ops::Range;

use super::keys::{Keys, common_len, grow};
use super::undo::{Sequence, Undo};
use super::{Facts, Head};

/// Keys per leaf at most.
pub const LEAF_KEYS: usize = if cfg!(test) { 8 } else { 64 };
/// Bytes of keys from which a leaf of more than one key is split: keys may be a megabyte long.
pub const LEAF_BYTES: usize = 16 << 10;

/// A newest state and its undo record, in words so that nothing is lost to alignment.
#[derive(Clone, Copy, Debug)]
struct Slot([u32; 9]);

impl Slot {
    fn new(head: Head, undo: Sequence) -> Self {
        let Facts { revision, create_revision, version } = head.facts;
        let [a, b] = halves(revision.main as u64);
        let [c, d] = halves(create_revision as u64);
        let [e, f] = halves(version as u64);
        let [g, h] = halves(undo);
        Self([a, b, c, d, e, f, g, h, head.kind_word()])
    }

    fn head(&self) -> Head {
        let mut head = Head::from_kind_word(self.0[8]);
        head.facts.revision.main = self.main();
        head.facts.create_revision = whole(self.0[2], self.0[3]) as i64;
        head.facts.version = whole(self.0[4], self.0[5]) as i64;
        head
    }

    fn main(&self) -> i64 {
        whole(self.0[0], self.0[1]) as i64
    }

    fn undo(&self) -> Sequence {
        whole(self.0[6], self.0[7])
    }

    fn is_live(&self) -> bool {
        self.0[8] >> 31 == 0
    }
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

fn whole(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// A leaf of the tree.
#[derive(Debug, Default)]
pub struct Leaf {
    pub keys: Keys,
    slots: Vec<Slot>,
}

impl Leaf {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The newest state at `at` and its undo record.
    pub fn state(&self, at: usize) -> (Head, Sequence) {
        (self.slots[at].head(), self.slots[at].undo())
    }

    /// Whether the newest state at `at` is live.
    pub fn is_live(&self, at: usize) -> bool {
        self.slots[at].is_live()
    }

    /// How many newest states are live.
    pub fn live(&self) -> u64 {
        self.slots.iter().filter(|slot| slot.is_live()).count() as u64
    }

    /// The main revision of the newest of the newest states.
    pub fn newest(&self) -> i64 {
        self.slots.iter().map(Slot::main).max().unwrap_or(0)
    }

    /// Gives `key` a newer state; returns the one before and where the key is.
    pub fn put(&mut self, key: &[u8], mut head: Head, undo: &mut Undo) -> (Option<Head>, usize) {
        match self.keys.search(key) {
            Ok(at) => {
                let (before, older) = self.state(at);
                assert!(
                    before.facts.revision < head.facts.revision,
                    "the revisions of a key only grow"
                );
                if head.tombstone {
                    head.facts = Facts { revision: head.facts.revision, ..before.facts };
                }
                self.slots[at] = Slot::new(head, undo.push(head, before, older));
                (Some(before), at)
            }
            Err(at) => {
                self.keys.insert(at, key);
                grow(&mut self.slots, 1);
                self.slots.insert(at, Slot::new(head, 0));
                (None, at)
            }
        }
    }

    /// Removes a key, if it is here.
    pub fn remove(&mut self, key: &[u8]) {
        if let Ok(at) = self.keys.search(key) {
            self.keys.remove(at);
            self.slots.remove(at);
        }
    }

    pub fn is_overfull(&self) -> bool {
        self.len() > LEAF_KEYS || (self.keys.size() > LEAF_BYTES && self.len() > 1)
    }

    /// Splits in two after a key was put at `put_at`; returns the upper part and the separator.
    ///
    /// Keys that arrive in order leave full leaves behind.
    pub fn split(&mut self, put_at: usize) -> (Vec<u8>, Self) {
        let len = self.len();
        let middle = if put_at + 1 == len {
            len - 1
        } else if put_at == 0 {
            1
        } else {
            len / 2
        };
        let (last, first) = (self.keys.key(middle - 1).to_vec(), self.keys.key(middle).to_vec());
        let separator = first[..=common_len(&last, &first)].to_vec();
        let upper = self.part(middle..len);
        *self = self.part(0..middle);
        (separator, upper)
    }

    fn part(&self, range: Range<usize>) -> Self {
        Self { keys: self.keys.part(range.clone()), slots: self.slots[range].to_vec() }
    }

    /// Whether this leaf and `upper`, its right neighbour, are better one.
    pub fn may_join(&self, upper: &Self) -> bool {
        self.len() + upper.len() <= LEAF_KEYS * 3 / 4
            && self.keys.size() + upper.keys.size() <= LEAF_BYTES / 2
    }

    /// Takes in the keys of `upper`, its right neighbour.
    pub fn join(&mut self, upper: &Self) {
        self.keys = self.keys.join(&[&upper.keys]);
        self.slots.extend_from_slice(&upper.slots);
    }

    /// A copy with room for one more key.
    pub fn copy(&self, key_len: usize) -> Self {
        let mut slots = Vec::with_capacity(self.slots.len() + 1);
        slots.extend_from_slice(&self.slots);
        Self { keys: self.keys.copy(key_len), slots }
    }
}
