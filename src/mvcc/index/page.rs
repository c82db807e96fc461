//! A page: sorted keys, packed, with a value of fixed size beside each, in one allocation.
//!
//! ```text
//! len │ prefix len │ hint × len │ end × len │ value × len │ prefix │ suffix suffix suffix ...
//!                    4 bytes      4 bytes     SIZE bytes
//! ```
//!
//! All keys share the prefix; a hint is the first four bytes of what follows it. A search counts
//! the hints below the key's, which is a few vector instructions over memory read once, and
//! compares keys only where hints are equal.
//!
//! A page is immutable but for its values. Inserting or removing makes a new page by copying the
//! pieces, so pages have no slack, and a snapshot of one is a reference.
//!
//! Invariants:
//! - Keys are strictly ascending; every one begins with the prefix.
//! - The prefix is the longest possible after a split or a join. An insertion shortens it if it
//!   must; a removal leaves it.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

const HEADER: usize = 8;
const WORD: usize = 4;

/// A key as the index holds it: in two pieces.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    pub prefix: &'a [u8],
    pub suffix: &'a [u8],
}

impl<'a> KeyParts<'a> {
    /// Appends the key.
    pub fn append_to(self, key: &mut Vec<u8>) {
        key.extend_from_slice(self.prefix);
        key.extend_from_slice(self.suffix);
    }

    /// The key in one piece.
    pub fn to_vec(self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }

    /// What follows the first `len` bytes.
    fn after(self, len: usize) -> Self {
        let cut = len.saturating_sub(self.prefix.len());
        Self { prefix: &self.prefix[len.min(self.prefix.len())..], suffix: &self.suffix[cut..] }
    }
}

/// Sorted keys with `SIZE` bytes beside each. A clone shares the bytes.
#[derive(Clone, Debug)]
pub struct Page<const SIZE: usize>(Arc<[u8]>);

impl<const SIZE: usize> Default for Page<SIZE> {
    fn default() -> Self {
        Self(Arc::new([0; HEADER]))
    }
}

impl<const SIZE: usize> Page<SIZE> {
    /// One key.
    pub fn single(key: &[u8], value: [u8; SIZE]) -> Self {
        Self::default().insert(0, key, value)
    }

