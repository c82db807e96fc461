//! Files under test: made by the writer from tables in memory, and changed at computed places.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use crate::bolt::format::{
    BUCKET_HEADER_BYTES, ELEMENT_BYTES, FLAG_BRANCH, FLAG_BUCKET, FLAG_LEAF, Meta, PAGE_BYTES,
    PAGE_HEADER_BYTES, PageHeader, u32_at, u64_at,
};
use crate::bolt::{Error, Item, ReadAt, Reader, Report, Source, Writer};
use crate::error::Fault;
use crate::storage::engine::Visit;

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
pub type Tables = BTreeMap<Vec<u8>, Rows>;

impl Source for &Tables {
    fn tables(&self) -> Vec<&str> {
        self.keys().map(|name| std::str::from_utf8(name).expect("names are text")).collect()
    }

    fn scan(&self, table: usize, from: &[u8], visit: &mut Visit<'_>) -> Result<(), Fault> {
        let rows = self.values().nth(table).expect("it is one of the tables");
        for (key, value) in rows.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)) {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Tables of these names and rows.
pub fn tables<const N: usize>(tables: [(&str, Rows); N]) -> Tables {
    tables.into_iter().map(|(name, rows)| (name.as_bytes().to_vec(), rows)).collect()
}

/// Rows whose keys are revisions from 1 on, as etcd's are, with values of these sizes.
pub fn rows_of(value_bytes: impl IntoIterator<Item = usize>) -> Rows {
    let row = |(index, bytes): (usize, usize)| (revision(index as u64 + 1), vec![b'v'; bytes]);
    value_bytes.into_iter().enumerate().map(row).collect()
}

/// The key of a row of etcd's table `key`: 17 bytes.
pub fn revision(main: u64) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &[0; 8]].concat()
}

/// The file the writer makes of tables.
pub fn write(tables: &Tables) -> Vec<u8> {
    let mut writer = Writer::plan(tables).expect("rows that fit are planned");
    let mut file = Vec::new();
    while let Some(chunk) = writer.next_chunk().expect("rows that were planned are written") {
        file.extend_from_slice(&chunk);
    }
    file
}

/// Everything in a file, if all of it is sound.
pub fn read(file: &[u8]) -> Result<(Tables, Report), Error> {
    let reader = Reader::open(&file)?;
    let mut walk = reader.walk();
    let mut found = Tables::new();
    for item in &mut walk {
        match item? {
            Item::Bucket(name) => {
                assert!(found.keys().all(|before| *before < name), "buckets are in order");
                found.insert(name.to_vec(), Rows::new());
            }
            Item::Row { key, value } => {
                let mut bucket = found.last_entry().expect("a row is in a bucket");
                assert!(bucket.get().keys().next_back() < Some(&key.to_vec()), "rows are in order");
                bucket.get_mut().insert(key.to_vec(), value.to_vec());
            }
        }
    }
    Ok((found, walk.finish()?))
}

/// Why a file is refused.
pub fn refusal(file: &[u8]) -> String {
    match read(file) {
        Ok((tables, report)) => panic!("it was read: {report:?}, {} tables", tables.len()),
        Err(error) => error.to_string(),
    }
}

/// A file that says how much is read of it.
pub struct Metered<'a> {
    pub bytes: &'a [u8],
    pub read_bytes: Cell<u64>,
}

impl ReadAt for Metered<'_> {
    fn size_bytes(&self) -> io::Result<u64> {
        self.bytes.size_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_bytes.set(self.read_bytes.get() + buf.len() as u64);
        self.bytes.read_at(offset, buf)
    }
}

/// A file with pages of 4 KiB, to be changed.
#[derive(Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
}

/// Where the fields of a leaf element are, from its start.
pub const LEAF_FLAGS: usize = 0;
pub const LEAF_POS: usize = 4;
pub const LEAF_KEY_BYTES: usize = 8;
pub const LEAF_VALUE_BYTES: usize = 12;
/// Where the fields of a branch element are.
pub const BRANCH_POS: usize = 0;
pub const BRANCH_KEY_BYTES: usize = 4;
pub const BRANCH_CHILD: usize = 8;

