//! Sorted keys packed into one buffer: the prefix they share, then what is left of each.
//!
//! ```text
//! bytes  /registry/pods/│web-1│web-2│web-31
//! ends                       ^5    ^10    ^16     (counted from the start of bytes)
//! ```
//!
//! Invariants:
//! - Keys are strictly ascending; every one begins with the prefix.
//! - The prefix is the longest possible after a split or a merge. An insertion shortens it if it
//!   must; a removal leaves it.

use std::ops::Range;

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

/// Sorted keys.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    prefix_len: u32,
}

impl Keys {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes the keys occupy.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn key(&self, at: usize) -> KeyParts<'_> {
        KeyParts { prefix: self.prefix(), suffix: self.suffix(at) }
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix_len as usize]
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(self.prefix_len, |before| self.ends[before]) as usize
    }

    fn suffix(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    /// Where `key` is, or would be inserted.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let Some(rest) = key.strip_prefix(prefix) else {
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.suffix(middle).cmp(rest) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// How many keys are below `key`.
    pub fn below(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|at| at)
    }

    /// How many keys are not above `key`.
    pub fn up_to(&self, key: &[u8]) -> usize {
        self.search(key).map_or_else(|at| at, |at| at + 1)
    }

    /// Inserts `key` at its place, which [`Keys::search`] gave.
    pub fn insert(&mut self, at: usize, key: &[u8]) {
        if self.ends.is_empty() {
            self.bytes.clear();
            self.bytes.extend_from_slice(key);
            self.prefix_len = offset(key.len());
            self.ends.push(self.prefix_len);
            return;
        }
        let shared = common_len(self.prefix(), key);
        if shared < self.prefix_len as usize {
            *self = self.with_prefix(0..self.len(), shared, key.len() - shared);
        }
        let suffix = &key[shared..];
        let start = self.start(at);
        let old_len = self.bytes.len();
        grow(&mut self.bytes, suffix.len());
        self.bytes.resize(old_len + suffix.len(), 0);
        self.bytes.copy_within(start..old_len, start + suffix.len());
        self.bytes[start..start + suffix.len()].copy_from_slice(suffix);
        let added = offset(suffix.len());
        for end in &mut self.ends[at..] {
            *end += added;
        }
        grow(&mut self.ends, 1);
        self.ends.insert(at, offset(start) + added);
    }

    /// Removes the key at `at`.
    pub fn remove(&mut self, at: usize) {
        let start = self.start(at);
        let end = self.ends.remove(at) as usize;
        self.bytes.drain(start..end);
        let removed = offset(end - start);
        for end in &mut self.ends[at..] {
            *end -= removed;
        }
    }

    /// The keys of `range`, packed as tightly as they can be.
    pub fn part(&self, range: Range<usize>) -> Self {
        if range.is_empty() {
            return Self::default();
        }
        let (first, last) = (self.suffix(range.start), self.suffix(range.end - 1));
        let shared = self.prefix_len as usize + common_len(first, last);
        self.with_prefix(range, shared, 0)
    }

    /// The keys of `range` behind a prefix of `prefix_len` bytes, which they must all share.
    fn with_prefix(&self, range: Range<usize>, prefix_len: usize, spare: usize) -> Self {
        let old_len = self.prefix_len as usize;
        let (kept, moved) = self.prefix().split_at(prefix_len.min(old_len));
        let cut = prefix_len.saturating_sub(old_len);
        let suffixes = range.clone().map(|at| &self.suffix(at)[cut..]);
        let size = prefix_len + suffixes.clone().map(|s| moved.len() + s.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(size + spare);
        bytes.extend_from_slice(kept);
        bytes.extend_from_slice(&self.suffix(range.start)[..cut]);
        let mut ends = Vec::with_capacity(range.len() + usize::from(spare > 0));
        for suffix in suffixes {
            bytes.extend_from_slice(moved);
            bytes.extend_from_slice(suffix);
            ends.push(offset(bytes.len()));
        }
        Self { bytes, ends, prefix_len: offset(prefix_len) }
    }

    /// These keys and, above them, `more`, all packed as tightly as they can be.
    pub fn join(&self, more: &[&Self]) -> Self {
        let parts = || std::iter::once(self).chain(more.iter().copied()).filter(|k| k.len() > 0);
        let (Some(first), Some(last)) = (parts().next(), parts().next_back()) else {
            return Self::default();
        };
        let (low, high) = (first.key(0).to_vec(), last.key(last.len() - 1).to_vec());
        let shared = common_len(&low, &high);
        let mut joined = Self { prefix_len: offset(shared), ..Self::default() };
        joined.bytes.reserve_exact(parts().map(|keys| keys.unpacked_size(shared)).sum::<usize>());
        joined.ends.reserve_exact(parts().map(Self::len).sum());
        joined.bytes.extend_from_slice(&low[..shared]);
        for keys in parts() {
            let prefix = keys.prefix();
            let cut = shared.saturating_sub(prefix.len());
            for at in 0..keys.len() {
                joined.bytes.extend_from_slice(&prefix[shared.min(prefix.len())..]);
                joined.bytes.extend_from_slice(&keys.suffix(at)[cut..]);
                joined.ends.push(offset(joined.bytes.len()));
            }
        }
        joined
    }

    /// At most what the keys take behind a prefix of `prefix_len` bytes, prefix included.
    fn unpacked_size(&self, prefix_len: usize) -> usize {
        let more = (self.prefix_len as usize).saturating_sub(prefix_len);
        self.bytes.len() + more * self.len()
    }

    /// One key.
    pub fn single(key: &[u8]) -> Self {
        let mut keys = Self::default();
        keys.insert(0, key);
        keys
    }

    /// A copy with room for one more key of some length.
    pub fn copy(&self, spare: usize) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + spare);
        bytes.extend_from_slice(&self.bytes);
        let mut ends = Vec::with_capacity(self.ends.len() + usize::from(spare > 0));
        ends.extend_from_slice(&self.ends);
        Self { bytes, ends, prefix_len: self.prefix_len }
    }
}

/// Makes room for `more`, with little to spare: nodes are many and each would waste its slack.
pub fn grow<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more + vec.len() / 8);
    }
}

/// The length of the longest common prefix.
pub fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn offset(len: usize) -> u32 {
    u32::try_from(len).expect("a node is split long before it holds 4 GiB of keys")
}
