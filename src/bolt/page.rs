//! A page of a tree, taken apart and checked once, so that using it cannot fail.
//!
//! Invariants of a [`Page`]:
//! - Every key and value lies inside the page, behind the elements, none over another, in order.
//!   So whoever reads all rows of a page touches each of its bytes at most once.
//! - Keys have 1 to 32768 bytes and are strictly ascending.
//! - A branch has a child.

use bytes::Bytes;

use super::error::Damage;
use super::format::{
    BUCKET_HEADER_BYTES, ELEMENT_BYTES, FLAG_BRANCH, FLAG_BUCKET, FLAG_LEAF, KEY_BYTES_MAX,
    PAGE_HEADER_BYTES, PageHeader, u32_at, u64_at,
};

/// What a page of a tree is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Leaf,
}

/// A checked page; keys and values are slices of its bytes.
#[derive(Debug)]
pub(super) struct Page {
    /// The page in the file; an inline page has the id of the page around it.
    pub id: u64,
    pub kind: Kind,
    bytes: Bytes,
    elements: Vec<Element>,
}

#[derive(Clone, Copy, Debug)]
struct Element {
    key: usize,
    value: usize,
    end: usize,
    /// The child page of a branch element.
    child: u64,
    is_bucket: bool,
}

/// A bucket as the leaf value it is stored in describes it.
#[derive(Debug)]
pub(super) enum BucketRoot {
    Page(u64),
    Inline(Bytes),
}

impl Page {
    /// Takes a page apart; `bytes` are all of it, overflow included.
    pub fn parse(id: u64, header: PageHeader, bytes: Bytes) -> Result<Self, Damage> {
        let kind = match header.flags {
            FLAG_BRANCH => Kind::Branch,
            FLAG_LEAF => Kind::Leaf,
            flags => return Err(Damage::WrongKind { flags }),
        };
        if kind == Kind::Branch && header.count == 0 {
            return Err(Damage::EmptyBranch);
        }
        let mut page = Self { id, kind, bytes, elements: Vec::new() };
        page.read_elements(header.count)?;
        Ok(page)
    }

    /// Takes apart the page inside a bucket value.
    pub fn parse_inline(id: u64, bytes: Bytes) -> Result<Self, Damage> {
        let header = PageHeader::decode(&bytes).ok_or(Damage::Elements { count: 0 })?;
        if header.flags != FLAG_LEAF {
            return Err(Damage::WrongKind { flags: header.flags });
        }
        Self::parse(id, header, bytes)
    }

    fn read_elements(&mut self, count: u16) -> Result<(), Damage> {
        let table_end = PAGE_HEADER_BYTES + usize::from(count) * ELEMENT_BYTES;
        if table_end > self.bytes.len() {
            return Err(Damage::Elements { count });
        }
        self.elements.reserve_exact(usize::from(count));
        let mut free_from = table_end;
        for index in 0..usize::from(count) {
            let element = self.read_element(index, free_from)?;
            let key = &self.bytes[element.key..element.value];
            if let Some(last) = self.elements.last()
                && self.bytes[last.key..last.value] >= *key
            {
                return Err(Damage::OutOfOrder { index });
            }
            free_from = element.end;
            self.elements.push(element);
        }
        Ok(())
    }

    /// Reads one element, whose key may not start before `free_from`.
    fn read_element(&self, index: usize, free_from: usize) -> Result<Element, Damage> {
        let at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        let outside = Damage::Element { index };
        let field = |skip| u32_at(&self.bytes, at + skip).ok_or(outside);
        let (flags, pos, key_bytes, value_bytes, child) = match self.kind {
            Kind::Leaf => (field(0)?, field(4)?, field(8)?, field(12)?, 0),
            Kind::Branch => {
                (0, field(0)?, field(4)?, 0, u64_at(&self.bytes, at + 8).ok_or(outside)?)
            }
        };
        if flags & !FLAG_BUCKET != 0 {
            return Err(Damage::ElementFlags { index, flags });
        }
        let key = (at as u64) + u64::from(pos);
        let value = key + u64::from(key_bytes);
        let end = value + u64::from(value_bytes);
        if key < free_from as u64 || end > self.bytes.len() as u64 {
            return Err(outside);
        }
        let size_bytes = key_bytes as usize;
        if size_bytes == 0 || size_bytes > KEY_BYTES_MAX {
            return Err(Damage::KeySize { index, size_bytes });
        }
        let is_bucket = flags & FLAG_BUCKET != 0;
        let (key, value, end) = (key as usize, value as usize, end as usize);
        Ok(Element { key, value, end, child, is_bucket })
    }

    pub fn count(&self) -> usize {
        self.elements.len()
    }

    pub fn key(&self, index: usize) -> Bytes {
        let element = &self.elements[index];
        self.bytes.slice(element.key..element.value)
    }

    pub fn value(&self, index: usize) -> Bytes {
        let element = &self.elements[index];
        self.bytes.slice(element.value..element.end)
    }

    pub fn child(&self, index: usize) -> u64 {
        self.elements[index].child
    }

    pub fn is_bucket(&self, index: usize) -> bool {
        self.elements[index].is_bucket
    }

    /// Where the bucket in a leaf value is.
    pub fn bucket(&self, index: usize) -> Result<BucketRoot, Damage> {
        let value = self.value(index);
        let root = u64_at(&value, 0).ok_or(Damage::BucketHeader { index })?;
        if value.len() < BUCKET_HEADER_BYTES {
            return Err(Damage::BucketHeader { index });
        }
        Ok(match root {
            0 => BucketRoot::Inline(value.slice(BUCKET_HEADER_BYTES..)),
            page => BucketRoot::Page(page),
        })
    }
}
