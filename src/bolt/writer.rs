//! A bbolt file made from sorted tables, as a stream of known length.
//!
//! ```text
//!   page 0, 1   meta, both with the same root
//!   page 2      an empty freelist, so that etcd need not scan the file when it opens it
//!   then        the pages of each table (see `layout`), and last the bucket of buckets
//! ```
//!
//! The caller pulls: [`Writer::next_chunk`] reads as many rows as it takes to fill its buffer and
//! leaves the rest of the table for later. Nothing happens between calls, so back-pressure is not
//! calling, and no thread is needed.
//!
//! Invariants:
//! - The rows are read twice, and must be all there are, and the same both times; if the second
//!   reading would put a page elsewhere than the first, the stream ends in a [`Fault`], never in a
//!   wrong file.
//! - Memory is a buffer of [`BUFFER_BYTES`], the largest row a few times over, and two pages per
//!   level of a tree, however large the file.
//! - Every table becomes a bucket, empty or not.
//!
//! Deliberately absent: inline buckets (an empty table costs a page), page sizes other than 4 KiB,
//! the hash at the end of a saved snapshot (see `trailer`: not every receiver wants it).

use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};

use super::format::{BUCKET_HEADER_BYTES, FLAG_FREELIST, Meta, PAGE_BYTES, PAGE_FIRST, PageHeader};
use super::layout::{Output, Tree};
use crate::error::Fault;
use crate::storage::engine::{Table, View, Visit};

/// The largest chunk, which is what etcd sends in one message of the Snapshot stream.
pub const CHUNK_BYTES: usize = 32 * 1024;
/// How much is made before reading pauses. Resuming costs a search in the source's tree.
const BUFFER_BYTES: usize = 8 * CHUNK_BYTES;
/// The first page after the metas and the freelist.
const TABLES_PAGE: u64 = PAGE_FIRST + 1;

/// Sorted tables that hold still while they are read, twice.
pub trait Source {
    /// The names of the tables, ascending.
    fn tables(&self) -> Vec<&str>;
    /// Visits the rows of the `table`th table with `from` ≤ key, in key order.
    fn scan(&self, table: usize, from: &[u8], visit: &mut Visit<'_>) -> Result<(), Fault>;
    /// Refuses tables of which not all was found, if they can tell.
    fn check_found(&self, _bytes: u64) -> Result<(), Fault> {
        Ok(())
    }
}

impl Source for Box<dyn View> {
    fn tables(&self) -> Vec<&str> {
        Table::ALL.map(Table::name).to_vec()
    }

    fn scan(&self, table: usize, from: &[u8], visit: &mut Visit<'_>) -> Result<(), Fault> {
        View::scan(&**self, Table::ALL[table], from, None, visit)
    }

    fn check_found(&self, bytes: u64) -> Result<(), Fault> {
        View::check_found(&**self, bytes)
    }
}

/// A file being written.
pub struct Writer<S> {
    source: S,
    plan: Plan,
    out: Output,
    taken_bytes: u64,
    phase: Phase,
    /// The root pages of the tables written so far.
    roots: Vec<u64>,
}

/// What the first reading of the rows found out.
#[derive(Debug)]
struct Plan {
    roots: Vec<u64>,
    /// The root page of the bucket of buckets.
    root: u64,
    /// One past the last page.
    high_water: u64,
}

/// What is written next.
enum Phase {
    Head,
    /// A table, from this key on.
    Table {
        index: usize,
        from: Vec<u8>,
        tree: Tree,
    },
    Buckets,
    Done,
}

impl<S: Source> Writer<S> {
    /// Reads all rows once to know where each will be.
    pub fn plan(source: S) -> Result<Self, Fault> {
        let mut out = Output { next_page: TABLES_PAGE, bytes: None };
        let (mut roots, mut found) = (Vec::new(), 0);
        for table in 0..source.tables().len() {
            let mut tree = Tree::default();
            source.scan(table, &[], &mut |key, value| {
                found += (key.len() + value.len()) as u64;
                tree.add_row(key, value, &mut out)?;
                Ok(ControlFlow::Continue(()))
            })?;
            roots.push(tree.finish(&mut out));
        }
        source.check_found(found)?;
        let root = buckets(&source.tables(), &roots, &mut out)?;
        let plan = Plan { roots, root, high_water: out.next_page };
        let out = Output { next_page: 0, bytes: Some(BytesMut::new()) };
        let roots = Vec::new();
        Ok(Self { source, plan, out, taken_bytes: 0, phase: Phase::Head, roots })
    }

