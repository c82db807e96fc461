//! Trees of pages, walked in key order.
//!
//! Invariants a walk holds the file to, whatever its bytes:
//! - Keys are strictly ascending over a whole tree, and each page's keys lie in the range its
//!   parent gives it, so a search in the tree finds exactly what a walk does.
//! - A page belongs to one place in one tree.
//! - A tree is at most [`DEPTH_MAX`] pages deep.
//!
//! Nested buckets are refused: etcd has buckets of rows, and nothing below them.

use bytes::Bytes;

use super::check::{self, Report};
use super::error::{Damage, Error};
use super::page::{BucketRoot, Kind, Page};
use super::reader::{Reader, Seen};

/// The depth of the deepest tree that is followed. With two children per branch, the least bbolt
/// keeps, a deeper one would not fit on any disk.
const DEPTH_MAX: usize = 40;

/// A place in a tree: the pages from the root down to the current leaf.
#[derive(Debug, Default)]
struct Tree {
    frames: Vec<Frame>,
    /// The last key returned.
    last: Option<Bytes>,
}

#[derive(Debug)]
struct Frame {
    page: Page,
    next: usize,
    /// The range of the page's keys, as its ancestors give it: from, and below.
    from: Option<Bytes>,
    below: Option<Bytes>,
}

impl Frame {
    /// Whether a key may stand on this page.
    fn holds(&self, key: &Bytes) -> bool {
        self.from.as_ref().is_none_or(|from| key >= from)
            && self.below.as_ref().is_none_or(|below| key < below)
    }
}

impl Tree {
    fn at_page(reader: &Reader, seen: &mut Seen, root: u64) -> Result<Self, Error> {
        Ok(Self::at(reader.page(root, seen)?))
    }

    fn at(page: Page) -> Self {
        Self { frames: vec![Frame { page, next: 0, from: None, below: None }], last: None }
    }

    /// Moves to the next element and returns its leaf and its place there.
    fn next(&mut self, reader: &Reader, seen: &mut Seen) -> Result<Option<(&Page, usize)>, Error> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let index = frame.next;
            if index == frame.page.count() {
                self.frames.pop();
                continue;
            }
            frame.next += 1;
            let key = frame.page.key(index);
            let refuse = |damage| Err(reader.damaged(frame.page.id, damage));
            if !frame.holds(&key) {
                return refuse(Damage::OutsideParent { index });
            }
            if self.last.as_ref().is_some_and(|last| key <= *last) {
                return refuse(Damage::OutOfOrder { index });
            }
            if frame.page.kind == Kind::Leaf {
                self.last = Some(key);
                break;
            }
            self.descend(reader, seen, index, key)?;
        }
        Ok(self.frames.last().map(|frame| (&frame.page, frame.next - 1)))
    }

    /// Enters child `index` of the current branch.
    fn descend(
        &mut self,
        reader: &Reader,
        seen: &mut Seen,
        index: usize,
        from: Bytes,
    ) -> Result<(), Error> {
        let depth = self.frames.len();
        let frame = self.frames.last().expect("a branch is being read");
        let child = frame.page.child(index);
        if depth == DEPTH_MAX {
            return Err(reader.damaged(child, Damage::TooDeep));
        }
        let next = index + 1;
        let below = match next < frame.page.count() {
            true => Some(frame.page.key(next)),
            false => frame.below.clone(),
        };
        let page = reader.page(child, seen)?;
        self.frames.push(Frame { page, next: 0, from: Some(from), below });
        Ok(())
    }
}

/// The tree inside the bucket that `element` of a leaf is.
fn open_bucket(reader: &Reader, seen: &mut Seen, leaf: &Page, index: usize) -> Result<Tree, Error> {
    let refuse = |damage| reader.damaged(leaf.id, damage);
    if !leaf.is_bucket(index) {
        return Err(refuse(Damage::NotABucket { index }));
    }
    match leaf.bucket(index).map_err(refuse)? {
        BucketRoot::Page(root) => Tree::at_page(reader, seen, root),
        BucketRoot::Inline(bytes) => {
            Ok(Tree::at(Page::parse_inline(leaf.id, bytes).map_err(refuse)?))
        }
    }
}

/// The next row of a bucket.
fn next_row(
    tree: &mut Tree,
    reader: &Reader,
    seen: &mut Seen,
) -> Result<Option<(Bytes, Bytes)>, Error> {
    let Some((leaf, index)) = tree.next(reader, seen)? else { return Ok(None) };
    if leaf.is_bucket(index) {
        return Err(reader.damaged(leaf.id, Damage::NestedBucket { index }));
    }
    Ok(Some((leaf.key(index), leaf.value(index))))
}

/// What a [`Walk`] comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A bucket, by name; its rows follow.
    Bucket(Bytes),
    /// A row of the last bucket. The slices keep the page they are on in memory.
    Row { key: Bytes, value: Bytes },
}

/// All buckets and rows of a file, in order. Ends after an error.
pub struct Walk<'a> {
    reader: Reader<'a>,
    seen: Seen,
    root: Option<Tree>,
    bucket: Tree,
    ended: bool,
    report: Report,
}

impl<'a> Walk<'a> {
    pub(super) fn new(reader: Reader<'a>) -> Self {
        Self {
            seen: Seen::new(reader.meta()),
            reader,
            root: None,
            bucket: Tree::default(),
            ended: false,
            report: Report::default(),
        }
    }

    /// Walks what is left, then accounts for every page of the file.
    pub fn finish(mut self) -> Result<Report, Error> {
        for item in &mut self {
            item?;
        }
        check::account(&self.reader, self.seen, self.report)
    }

    fn step(&mut self) -> Result<Option<Item>, Error> {
        if let Some((key, value)) = next_row(&mut self.bucket, &self.reader, &mut self.seen)? {
            self.report.rows += 1;
            return Ok(Some(Item::Row { key, value }));
        }
        let root = match &mut self.root {
            Some(root) => root,
            none => {
                let page = self.reader.meta().root;
                none.insert(Tree::at_page(&self.reader, &mut self.seen, page)?)
            }
        };
        let Some((leaf, index)) = root.next(&self.reader, &mut self.seen)? else {
            return Ok(None);
        };
        let name = leaf.key(index);
        self.bucket = open_bucket(&self.reader, &mut self.seen, leaf, index)?;
        self.report.buckets += 1;
        Ok(Some(Item::Bucket(name)))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step().transpose();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

/// The rows of one bucket, in order. Ends after an error.
pub struct Rows<'a> {
    reader: Reader<'a>,
    seen: Seen,
    tree: Tree,
    ended: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn find(reader: Reader<'a>, bucket: &[u8]) -> Result<Option<Self>, Error> {
        let mut seen = Seen::new(reader.meta());
        let mut root = Tree::at_page(&reader, &mut seen, reader.meta().root)?;
        while let Some((leaf, index)) = root.next(&reader, &mut seen)? {
            if leaf.key(index) == bucket {
                let tree = open_bucket(&reader, &mut seen, leaf, index)?;
                return Ok(Some(Self { reader, seen, tree, ended: false }));
            }
        }
        Ok(None)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = next_row(&mut self.tree, &self.reader, &mut self.seen).transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}
