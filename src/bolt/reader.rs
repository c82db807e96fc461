//! An open bbolt file: its newest valid meta page, and pages read through it one at a time.
//!
//! The file may be damaged or made by an enemy. Nothing in it is believed before it is checked,
//! and what is checked stays checked: see the invariants of `page` and `tree`.
//!
//! Invariants:
//! - Memory is bounded by the largest page with its overflow, times the depth of a tree, plus one
//!   bit per page; never by a number in the file alone, for everything read lies inside the file.
//! - A page is read at most once per walk, so work is bounded by the size of the file.
//!
//! Deliberately absent: mapping the file (a truncated mapping kills the process, as it does
//! etcdutl), repair, and falling back to the older meta page when the newer one is sound.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::error::{Damage, Error};
use super::format::{
    META_BYTES, Meta, MetaRefusal, PAGE_BYTES, PAGE_BYTES_MAX, PAGE_BYTES_MIN, PAGE_FIRST,
    PageHeader,
};
use super::page::Page;
use super::rows::TableRows;
use super::tree::{Rows, Walk};
use crate::storage::disk::DiskFile;

/// The largest page, overflow included, that is read into memory; a larger one is refused.
/// bbolt puts up to four rows on a page before it splits, so rows of 128 MiB always pass.
const EXTENT_BYTES_MAX: u64 = 512 << 20;

/// Bytes that can be read at any position.
pub trait ReadAt {
    fn size_bytes(&self) -> io::Result<u64>;
    /// Fills `buf` from `offset` on, or fails.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for &[u8] {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let found = rest.and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Arc<dyn DiskFile> {
    fn size_bytes(&self) -> io::Result<u64> {
        self.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        DiskFile::read_at(&**self, offset, buf)
    }
}

/// An open file.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    source: &'a dyn ReadAt,
    meta: Meta,
}

impl<'a> Reader<'a> {
    /// Opens a file by its newest valid meta page. What follows the last page, such as the hash of
    /// a snapshot, is not looked at.
    pub fn open(source: &'a dyn ReadAt) -> Result<Self, Error> {
        let io = |source| Error::Io { offset: 0, length: 0, source };
        let size_bytes = source.size_bytes().map_err(io)?;
        if size_bytes < 2 * PAGE_BYTES_MIN {
            return Err(Error::TooSmall { size_bytes });
        }
        let meta = newest_meta(source, size_bytes)?;
        let page_bytes = u64::from(meta.page_bytes);
        let needed_bytes = meta.high_water.saturating_mul(page_bytes);
        if needed_bytes > size_bytes {
            return Err(Error::Truncated { size_bytes, needed_bytes });
        }
        Ok(Self { source, meta })
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The size of the file up to its high water mark, in bytes; etcd's "total size".
    pub fn size_bytes(&self) -> u64 {
        self.meta.high_water * u64::from(self.meta.page_bytes)
    }

    /// Every bucket and every row, in order.
    pub fn walk(&self) -> Walk<'a> {
        Walk::new(*self)
    }

    /// Every row of etcd's tables, in order.
    pub fn table_rows(&self) -> TableRows<'a> {
        TableRows::new(self)
    }

    /// The rows of one bucket, in order; nothing if there is no such bucket.
    pub fn rows(&self, bucket: &[u8]) -> Result<Option<Rows<'a>>, Error> {
        Rows::find(*self, bucket)
    }

    pub(super) fn page_bytes(&self) -> u64 {
        u64::from(self.meta.page_bytes)
    }

    /// An error that says what is wrong with page `id`.
    pub(super) fn damaged(&self, page: u64, damage: Damage) -> Error {
        Error::Damaged { page, offset: page.saturating_mul(self.page_bytes()), damage }
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let length = buf.len();
        self.source.read_at(offset, buf).map_err(|source| Error::Io { offset, length, source })
    }

    /// Reads page `id` with its overflow, if none of the pages it occupies was `seen` before.
    pub(super) fn load(&self, id: u64, seen: &mut Seen) -> Result<(PageHeader, Bytes), Error> {
        let refuse = |damage| Err(self.damaged(id, damage));
        let high_water = self.meta.high_water;
        if !(PAGE_FIRST..high_water).contains(&id) {
            return refuse(Damage::OutOfRange { high_water });
        }
        let offset = id * self.page_bytes();
        let page_bytes = self.meta.page_bytes as usize;
        let mut bytes = BytesMut::zeroed(page_bytes);
        self.read(offset, &mut bytes)?;
        let header = PageHeader::decode(&bytes).expect("a page is longer than its header");
        if header.id != id {
            return refuse(Damage::WrongId { found: header.id });
        }
        let last = id + u64::from(header.overflow);
        if last >= high_water {
            return refuse(Damage::Overflow { overflow: header.overflow });
        }
        let size_bytes = (u64::from(header.overflow) + 1) * self.page_bytes();
        if size_bytes > EXTENT_BYTES_MAX {
            return refuse(Damage::TooLarge { size_bytes });
        }
        seen.claim(id..=last).map_err(|page| self.damaged(page, Damage::ReachedTwice))?;
        if header.overflow > 0 {
            bytes.resize(size_bytes as usize, 0);
            self.read(offset + self.page_bytes(), &mut bytes[page_bytes..])?;
        }
        Ok((header, bytes.freeze()))
    }

    /// Reads page `id` as a page of a tree.
    pub(super) fn page(&self, id: u64, seen: &mut Seen) -> Result<Page, Error> {
        let (header, bytes) = self.load(id, seen)?;
        Page::parse(id, header, bytes).map_err(|damage| self.damaged(id, damage))
    }
}