    /// The size of the whole file.
    pub fn size_bytes(&self) -> u64 {
        self.plan.high_water * PAGE_BYTES as u64
    }

    /// How much of it is still to come.
    pub fn remaining_bytes(&self) -> u64 {
        self.size_bytes() - self.taken_bytes
    }

    /// The next piece of the file, at most [`CHUNK_BYTES`] and only the last one shorter; nothing
    /// when the file is complete.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.buffered_bytes() < CHUNK_BYTES {
            while self.buffered_bytes() < BUFFER_BYTES && !matches!(self.phase, Phase::Done) {
                self.advance()?;
            }
        }
        let Some(bytes) = &mut self.out.bytes else { return Ok(None) };
        if bytes.is_empty() {
            assert_eq!(self.remaining_bytes(), 0, "a file is as long as it was planned");
            return Ok(None);
        }
        let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES)).freeze();
        self.taken_bytes += chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// What has been made and not yet taken.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.out.bytes.as_ref().map_or(0, BytesMut::len)
    }

    /// Writes the next stretch of the file.
    fn advance(&mut self) -> Result<(), Fault> {
        let phase = std::mem::replace(&mut self.phase, Phase::Done);
        self.phase = match phase {
            Phase::Head => {
                self.write_head();
                self.begin_table(0)
            }
            Phase::Table { index, from, tree } => self.write_rows(index, from, tree)?,
            Phase::Buckets => {
                let root = buckets(&self.source.tables(), &self.roots, &mut self.out)?;
                let is_as_planned =
                    root == self.plan.root && self.out.next_page == self.plan.high_water;
                expect_planned(is_as_planned)?;
                Phase::Done
            }
            Phase::Done => Phase::Done,
        };
        Ok(())
    }

    fn begin_table(&self, index: usize) -> Phase {
        if index == self.source.tables().len() {
            return Phase::Buckets;
        }
        Phase::Table { index, from: Vec::new(), tree: Tree::default() }
    }

    /// Writes rows until the table ends or the buffer is full.
    fn write_rows(&mut self, index: usize, from: Vec<u8>, mut tree: Tree) -> Result<Phase, Fault> {
        let mut resume = None;
        let Self { source, out, .. } = self;
        source.scan(index, &from, &mut |key, value| {
            tree.add_row(key, value, out)?;
            if out.bytes.as_ref().is_some_and(|bytes| bytes.len() >= BUFFER_BYTES) {
                resume = Some([key, &[0]].concat());
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(from) = resume {
            return Ok(Phase::Table { index, from, tree });
        }
        let root = tree.finish(&mut self.out);
        expect_planned(root == self.plan.roots[index])?;
        self.roots.push(root);
        Ok(self.begin_table(index + 1))
    }

    /// Writes the meta pages and the freelist.
    fn write_head(&mut self) {
        let bytes = self.out.bytes.get_or_insert_default();
        for id in 0..PAGE_FIRST {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: self.plan.root,
                freelist: Some(PAGE_FIRST),
                high_water: self.plan.high_water,
                transaction: id,
            };
            bytes.extend_from_slice(&meta.encode(id));
            bytes.resize((id as usize + 1) * PAGE_BYTES, 0);
        }
        let freelist = PageHeader { id: PAGE_FIRST, flags: FLAG_FREELIST, count: 0, overflow: 0 };
        bytes.extend_from_slice(&freelist.encode());
        bytes.resize(TABLES_PAGE as usize * PAGE_BYTES, 0);
        self.out.next_page = TABLES_PAGE;
    }
}

/// Writes the bucket of buckets and returns its root page.
fn buckets(names: &[&str], roots: &[u64], out: &mut Output) -> Result<u64, Fault> {
    let mut tree = Tree::default();
    for (name, root) in names.iter().zip(roots) {
        let mut header = [0; BUCKET_HEADER_BYTES];
        header[..8].copy_from_slice(&root.to_le_bytes());
        tree.add_bucket(name.as_bytes(), &header, out)?;
    }
    Ok(tree.finish(out))
}

fn expect_planned(is_as_planned: bool) -> Result<(), Fault> {
    match is_as_planned {
        true => Ok(()),
        false => Err(Fault::Broken("the tables changed while a snapshot was written".into())),
    }
}
