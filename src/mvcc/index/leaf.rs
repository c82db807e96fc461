//! A leaf: a page of keys and, beside each, its newest state in 36 bytes.
//!
//! A leaf is plain bytes without pointers, so copy-on-write costs one copy of a few kilobytes and
//! no reference counts.

use std::ops::Range;

use super::page::{KeyParts, Page, common_len};
use super::undo::{Sequence, Undo};
use super::{Facts, Head};

/// Keys per leaf at most.
const LEAF_KEYS: usize = if cfg!(test) { 8 } else { 64 };
/// Bytes from which a leaf of more than one key is split: keys may be a megabyte long.
const LEAF_BYTES: usize = 16 << 10;
/// Main revision, creation revision, version, undo record: 8 bytes each; sub revision and kind: 4.
const SLOT: usize = 36;

type Slot = [u8; SLOT];

fn slot(head: Head, undo: Sequence) -> Slot {
    let Facts { revision, create_revision, version, leased: _ } = head.facts;
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(&revision.main.to_le_bytes());
    slot[8..16].copy_from_slice(&create_revision.to_le_bytes());
    slot[16..24].copy_from_slice(&version.to_le_bytes());
    slot[24..32].copy_from_slice(&undo.to_le_bytes());
    slot[32..].copy_from_slice(&head.kind_word().to_le_bytes());
    slot
}

fn long(slot: &Slot, at: usize) -> i64 {
    i64::from_le_bytes(*slot[at..].first_chunk().expect("a slot holds four longs"))
}

fn kind_word(slot: &Slot) -> u32 {
    u32::from_le_bytes(*slot.last_chunk().expect("a slot ends with a word"))
}

fn is_live(slot: &Slot) -> bool {
    kind_word(slot) >> 31 == 0
}

/// The shortest key above `last` and not above `first`, the next key after it.
pub fn separator(last: &[u8], first: &[u8]) -> Vec<u8> {
    first[..=common_len(last, first)].to_vec()
}

/// A leaf of the tree. A clone shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct Leaf(Page<SLOT>);

impl Leaf {
    /// The leaf that [`Leaf::bytes`] are those of, if they are a leaf's.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Page::from_bytes(bytes).map(Self)
    }

    /// The leaf as it can be stored.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The smallest key, unless the leaf is empty.
    pub fn first_key(&self) -> Option<Vec<u8>> {
        (self.len() > 0).then(|| self.key(0).to_vec())
    }

    /// The largest key, unless the leaf is empty.
    pub fn last_key(&self) -> Option<Vec<u8>> {
        self.len().checked_sub(1).map(|last| self.key(last).to_vec())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn key(&self, at: usize) -> KeyParts<'_> {
        self.0.key(at)
    }

    /// Where `key` is.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        self.0.search(key).ok()
    }

    /// Where the keys from `start` on and below `end` are.
    pub fn within(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Range<usize> {
        let from = start.map_or(0, |start| self.0.below(start));
        from..end.map_or(self.len(), |end| self.0.below(end))
    }

    /// The newest state at `at` and its undo record.
    pub fn state(&self, at: usize) -> (Head, Sequence) {
        let slot = self.0.value(at);
        let mut head = Head::from_kind_word(kind_word(slot));
        head.facts.revision.main = long(slot, 0);
        head.facts.create_revision = long(slot, 8);
        head.facts.version = long(slot, 16);
        (head, long(slot, 24) as Sequence)
    }

    /// Whether the newest state at `at` is live.
    pub fn is_live(&self, at: usize) -> bool {
        is_live(self.0.value(at))
    }

    /// How many newest states are live.
    pub fn live(&self) -> u64 {
        (0..self.len()).filter(|at| self.is_live(*at)).count() as u64
    }

    /// The main revision of the newest of the newest states.
    pub fn newest(&self) -> i64 {
        (0..self.len()).map(|at| long(self.0.value(at), 0)).max().unwrap_or(0)
    }

    /// Gives `key` a newer state; returns the one before and where the key is.
    pub fn put(&mut self, key: &[u8], mut head: Head, undo: &mut Undo) -> (Option<Head>, usize) {
        match self.0.search(key) {
            Ok(at) => {
                let (before, older) = self.state(at);
                assert!(
                    before.facts.revision < head.facts.revision,
                    "the revisions of a key only grow"
                );
                if head.tombstone {
                    head.facts = Facts { revision: head.facts.revision, ..before.facts };
                }
                self.0.set_value(at, slot(head, undo.push(head, before, older)));
                (Some(before), at)
            }
            Err(at) => {
                self.0 = self.0.insert(at, key, slot(head, 0));
                (None, at)
            }
        }
    }

    /// Removes a key, if it is here.
    pub fn remove(&mut self, key: &[u8]) {
        if let Ok(at) = self.0.search(key) {
            self.0 = self.0.remove(at);
        }
    }

    pub fn is_overfull(&self) -> bool {
        self.len() > LEAF_KEYS || (self.0.size() > LEAF_BYTES && self.len() > 1)
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
        let separator = separator(&self.key(middle - 1).to_vec(), &self.key(middle).to_vec());
        let upper = Self(self.0.part(middle..len));
        self.0 = self.0.part(0..middle);
        (separator, upper)
    }

    /// Whether this leaf and `upper`, its right neighbour, are better one.
    pub fn may_join(&self, upper: &Self) -> bool {
        self.len() + upper.len() <= LEAF_KEYS * 3 / 4
            && self.0.size() + upper.0.size() <= LEAF_BYTES / 2
    }

    /// Takes in the keys of `upper`, its right neighbour.
    pub fn join(&mut self, upper: &Self) {
        self.0 = Page::join(&[(&self.0, 0..self.len()), (&upper.0, 0..upper.len())]);
    }
}
