//! Meta pages: which of the two counts, and what they may not say.

use super::files::*;
use crate::bolt::format::{FLAG_LEAF, META_BYTES, Meta, PAGE_BYTES};
use crate::bolt::{Error, Reader};

/// Where the magic, version and checksum of a meta page are, behind the page's own header.
const MAGIC: usize = 16;
const VERSION: usize = 20;
const CHECKSUM: usize = 72;

fn opened(bytes: &[u8]) -> Result<Meta, Error> {
    Reader::open(&bytes).map(|reader| *reader.meta())
}

fn flip(image: &mut Image, page: u64, skip: usize) {
    image.bytes[Image::at(page) + skip] ^= 1;
}

/// In etcdutl's words; which of two different reasons is given is bbolt's choice: the first's.
#[test]
fn two_metas_that_are_none_are_refused_by_the_first() {
    let cases = [
        (MAGIC, MAGIC, "invalid database"),
        (VERSION, VERSION, "version mismatch"),
        (CHECKSUM, CHECKSUM, "checksum error"),
        (VERSION, MAGIC, "version mismatch"),
        (CHECKSUM, VERSION, "checksum error"),
        (MAGIC, CHECKSUM, "invalid database"),
    ];
    for (first, second, expected) in cases {
        let mut image = sample();
        flip(&mut image, 0, first);
        flip(&mut image, 1, second);
        assert_eq!(image.refusal(), expected);
    }
    // Each bit of what the checksum covers, and of the checksum.
    for bit in 16 * 8..META_BYTES * 8 {
        let mut image = sample();
        for page in 0..2 {
            image.bytes[Image::at(page) + bit / 8] ^= 1 << (bit % 8);
        }
        let expected = match bit / 8 {
            16..20 => "invalid database",
            20..24 => "version mismatch",
            _ => "checksum error",
        };
        assert_eq!(image.refusal(), expected, "bit {bit}");
    }
}

#[test]
fn one_good_meta_is_enough() {
    let good = sample();
    let (expected, report) = read(&good.bytes).expect("it is sound");
    for (page, skip) in [0, 1]
        .into_iter()
        .flat_map(|page| [MAGIC, VERSION, CHECKSUM, 24, 40].map(|skip| (page, skip)))
    {
        let mut image = good.clone();
        flip(&mut image, page, skip);
        assert_eq!(opened(&image.bytes).expect("the other is good").transaction, 1 - page);
        assert_eq!(read(&image.bytes).expect("the other is good"), (expected.clone(), report));
    }
}

/// The two metas of a file to which a transaction was added: another bucket of buckets.
fn two_states() -> (Image, u64, u64) {
    let mut image = sample();
    let old = image.meta().root;
    let leaf = image.append(FLAG_LEAF, &[(0, b"k", b"v")]);
    image.append_buckets(&[("key", leaf)]);
    let new = image.meta().root;
    image.change_meta(|meta| meta.freelist = None);
    (image, old, new)
}

#[test]
fn the_later_transaction_counts_whichever_page_it_is_on() {
    let (image, old, new) = two_states();
    let rows_under_new = tables([("key", Rows::from([(b"k".to_vec(), b"v".to_vec())]))]);
    for (later, earlier) in [(0, 1), (1, 0)] {
        let mut image = image.clone();
        image.change_one_meta(later, |meta| (meta.root, meta.transaction) = (new, 8));
        image.change_one_meta(earlier, |meta| (meta.root, meta.transaction) = (old, 7));
        assert_eq!(read(&image.bytes).expect("sound").0, rows_under_new);
        flip(&mut image, later, CHECKSUM);
        let (before, _) = read(&image.bytes).expect("the transaction before it is whole");
        assert_eq!(before, read(&sample().bytes).expect("sound").0);
    }
    // Of two alike the first counts, as in bbolt.
    let mut image = image;
    image.change_one_meta(0, |meta| (meta.root, meta.transaction) = (new, 7));
    image.change_one_meta(1, |meta| (meta.root, meta.transaction) = (old, 7));
    assert_eq!(opened(&image.bytes).expect("sound").root, new);
    // A sound later meta is not given up for the earlier one because its tree is broken.
    image.change_one_meta(0, |meta| (meta.root, meta.transaction) = (0, 8));
    assert!(image.refusal().starts_with("page 0: is outside the file"));
}

