//! Files that are large, that cannot be read, and what is read after an error: nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;

use super::files::*;
use super::trees::places;
use crate::bolt::format::{FLAG_LEAF, Meta, PAGE_BYTES, PageHeader};
use crate::bolt::{Error, ReadAt, Reader};

/// A file with nothing in it but what is said, as large as it likes to be.
struct Sparse {
    size_bytes: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
    largest_read: Cell<usize>,
    fails_at: Option<u64>,
}

impl ReadAt for Sparse {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.size_bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.fails_at == Some(offset) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.largest_read.set(self.largest_read.get().max(buf.len()));
        buf.fill(0);
        let piece = self.pieces.get(&offset).map_or(&[][..], Vec::as_slice);
        let length = piece.len().min(buf.len());
        buf[..length].copy_from_slice(&piece[..length]);
        Ok(())
    }
}

/// A file of a million pages, whose root is page 2 with this header.
fn sparse(header: PageHeader) -> Sparse {
    let meta = |id| Meta {
        page_bytes: PAGE_BYTES as u32,
        root: 2,
        freelist: None,
        high_water: 1 << 20,
        transaction: id,
    };
    let metas = (0..2).map(|id| (id * PAGE_BYTES as u64, meta(id).encode(id).to_vec()));
    let root = (2 * PAGE_BYTES as u64, header.encode().to_vec());
    let pieces = metas.chain([root]).collect();
    let largest_read = Cell::new(0);
    Sparse { size_bytes: PAGE_BYTES as u64 * (1 << 20), pieces, largest_read, fails_at: None }
}

#[test]
fn a_page_of_gigabytes_is_refused_before_it_is_read() {
    let header = PageHeader { id: 2, flags: FLAG_LEAF, count: 0, overflow: (1 << 20) - 3 };
    let file = sparse(header);
    let reader = Reader::open(&file).expect("its metas are sound");
    let refused = reader.walk().next().expect("it does not end well").expect_err("too large");
    let said = "page 2: is 4294959104 bytes large, more than any etcd writes";
    assert_eq!(refused.to_string(), said);
    assert_eq!(file.largest_read.get(), PAGE_BYTES);
}

#[test]
fn what_the_disk_refuses_is_said_with_its_place() {
    let header = PageHeader { id: 2, flags: FLAG_LEAF, count: 0, overflow: 1 };
    let offsets = [0, 4096, 8192, 12288];
    for offset in offsets {
        let file = Sparse { fails_at: Some(offset), ..sparse(header) };
        let read = Reader::open(&file).and_then(|reader| reader.walk().finish());
        let error = read.expect_err("the disk is gone");
        assert!(matches!(error, Error::Io { .. }) && error.offset() == offset, "{error}");
        let length = if offset < 8192 { 80 } else { 4096 };
        let said = format!("cannot read {length} bytes at offset {offset}: the disk is gone");
        assert_eq!(error.to_string(), said);
    }
    let whole = sparse(header);
    let walked = Reader::open(&whole).and_then(|reader| reader.walk().finish());
    assert_eq!(walked.expect("an empty root is sound").free_pages, (1 << 20) - 4);
}

#[test]
fn nothing_comes_after_an_error() {
    let mut image = sample();
    let (_, leaf, _) = places(&image);
    image.ruin(leaf);
    let source = &image.bytes[..];
    let reader = Reader::open(&source).expect("its metas are sound");
    let ends = |errors: Vec<bool>| {
        assert_eq!(errors.iter().filter(|is_error| **is_error).count(), 1);
        assert_eq!(errors.last(), Some(&true));
    };
    ends(reader.walk().map(|item| item.is_err()).collect());
    ends(reader.table_rows().map(|row| row.is_err()).collect());
    let rows = reader.rows(b"key").expect("the table is found").expect("it is there");
    ends(rows.map(|row| row.is_err()).collect());
    // A table beside it can be read, but for a whole walk the file is lost.
    let rows = reader.rows(b"lease").expect("the table is found").expect("it is there");
    assert_eq!(rows.filter(|row| row.is_ok()).count(), 3);
    assert!(reader.rows(b"nothing").expect("all names are read").is_none());
    assert!(matches!(reader.walk().finish(), Err(Error::Damaged { .. })));
}

#[test]
fn a_table_that_etcd_does_not_have_may_only_be_empty() {
    let rows = |rows| tables([("key", rows_of([1, 2])), ("test", rows)]);
    let found = |tables: &Tables| {
        let file = write(tables);
        let reader = Reader::open(&&file[..]).map(|reader| reader.table_rows().collect::<Vec<_>>());
        reader.expect("its metas are sound").into_iter().collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(found(&rows(Rows::new())).expect("nothing would be lost").len(), 2);
    let refused = found(&rows(rows_of([1]))).expect_err("a row would be lost");
    assert_eq!(refused.to_string(), "bucket \"test\" is not one of etcd's and has rows");
}