    /// The page as it can be stored.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The page that [`Page::bytes`] are those of, if they keep the invariants of one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER {
            return None;
        }
        let page = Self(Arc::from(bytes));
        let fixed = page.len().checked_mul(2 * WORD + SIZE)?.checked_add(HEADER)?;
        let keys_len = bytes.len().checked_sub(fixed)?;
        let mut end = page.prefix_len();
        for at in 0..page.len() {
            let next = word(page.ends(), at) as usize;
            if next < end || next > keys_len {
                return None;
            }
            let suffix = &page.keys()[end..next];
            if word(page.hints(), at) != hint(suffix) {
                return None;
            }
            end = next;
        }
        let ascend = |at: usize| page.key(at - 1).suffix < page.key(at).suffix;
        (end == keys_len && (1..page.len()).all(ascend)).then_some(page)
    }

    pub fn len(&self) -> usize {
        word(&self.0, 0) as usize
    }

    fn prefix_len(&self) -> usize {
        word(&self.0, 1) as usize
    }

    /// Bytes the page occupies.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    fn hints(&self) -> &[u8] {
        &self.0[HEADER..HEADER + WORD * self.len()]
    }

    fn ends(&self) -> &[u8] {
        let len = self.len();
        &self.0[HEADER + WORD * len..HEADER + 2 * WORD * len]
    }

    fn values_at(&self) -> usize {
        HEADER + 2 * WORD * self.len()
    }

    fn values(&self) -> &[u8] {
        let at = self.values_at();
        &self.0[at..at + SIZE * self.len()]
    }

    /// The prefix and all suffixes; ends count from here.
    fn keys(&self) -> &[u8] {
        &self.0[self.values_at() + SIZE * self.len()..]
    }

    /// Where the suffix at `at` starts, counted as ends are; one behind the last is allowed.
    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(self.prefix_len(), |before| word(self.ends(), before) as usize)
    }

    pub fn key(&self, at: usize) -> KeyParts<'_> {
        let keys = self.keys();
        let suffix = &keys[self.start(at)..word(self.ends(), at) as usize];
        KeyParts { prefix: &keys[..self.prefix_len()], suffix }
    }

    pub fn value(&self, at: usize) -> &[u8; SIZE] {
        let from = self.values_at() + SIZE * at;
        self.0[from..from + SIZE].first_chunk().expect("values have one size")
    }

    /// Replaces the value at `at`, in place unless the page is shared.
    pub fn set_value(&mut self, at: usize, value: [u8; SIZE]) {
        let from = self.values_at() + SIZE * at;
        Arc::make_mut(&mut self.0)[from..from + SIZE].copy_from_slice(&value);
    }

    /// Where `key` is, or would be inserted.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = &self.keys()[..self.prefix_len()];
        let Some(rest) = key.strip_prefix(prefix) else {
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let wanted = hint(rest);
        let (mut low, mut high) = (0, 0);
        for word in self.hints().chunks_exact(WORD) {
            let hint = u32::from_le_bytes(word.try_into().expect("a word is four bytes"));
            low += usize::from(hint < wanted);
            high += usize::from(hint <= wanted);
        }
        while low < high {
            let middle = (low + high) / 2;
            match self.key(middle).suffix.cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
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

    /// This page with `key` inserted at its place, which [`Page::search`] gave.
    pub fn insert(&self, at: usize, key: &[u8], value: [u8; SIZE]) -> Self {
        let len = self.len();
        let shared = match len {
            0 => key.len(),
            _ => common_len(&self.keys()[..self.prefix_len()], key),
        };
        if len > 0 && shared < self.prefix_len() {
            return Self::compose(&[(self, 0..len)], shared).insert(at, key, value);
        }
        let (keys, start) = match len {
            0 => (key, key.len()),
            _ => (self.keys(), self.start(at)),
        };
        let suffix = &key[shared..];
        let mut page = Self::blank(len + 1, shared, keys.len() + suffix.len());
        let fill = page.fill();
        let hint = hint(suffix).to_le_bytes();
        splice(fill.hints, self.hints(), WORD * at, &hint);
        splice(fill.values, self.values(), SIZE * at, &value);
        splice(fill.keys, keys, start, suffix);
        let ends = self.ends();
        splice(fill.ends, ends, WORD * at, &offset(start + suffix.len()).to_le_bytes());
        add(&mut fill.ends[WORD * (at + 1)..], offset(suffix.len()));
        page
    }

    /// This page without the key at `at`.
    pub fn remove(&self, at: usize) -> Self {
        let len = self.len();
        let (start, end) = (self.start(at), self.start(at + 1));
        let mut page = Self::blank(len - 1, self.prefix_len(), self.keys().len() - (end - start));
        let fill = page.fill();
        cut(fill.hints, self.hints(), WORD * at..WORD * (at + 1));
        cut(fill.values, self.values(), SIZE * at..SIZE * (at + 1));
        cut(fill.keys, self.keys(), start..end);
        cut(fill.ends, self.ends(), WORD * at..WORD * (at + 1));
        add(&mut fill.ends[WORD * at..], offset(end - start).wrapping_neg());
        page
    }

    /// The keys of `range`.
    pub fn part(&self, range: Range<usize>) -> Self {
        Self::join(&[(self, range)])
    }

    /// Several pieces one behind the other, as tightly as they can be packed.
    pub fn join(pieces: &[(&Self, Range<usize>)]) -> Self {
        let mut filled = pieces.iter().filter(|(_, range)| !range.is_empty());
        let Some(first) = filled.next() else { return Self::default() };
        let last = filled.next_back().unwrap_or(first);
        let (low, high) = (first.0.key(first.1.start), last.0.key(last.1.end - 1));
        Self::compose(pieces, common_len(&low.to_vec(), &high.to_vec()))
    }

    /// Several pieces one behind the other, behind a prefix all their keys share.
    fn compose(pieces: &[(&Self, Range<usize>)], prefix_len: usize) -> Self {
        let entries = || {
            pieces
                .iter()
                .flat_map(|(page, range)| range.clone().map(|at| (page.key(at), page.value(at))))
        };
        let len = entries().count();
        let size_of = |key: KeyParts<'_>| key.prefix.len() + key.suffix.len() - prefix_len;
        let suffixes: usize = entries().map(|(key, _)| size_of(key)).sum();
        let mut page = Self::blank(len, prefix_len, prefix_len + suffixes);
        let fill = page.fill();
        let mut end = 0;
        let mut put = |bytes: &[u8], keys: &mut [u8]| {
            keys[end..end + bytes.len()].copy_from_slice(bytes);
            end += bytes.len();
            end
        };
        if let Some((key, _)) = entries().next() {
            put(&key.to_vec()[..prefix_len], fill.keys);
        }
        for (at, (key, value)) in entries().enumerate() {
            let rest = key.after(prefix_len);
            let start = put(rest.prefix, fill.keys) - rest.prefix.len();
            let end = put(rest.suffix, fill.keys);
            let hint = hint(&fill.keys[start..end]).to_le_bytes();
            fill.hints[WORD * at..WORD * (at + 1)].copy_from_slice(&hint);
            fill.ends[WORD * at..WORD * (at + 1)].copy_from_slice(&offset(end).to_le_bytes());
            fill.values[SIZE * at..SIZE * (at + 1)].copy_from_slice(value);
        }
        page
    }

    /// A page of zeros with room for `len` keys of `keys_len` bytes, prefix included.
    fn blank(len: usize, prefix_len: usize, keys_len: usize) -> Self {
        let size = HEADER + (2 * WORD + SIZE) * len + keys_len;
        let mut page: Arc<[u8]> = std::iter::repeat_n(0, size).collect();
        let bytes = Arc::get_mut(&mut page).expect("a new page is not shared");
        bytes[..WORD].copy_from_slice(&offset(len).to_le_bytes());
        bytes[WORD..HEADER].copy_from_slice(&offset(prefix_len).to_le_bytes());
        Self(page)
    }

    /// The pieces of a new page, to be filled.
    fn fill(&mut self) -> Fill<'_> {
        let len = self.len();
        let bytes = Arc::get_mut(&mut self.0).expect("a new page is not shared");
        let (hints, rest) = bytes[HEADER..].split_at_mut(WORD * len);
        let (ends, rest) = rest.split_at_mut(WORD * len);
        let (values, keys) = rest.split_at_mut(SIZE * len);
        Fill { hints, ends, values, keys }
    }
}