#[test]
fn page_sizes_that_nobody_uses() {
    for page_bytes in [0, 1, 16, 512, 1023, 4095, 4097, 12288, 1 << 25, 1 << 31, u32::MAX] {
        let mut image = sample();
        image.change_meta(|meta| meta.page_bytes = page_bytes);
        let said = format!("page size {page_bytes} is not a power of two between 1 KiB and 16 MiB");
        assert_eq!(image.refusal(), said);
    }
    // Two pages of a size that is allowed must fit.
    let mut image = sample();
    let size_bytes = image.bytes.len();
    image.change_meta(|meta| meta.page_bytes = 1 << 24);
    assert_eq!(image.refusal(), format!("file size too small {size_bytes}"));
    // A size that is not the file's own: what it says of the end is then wrong, or the pages are.
    let mut image = sample();
    image.change_meta(|meta| meta.page_bytes = 8192);
    let needed = image.bytes.len() * 2;
    let said = format!("file is truncated: {size_bytes} bytes, {needed} needed");
    assert_eq!(image.refusal(), said);
    image.bytes.resize(needed, 0);
    assert!(image.refusal().contains("calls itself page "));
    // The later meta may not change the size, for it was found by it.
    let mut image = sample();
    image.change_one_meta(1, |meta| meta.page_bytes = 8192);
    assert_eq!(image.refusal(), "the meta pages give different page sizes, 4096 and 8192");
}

#[test]
fn a_file_must_reach_to_its_high_water_mark() {
    let good = sample();
    let high_water = good.meta().high_water;
    let size_bytes = good.bytes.len();
    for more in [1, 1000, u64::MAX / PAGE_BYTES as u64, u64::MAX - high_water] {
        let mut image = good.clone();
        image.change_meta(|meta| meta.high_water += more);
        let needed = (high_water + more).saturating_mul(PAGE_BYTES as u64);
        let said = format!("file is truncated: {size_bytes} bytes, {needed} needed");
        assert_eq!(image.refusal(), said);
    }
    for high_water in 0..3 {
        let mut image = good.clone();
        let root = image.meta().root;
        image.change_meta(|meta| meta.high_water = high_water);
        let said = format!("is outside the file, which ends before page {high_water}");
        assert_eq!(image.refusal(), format!("page {root}: {said}"));
    }
    // What lies behind the mark is nobody's: a file grows in large steps.
    let mut image = good.clone();
    image.bytes.resize(size_bytes + (1 << 20), 0xff);
    let reader = Reader::open(&&image.bytes[..]).map(|reader| reader.size_bytes());
    assert_eq!(reader.expect("it is sound"), size_bytes as u64);
    assert_eq!(read(&image.bytes).expect("it is sound"), read(&good.bytes).expect("it is sound"));
}

#[test]
fn what_is_no_bbolt_file() {
    let text = "not a database\n".repeat(1000);
    let cases: [(&[u8], &str); 8] = [
        (b"", "file size too small 0"),
        (b"x", "file size too small 1"),
        (&[0; 2047], "file size too small 2047"),
        (&[0; 5000], "file size too small 5000"),
        (&[0; 8192], "invalid database"),
        (&[0xff; 1 << 16], "invalid database"),
        (text.as_bytes(), "invalid database"),
        // A snapshot that is still compressed.
        (&[&[0x1f, 0x8b, 8, 0][..], &[7; 20_000]].concat(), "invalid database"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(refusal(bytes), expected);
    }
}

#[test]
fn each_refusal_has_a_place_and_an_advice() {
    let path = std::path::Path::new("snapshot.db");
    let mut damaged = sample();
    let leaf = damaged.root("lease");
    damaged.ruin(leaf);
    let error = read(&damaged.bytes).expect_err("it is damaged");
    assert_eq!(error.offset(), Image::at(leaf) as u64);
    let fault = error.into_fault(path).to_string();
    let expected = format!(
        "snapshot.db is damaged at offset {}: page {leaf}: has unexpected flags 0x0. Use another \
         snapshot, or another member's copy",
        Image::at(leaf)
    );
    assert_eq!(fault, expected);
    let cut = read(&sample().bytes[..10_000]).expect_err("it is cut off");
    assert_eq!(cut.offset(), 10_000);
    assert!(cut.advice().contains("cut off"), "{}", cut.advice());
    let text = read(&[b'x'; 10_000]).expect_err("it is text");
    assert!(text.advice().contains("compressed or encrypted"), "{}", text.advice());
    let io = Error::Io { offset: 5, length: 3, source: std::io::Error::other("gone") };
    assert_eq!(io.into_fault(path).to_string(), "cannot read snapshot.db: gone");
}