/// An element of a page to be made: flags or child, key, value.
pub type Made<'a> = (u64, &'a [u8], &'a [u8]);

impl Image {
    pub fn of(tables: &Tables) -> Self {
        Self { bytes: write(tables) }
    }

    /// Where a page starts.
    pub fn at(page: u64) -> usize {
        page as usize * PAGE_BYTES
    }

    /// Where an element of a page starts.
    pub fn element(page: u64, index: usize) -> usize {
        Self::at(page) + PAGE_HEADER_BYTES + index * ELEMENT_BYTES
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn put_u32(&mut self, at: usize, number: u32) {
        self.put(at, &number.to_le_bytes());
    }

    pub fn put_u64(&mut self, at: usize, number: u64) {
        self.put(at, &number.to_le_bytes());
    }

    pub fn u64_at(&self, at: usize) -> u64 {
        u64_at(&self.bytes, at).expect("it is in the file")
    }

    pub(in crate::bolt) fn header(&self, page: u64) -> PageHeader {
        PageHeader::decode(&self.bytes[Self::at(page)..]).expect("a page has a header")
    }

    pub(in crate::bolt) fn change_header(
        &mut self,
        page: u64,
        change: impl FnOnce(&mut PageHeader),
    ) {
        let mut header = self.header(page);
        change(&mut header);
        self.put(Self::at(page), &header.encode());
    }

    /// Makes a page one of no kind.
    pub fn ruin(&mut self, page: u64) {
        self.change_header(page, |header| header.flags = 0);
    }

    pub fn meta(&self) -> Meta {
        *Reader::open(&&self.bytes[..]).expect("it can be opened").meta()
    }

    /// Changes what both meta pages say, with good checksums.
    pub fn change_meta(&mut self, change: impl Fn(&mut Meta)) {
        for page in 0..2 {
            self.change_one_meta(page, &change);
        }
    }

    pub fn change_one_meta(&mut self, page: u64, change: impl Fn(&mut Meta)) {
        let mut meta = Meta::decode(&self.bytes[Self::at(page)..]).expect("it was valid");
        change(&mut meta);
        self.put(Self::at(page), &meta.encode(page));
    }

    /// How many elements a page has, and the key and value of one of them.
    pub fn count(&self, page: u64) -> usize {
        usize::from(self.header(page).count)
    }

    pub fn key_at(&self, page: u64, index: usize) -> usize {
        let at = Self::element(page, index);
        let is_branch = self.header(page).flags == FLAG_BRANCH;
        let pos = u32_at(&self.bytes, at + if is_branch { BRANCH_POS } else { LEAF_POS });
        at + pos.expect("it is in the file") as usize
    }

    /// Where the key of an element ends, and its value, if it has one.
    pub fn ends_at(&self, page: u64, index: usize) -> (usize, usize) {
        let at = Self::element(page, index);
        let size = |skip| u32_at(&self.bytes, at + skip).expect("it is in the file") as usize;
        let (key, value) = match self.header(page).flags {
            FLAG_BRANCH => (size(BRANCH_KEY_BYTES), 0),
            _ => (size(LEAF_KEY_BYTES), size(LEAF_VALUE_BYTES)),
        };
        let key_end = self.key_at(page, index) + key;
        (key_end, key_end + value)
    }

    /// Bytes of a page in use.
    pub fn used_bytes(&self, page: u64) -> usize {
        let last = self.count(page).checked_sub(1);
        last.map_or(PAGE_HEADER_BYTES, |last| self.ends_at(page, last).1 - Self::at(page))
    }

    pub fn children(&self, page: u64) -> Vec<u64> {
        let child = |index| self.u64_at(Self::element(page, index) + BRANCH_CHILD);
        (0..self.count(page)).map(child).collect()
    }

    /// Where the number of the root page of a bucket stands.
    pub fn bucket_at(&self, name: &str) -> usize {
        let root = self.meta().root;
        let is_it = |index: &usize| {
            let (key, (end, _)) = (self.key_at(root, *index), self.ends_at(root, *index));
            &self.bytes[key..end] == name.as_bytes()
        };
        let index = (0..self.count(root)).find(is_it).expect("the bucket is there");
        self.ends_at(root, index).0
    }

    pub fn root(&self, name: &str) -> u64 {
        self.u64_at(self.bucket_at(name))
    }

    /// The leaves under a page, in order.
    pub fn leaves(&self, page: u64) -> Vec<u64> {
        match self.header(page).flags {
            FLAG_BRANCH => {
                self.children(page).into_iter().flat_map(|child| self.leaves(child)).collect()
            }
            _ => vec![page],
        }
    }

    /// Appends a page of whatever content and counts it in, and returns its id.
    pub fn append(&mut self, flags: u16, elements: &[Made<'_>]) -> u64 {
        let id = self.meta().high_water;
        self.bytes.truncate(Self::at(id));
        let mut data_at = PAGE_HEADER_BYTES + elements.len() * ELEMENT_BYTES;
        let (mut table, mut data) = (Vec::new(), Vec::new());
        for (index, (number, key, value)) in elements.iter().enumerate() {
            let pos = (data_at - PAGE_HEADER_BYTES - index * ELEMENT_BYTES) as u32;
            let (key_bytes, value_bytes) = (key.len() as u32, value.len() as u32);
            let words = match flags {
                FLAG_BRANCH => [pos, key_bytes, *number as u32, (*number >> 32) as u32],
                _ => [*number as u32, pos, key_bytes, value_bytes],
            };
            table.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            data.extend([*key, *value].concat());
            data_at += key.len() + value.len();
        }
        let pages = data_at.div_ceil(PAGE_BYTES);
        let (count, overflow) = (elements.len() as u16, pages as u32 - 1);
        let header = PageHeader { id, flags, count, overflow }.encode();
        self.bytes.extend([&header[..], &table, &data].concat());
        self.bytes.resize(Self::at(id) + pages * PAGE_BYTES, 0);
        self.change_meta(|meta| meta.high_water = id + pages as u64);
        id
    }

    /// Appends an empty leaf that nothing points to.
    pub fn append_leaf(&mut self) -> u64 {
        self.append(FLAG_LEAF, &[])
    }

    /// Appends a leaf that is the bucket of buckets, and makes it that.
    pub fn append_buckets(&mut self, buckets: &[(&str, u64)]) {
        let header = |root: u64| [root.to_le_bytes(), [0; 8]].concat();
        let values: Vec<Vec<u8>> = buckets.iter().map(|(_, root)| header(*root)).collect();
        assert!(values.iter().all(|value| value.len() == BUCKET_HEADER_BYTES));
        let rows = buckets.iter().zip(&values);
        let elements: Vec<Made<'_>> = rows
            .map(|((name, _), value)| (u64::from(FLAG_BUCKET), name.as_bytes(), &value[..]))
            .collect();
        let root = self.append(FLAG_LEAF, &elements);
        self.change_meta(|meta| meta.root = root);
    }

    /// Says that free pages are known only by elimination, as etcd's files do.
    pub fn without_freelist(mut self) -> Self {
        self.change_meta(|meta| meta.freelist = None);
        self
    }

    pub fn refusal(&self) -> String {
        refusal(&self.bytes)
    }
}

/// A file with a table of several leaves under a branch, one of them longer than a page, a table of
/// one leaf, and an empty one.
pub fn sample() -> Image {
    let mut sizes = [250; 60];
    sizes[40] = 9000;
    let rows =
        tables([("key", rows_of(sizes)), ("lease", rows_of([1, 0, 100])), ("meta", Rows::new())]);
    let image = Image::of(&rows);
    assert_eq!(read(&image.bytes).expect("it is sound").0, rows);
    image
}