struct Fill<'a> {
    hints: &'a mut [u8],
    ends: &'a mut [u8],
    values: &'a mut [u8],
    keys: &'a mut [u8],
}

/// Copies `old` with `new` put in at `at`.
fn splice(into: &mut [u8], old: &[u8], at: usize, new: &[u8]) {
    into[..at].copy_from_slice(&old[..at]);
    into[at..at + new.len()].copy_from_slice(new);
    into[at + new.len()..].copy_from_slice(&old[at..]);
}

/// Copies `old` without `range`.
fn cut(into: &mut [u8], old: &[u8], range: Range<usize>) {
    into[..range.start].copy_from_slice(&old[..range.start]);
    into[range.start..].copy_from_slice(&old[range.end..]);
}

/// Adds to every word.
fn add(words: &mut [u8], number: u32) {
    for word in words.chunks_exact_mut(WORD) {
        let old = u32::from_le_bytes((&*word).try_into().expect("a word is four bytes"));
        word.copy_from_slice(&old.wrapping_add(number).to_le_bytes());
    }
}

fn word(words: &[u8], at: usize) -> u32 {
    let bytes = words[WORD * at..].first_chunk().expect("the word is within");
    u32::from_le_bytes(*bytes)
}

/// The first four bytes as a number that compares as they do.
fn hint(suffix: &[u8]) -> u32 {
    match suffix.first_chunk() {
        Some(bytes) => u32::from_be_bytes(*bytes),
        None => suffix.iter().rev().fold(0, |hint, byte| (hint >> 8) | u32::from(*byte) << 24),
    }
}

/// The length of the longest common prefix.
pub fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn offset(len: usize) -> u32 {
    u32::try_from(len).expect("a node is split long before it holds 4 GiB of keys")
}
