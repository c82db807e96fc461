//! Files that etcd and bbolt made, against what bbolt reads in them.
//!
//! `tests/fixtures/bolt/README.md` says what they are and how they were made.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::files::*;
use crate::bolt::format::{FLAG_BRANCH, META_BYTES, Meta};
use crate::bolt::{Reader, trailer};
use crate::storage::engine::Table;

/// Every file there is.
pub const NAMES: [&str; 3] = ["tables", "tree", "small"];

/// The path of a fixture.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bolt").join(name)
}

/// What was recorded of a file.
pub fn recorded(name: &str) -> String {
    std::fs::read_to_string(path(name)).expect("the fixtures are part of the project")
}

pub fn file(name: &str) -> Vec<u8> {
    std::fs::read(path(&format!("{name}.db"))).expect("the fixtures are part of the project")
}

/// Of a longer value the listing has the hash.
const VALUE_BYTES_MAX: usize = 256;

/// Tables and rows in the form of the recorded listings.
pub fn listing(tables: &Tables) -> String {
    let mut out = String::new();
    for (name, rows) in tables {
        out += &format!("{}\n", name.escape_ascii());
        for (key, value) in rows {
            let text = match value.len() {
                0..=VALUE_BYTES_MAX => value.escape_ascii().to_string(),
                size => format!("{size} bytes, {:x}", Sha256::digest(value)),
            };
            writeln!(out, "\t{}\t{text}", key.escape_ascii()).expect("a string takes it");
        }
    }
    out
}

/// What is in a file, in the form of the recorded listings.
fn contents(file: &[u8]) -> String {
    let (tables, report) = read(file).expect("it is sound");
    let pages = Reader::open(&file).expect("it was read").meta().high_water;
    format!("pages {pages}, free {}\n{}", report.free_pages, listing(&tables))
}

#[test]
fn files_hold_what_bbolt_reads_in_them() {
    for name in NAMES {
        assert_eq!(contents(&file(name)), recorded(&format!("{name}.rows")), "{name}");
    }
}

/// So that no regeneration takes away what the files are there for.
#[test]
fn files_are_of_different_kinds() {
    let meta = |name| *Reader::open(&&file(name)[..]).expect("it is sound").meta();
    let (inline, _) = read(&file("tables")).expect("it is sound");
    assert!(Table::ALL.iter().all(|table| !inline[table.name().as_bytes()].is_empty()));
    let tree = Image { bytes: file("tree") };
    let branch = tree.root("key");
    assert_eq!(tree.header(branch).flags, FLAG_BRANCH);
    assert!(tree.leaves(branch).iter().any(|leaf| tree.header(*leaf).overflow > 0));
    assert_eq!((meta("tables").freelist, meta("tree").freelist), (None, None));
    assert_eq!(meta("small").page_bytes, 1024);
    assert!(meta("small").freelist.is_some());
    let names = ["alarm", "key"].map(|name| tree.root(name) == 0);
    assert_eq!(names, [true, false], "an empty table is inline, a large one is not");
}

#[test]
fn files_that_etcd_saved_have_its_hash() {
    for name in NAMES {
        let file = file(name);
        let verified = trailer::verify(&&file[..]);
        match name {
            "small" => drop(verified.expect_err("bbolt does not write it")),
            _ => assert_eq!(verified.expect("etcd did"), file.len() as u64 - 32),
        }
    }
}

/// A meta page that is read and written again is the same bytes, checksum and all.
#[test]
fn metas_are_written_as_bbolt_writes_them() {
    for name in NAMES {
        let file = file(name);
        let page_bytes = Reader::open(&&file[..]).expect("it is sound").meta().page_bytes as usize;
        for page in 0..2 {
            let bytes = &file[page * page_bytes..][..META_BYTES];
            let meta = Meta::decode(bytes).expect("both are valid");
            assert_eq!(meta.encode(page as u64), bytes, "{name}, page {page}");
        }
    }
}

#[test]
fn rows_of_etcd_go_through_our_own_file() {
    for name in NAMES {
        let (rows, report) = read(&file(name)).expect("it is sound");
        let (again, own) = read(&write(&rows)).expect("it is sound");
        assert!(again == rows, "{name}");
        assert_eq!((own.buckets, own.rows), (report.buckets, report.rows));
    }
}

/// Without its first meta a file does not say how large its pages are; the second is searched for.
#[test]
fn one_meta_is_enough_for_pages_of_any_size() {
    for name in NAMES {
        let good = file(name);
        let page_bytes = Reader::open(&&good[..]).expect("it is sound").meta().page_bytes as usize;
        let expected = contents(&good);
        for page in 0..2 {
            let mut file = good.clone();
            file[page * page_bytes..][..META_BYTES].fill(0xff);
            assert_eq!(contents(&file), expected, "{name} without meta {page}");
        }
    }
}
