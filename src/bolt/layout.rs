//! Where each row of a sorted table goes: a tree built from below, in one pass, page after page.
//!
//! ```text
//!   file order      leaf leaf leaf ┊ branch ┊ leaf leaf leaf ┊ branch ┊ ... ┊ branch (root)
//! ```
//!
//! A leaf is written as soon as it is full, a branch when all its children are. So per level only
//! the page being filled is held, and the one before it, for a reason: no branch may have a single
//! child, so the last branch of a level borrows from its full neighbour if it must. When bbolt
//! shrinks a page it wants a sibling to merge it with, under the same branch, and stops the process
//! if there is none: without the borrowing, etcd 3.7.3 dies at the compaction that reaches such a
//! page ("assertion failed: parent must have at least 2 children").
//!
//! The same code runs twice: first to count pages, then to write them. Two runs over the same rows
//! place every page alike, for placement depends on sizes only.
//!
//! Invariants:
//! - Keys go in strictly ascending and are of a size bbolt can hold; else a [`Fault`].
//! - Every branch has at least two children.
//! - Leaves are filled to [`LEAF_FILL`] of the pages they occupy, but for the last of a table.

use bytes::{BufMut, BytesMut};

use super::format::{
    ELEMENT_BYTES, FLAG_BRANCH, FLAG_BUCKET, FLAG_LEAF, KEY_BYTES_MAX, PAGE_BYTES,
    PAGE_HEADER_BYTES, PageHeader, VALUE_BYTES_MAX,
};
use crate::error::Fault;

/// A leaf that is less full than this, in eighths, takes one more row, even if that makes it a
/// page longer; otherwise rows of half a page and more would waste up to half of the file.
const LEAF_FILL: usize = 7;
/// A leaf of this many pages takes no row it has no room for: what it wastes is little by then.
const LEAF_PAGES: usize = 8;
/// A full branch that gives a child to its neighbour keeps at least two.
const BRANCH_CHILDREN_MIN: usize = 3;

/// The pages of a file, counted and, in the second run, written.
pub(super) struct Output {
    /// The page that comes next.
    pub next_page: u64,
    /// What was written and not yet taken; `None` while counting.
    pub bytes: Option<BytesMut>,
}

impl Output {
    /// Appends a page of a tree and returns its id.
    fn emit(&mut self, draft: &Draft, flags: u16) -> u64 {
        let id = self.next_page;
        let pages = draft.pages();
        self.next_page += pages as u64;
        let Some(bytes) = &mut self.bytes else { return id };
        let start = bytes.len();
        bytes.reserve(pages * PAGE_BYTES);
        let count = u16::try_from(draft.elements.len()).expect("leaves and branches are bounded");
        let overflow = u32::try_from(pages - 1).expect("a row is shorter than 2 GiB");
        bytes.put_slice(&PageHeader { id, flags, count, overflow }.encode());
        let mut data_at = PAGE_HEADER_BYTES + draft.elements.len() * ELEMENT_BYTES;
        for (index, element) in draft.elements.iter().enumerate() {
            let element_at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
            element.encode(flags, (data_at - element_at) as u32, bytes);
            data_at += element.size_bytes();
        }
        bytes.put_slice(&draft.data);
        assert_eq!(bytes.len() - start, draft.used(), "an element is where its page says");
        bytes.resize(start + pages * PAGE_BYTES, 0);
        id
    }
}

/// The tree of one table while it is being built.
#[derive(Default)]
pub(super) struct Tree {
    leaf: Draft,
    levels: Vec<Level>,
    last_key: Vec<u8>,
}

/// The branches of one height above the leaves.
#[derive(Default)]
struct Level {
    open: Draft,
    /// Full, and held back in case the open page needs one of its children.
    full: Option<Draft>,
}

impl Tree {
    /// Adds a row.
    pub fn add_row(&mut self, key: &[u8], value: &[u8], out: &mut Output) -> Result<(), Fault> {
        self.add(key, value, false, out)
    }

    /// Adds a row that is a bucket, by its header.
    pub fn add_bucket(&mut self, key: &[u8], value: &[u8], out: &mut Output) -> Result<(), Fault> {
        self.add(key, value, true, out)
    }