/// The pages a walk has been to, one bit each.
#[derive(Debug)]
pub(super) struct Seen {
    bits: Vec<u64>,
}

impl Seen {
    pub fn new(meta: &Meta) -> Self {
        Self { bits: vec![0; meta.high_water.div_ceil(64) as usize] }
    }

    pub fn contains(&self, page: u64) -> bool {
        self.bits[(page / 64) as usize] & (1 << (page % 64)) != 0
    }

    /// Takes pages, none of which may have been taken before; else says which one was.
    pub fn claim(&mut self, pages: RangeInclusive<u64>) -> Result<(), u64> {
        for page in pages {
            if self.contains(page) {
                return Err(page);
            }
            self.bits[(page / 64) as usize] |= 1 << (page % 64);
        }
        Ok(())
    }
}

/// The meta page to go by: of the valid ones, that of the later transaction.
fn newest_meta(source: &dyn ReadAt, size_bytes: u64) -> Result<Meta, Error> {
    let first = meta_at(source, 0)?;
    let second = match first {
        Ok(meta) => meta_at(source, checked_page_bytes(&meta, size_bytes)?)?,
        Err(_) => scan_second(source, size_bytes)?,
    };
    match (first, second) {
        (Ok(first), Ok(second)) if second.transaction > first.transaction => {
            let (first_bytes, second_bytes) = (first.page_bytes, second.page_bytes);
            if first_bytes != second_bytes {
                return Err(Error::PageSizes { first_bytes, second_bytes });
            }
            Ok(second)
        }
        (Ok(first), _) => Ok(first),
        (Err(_), Ok(second)) => Ok(second),
        (Err(MetaRefusal::Magic), Err(_)) if size_bytes < 2 * PAGE_BYTES as u64 => {
            Err(Error::TooSmall { size_bytes })
        }
        (Err(MetaRefusal::Magic), Err(_)) => Err(Error::NotBolt),
        (Err(MetaRefusal::Version), Err(_)) => Err(Error::Version),
        (Err(MetaRefusal::Checksum), Err(_)) => Err(Error::Checksum),
    }
}

/// Looks for the second meta page without knowing the page size, which the first would have told.
fn scan_second(source: &dyn ReadAt, size_bytes: u64) -> Result<Result<Meta, MetaRefusal>, Error> {
    let mut page_bytes = PAGE_BYTES_MIN;
    while page_bytes <= PAGE_BYTES_MAX && page_bytes + META_BYTES as u64 <= size_bytes {
        let found = meta_at(source, page_bytes)?;
        if found.is_ok_and(|meta| u64::from(meta.page_bytes) == page_bytes) {
            return Ok(found);
        }
        page_bytes *= 2;
    }
    Ok(Err(MetaRefusal::Magic))
}

/// The page size a valid meta page gives, if the file has room for two such pages.
fn checked_page_bytes(meta: &Meta, size_bytes: u64) -> Result<u64, Error> {
    let page_bytes = u64::from(meta.page_bytes);
    if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes) {
        return Err(Error::PageSize { page_bytes });
    }
    if size_bytes < 2 * page_bytes {
        return Err(Error::TooSmall { size_bytes });
    }
    Ok(page_bytes)
}

/// Reads the meta page at `offset`.
fn meta_at(source: &dyn ReadAt, offset: u64) -> Result<Result<Meta, MetaRefusal>, Error> {
    let mut bytes = [0; META_BYTES];
    let read = source.read_at(offset, &mut bytes);
    read.map_err(|source| Error::Io { offset, length: META_BYTES, source })?;
    Ok(Meta::decode(&bytes))
}