    fn add(
        &mut self,
        key: &[u8],
        value: &[u8],
        bucket: bool,
        out: &mut Output,
    ) -> Result<(), Fault> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            let (key, value) = (key.len(), value.len());
            let what = format!("a row of {key} + {value} bytes does not fit into a snapshot");
            return Err(Fault::Broken(what));
        }
        if key <= &self.last_key[..] {
            return Err(Fault::Broken("rows for a snapshot are out of order".into()));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        if self.leaf.is_full_leaf(key.len() + value.len()) {
            self.close_leaf(out);
        }
        let element = Element {
            bucket,
            key_bytes: key.len() as u32,
            value_bytes: value.len() as u32,
            child: 0,
        };
        self.leaf.push(element, key, value, out.bytes.is_some());
        Ok(())
    }

    /// Writes what is left and returns the root page.
    pub fn finish(mut self, out: &mut Output) -> u64 {
        if self.levels.is_empty() {
            return out.emit(&self.leaf, FLAG_LEAF);
        }
        self.close_leaf(out);
        let mut height = 0;
        loop {
            let level = &mut self.levels[height];
            let Some(mut full) = level.full.take() else {
                assert!(level.open.elements.len() > 1, "a branch has two children");
                return out.emit(&level.open, FLAG_BRANCH);
            };
            let mut open = std::mem::take(&mut level.open);
            if open.elements.len() == 1 {
                open.borrow_last(&mut full);
            }
            self.close_branch(height, full, out);
            self.close_branch(height, open, out);
            height += 1;
        }
    }

    fn close_leaf(&mut self, out: &mut Output) {
        let leaf = std::mem::take(&mut self.leaf);
        let page = out.emit(&leaf, FLAG_LEAF);
        self.add_child(0, &leaf.first_key, page, out);
        self.leaf = leaf.emptied();
    }

    /// Writes a branch and makes it a child on the level above.
    fn close_branch(&mut self, height: usize, branch: Draft, out: &mut Output) {
        let page = out.emit(&branch, FLAG_BRANCH);
        self.add_child(height + 1, &branch.first_key, page, out);
    }

    fn add_child(&mut self, height: usize, key: &[u8], page: u64, out: &mut Output) {
        if height == self.levels.len() {
            self.levels.push(Level::default());
        }
        let level = &mut self.levels[height];
        if level.open.is_full_branch(key.len()) {
            let full = level.full.replace(std::mem::take(&mut level.open));
            level.open.push_child(key, page);
            if let Some(full) = full {
                self.close_branch(height, full, out);
            }
        } else {
            level.open.push_child(key, page);
        }
    }
}

/// A page being filled.
#[derive(Default)]
struct Draft {
    elements: Vec<Element>,
    /// Keys and values as they will follow the elements. While counting, leaves leave it empty.
    data: Vec<u8>,
    data_bytes: usize,
    first_key: Vec<u8>,
}

struct Element {
    bucket: bool,
    key_bytes: u32,
    value_bytes: u32,
    /// The page a branch element points to.
    child: u64,
}

impl Element {
    fn size_bytes(&self) -> usize {
        self.key_bytes as usize + self.value_bytes as usize
    }

    fn encode(&self, page_flags: u16, pos: u32, bytes: &mut BytesMut) {
        if page_flags == FLAG_BRANCH {
            bytes.put_u32_le(pos);
            bytes.put_u32_le(self.key_bytes);
            bytes.put_u64_le(self.child);
        } else {
            bytes.put_u32_le(if self.bucket { FLAG_BUCKET } else { 0 });
            bytes.put_u32_le(pos);
            bytes.put_u32_le(self.key_bytes);
            bytes.put_u32_le(self.value_bytes);
        }
    }
}

impl Draft {
    /// Bytes of the page in use.
    fn used(&self) -> usize {
        PAGE_HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data_bytes
    }

    fn pages(&self) -> usize {
        self.used().div_ceil(PAGE_BYTES)
    }

    fn has_room(&self, size_bytes: usize) -> bool {
        self.used() + ELEMENT_BYTES + size_bytes <= self.pages() * PAGE_BYTES
    }

    fn is_full_leaf(&self, size_bytes: usize) -> bool {
        let is_filled = self.used() * 8 >= self.pages() * PAGE_BYTES * LEAF_FILL;
        let may_close = is_filled || self.pages() >= LEAF_PAGES;
        may_close && !self.elements.is_empty() && !self.has_room(size_bytes)
    }

    fn is_full_branch(&self, key_bytes: usize) -> bool {
        self.elements.len() >= BRANCH_CHILDREN_MIN && !self.has_room(key_bytes)
    }

    fn push(&mut self, element: Element, key: &[u8], value: &[u8], keep: bool) {
        if self.elements.is_empty() {
            self.first_key.extend_from_slice(key);
        }
        self.data_bytes += element.size_bytes();
        self.elements.push(element);
        if keep {
            self.data.extend_from_slice(key);
            self.data.extend_from_slice(value);
        }
    }

    fn push_child(&mut self, key: &[u8], child: u64) {
        let key_bytes = key.len() as u32;
        let element = Element { bucket: false, key_bytes, value_bytes: 0, child };
        self.push(element, key, &[], true);
    }

    /// Moves the last child of the branch before this one to the front of this one.
    fn borrow_last(&mut self, before: &mut Draft) {
        assert!(before.elements.len() >= BRANCH_CHILDREN_MIN, "a full branch can spare a child");
        let element = before.elements.pop().expect("just counted");
        let size_bytes = element.size_bytes();
        let key = before.data.split_off(before.data.len() - size_bytes);
        before.data_bytes -= size_bytes;
        self.data.splice(0..0, key.iter().copied());
        self.data_bytes += size_bytes;
        self.first_key = key;
        self.elements.insert(0, element);
    }

    /// The same memory, for the next page.
    fn emptied(mut self) -> Self {
        self.elements.clear();
        self.data.clear();
        self.data_bytes = 0;
        self.first_key.clear();
        self
    }
}
