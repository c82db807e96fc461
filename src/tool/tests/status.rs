//! `snapshot status`, against what etcdutl prints of the same files.

use std::path::Path;

use super::{Scratch, snapshot, with_row};
use crate::bolt::tests::files::{Image, Tables, read, revision, write};
use crate::bolt::tests::golden::{file, path, recorded};
use crate::storage::engine::Table;
use crate::tool::advice;
use crate::tool::snapshot::{Format, Status, canonical_version, humanize, status};

fn status_of(path: &Path) -> Status {
    status(path).expect("it is sound")
}

fn refused(path: &Path) -> String {
    format!("{:#}", status(path).expect_err("it is not sound"))
}

#[test]
fn files_of_etcd_are_described_as_etcdutl_does() {
    for name in ["tables", "tree"] {
        let status = status_of(&path(&format!("{name}.db")));
        let mut printed = String::new();
        for (word, format) in [
            ("simple", Format::Simple),
            ("json", Format::Json),
            ("table", Format::Table),
            ("fields", Format::Fields),
        ] {
            printed += &format!("{word}\n{}", status.print(format));
        }
        assert_eq!(printed, recorded(&format!("{name}.status")), "{name}");
    }
}

#[test]
fn the_copy_of_a_directory_is_described_like_the_snapshot() {
    let scratch = Scratch::new();
    for name in ["tables", "tree"] {
        let saved = file(name);
        let expected = status_of(&path(&format!("{name}.db")));
        let without_hash = scratch.file("db", &saved[..saved.len() - 32]);
        assert_eq!(status_of(&without_hash), expected);
        // The file of a running member is longer than its last page.
        let grown = [&saved[..saved.len() - 32], &vec![0; 1 << 20]].concat();
        assert_eq!(status_of(&scratch.file("db", &grown)), expected);
        // A wrong hash is not looked at.
        let wrong = [&saved[..saved.len() - 32], &[7; 32]].concat();
        assert_eq!(status_of(&scratch.file("db", &wrong)), expected);
    }
}

#[test]
fn the_hash_is_of_rows_not_of_pages() {
    let scratch = Scratch::new();
    for name in ["tables", "tree"] {
        let theirs = status_of(&path(&format!("{name}.db")));
        let (rows, _) = read(&file(name)).expect("it is sound");
        let ours = write(&rows);
        let expected = Status { total_size_bytes: ours.len() as u64, ..theirs };
        assert_eq!(status_of(&scratch.file("db", &ours)), expected);
    }
}

#[test]
fn nothing_is_described_as_nothing() {
    let scratch = Scratch::new();
    let empty = scratch.file("db", &write(&Tables::new()));
    let expected = Status {
        hash: 0,
        revision: 0,
        total_keys: 0,
        total_size_bytes: 4 * 4096,
        version: String::new(),
    };
    assert_eq!(status_of(&empty), expected);
    assert_eq!(expected.print(Format::Simple), "0, 0, 0, 16 kB, \n");
}

#[test]
fn a_damaged_file_is_refused_in_one_sentence() {
    let scratch = Scratch::new();
    let mut image = Image { bytes: file("tree") };
    let leaf = image.leaves(image.root("key"))[1];
    image.ruin(leaf);
    let damaged = scratch.file("db", &image.bytes);
    let what = format!("page {leaf}: has unexpected flags 0x0");
    assert_eq!(
        refused(&damaged),
        format!("snapshot file integrity check failed. 1 errors found.\n{what}")
    );
    let error = status(&damaged).expect_err("it is damaged");
    assert_eq!(advice(&error), Some("Use another snapshot, or another member's copy"));
    // A page that nothing uses is found at the very end.
    let mut image = Image::of(&Tables::new());
    let lost = image.append_leaf();
    let said = refused(&scratch.file("db", &image.bytes));
    assert!(
        said.contains(&format!("page {lost}: is neither in use nor in the freelist")),
        "{said}"
    );
}

#[test]
fn what_is_no_snapshot_is_refused_in_etcdutls_words() {
    let scratch = Scratch::new();
    let nowhere = scratch.path("none.db");
    let said = format!("stat {}: no such file or directory", nowhere.display());
    assert_eq!(refused(&nowhere), said);
    assert_eq!(refused(&scratch.file("db", &[b'x'; 5000])), "file size too small 5000");
    assert_eq!(refused(&scratch.file("db", &[b'x'; 50_000])), "invalid database");
    let mut image = Image { bytes: file("tables") };
    for page in 0..2 {
        image.bytes[Image::at(page) + 70] ^= 1;
    }
    assert_eq!(refused(&scratch.file("db", &image.bytes)), "checksum error");
    for page in 0..2 {
        image.bytes[Image::at(page) + 20] ^= 1;
    }
    assert_eq!(refused(&scratch.file("db", &image.bytes)), "version mismatch");
}

#[test]
fn rows_that_are_no_revisions_are_refused() {
    let scratch = Scratch::new();
    let said = refused(&path("small.db"));
    let start =
        "error during bucket key iteration, name: \"key\": cannot parse revision key: b\"key";
    assert!(said.starts_with(start), "{said}");
    let key = revision(1);
    let mut negative = key.clone();
    negative[0] = 0x80;
    let mut apart = key.clone();
    apart[8] = b'-';
    for key in [&key[..16], &[&key[..], b"tt"].concat(), &negative, &apart] {
        let file = scratch.file("db", &snapshot(&with_row(Table::Key, key, b"")));
        assert!(refused(&file).contains("cannot parse revision key"), "{}", key.escape_ascii());
        // In another table it is a row like any other.
        status_of(&scratch.file("db", &snapshot(&with_row(Table::Lease, key, b""))));
    }
    let not_a_message = scratch.file("db", &snapshot(&with_row(Table::Key, &key, b"\x0a\xff")));
    assert!(refused(&not_a_message).contains("cannot unmarshal value"));
}

/// What `go-humanize`, which etcdutl prints sizes with, makes of them.
#[test]
fn sizes_are_printed_as_etcdutl_prints_them() {
    let recorded = [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (99, "99 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (1050, "1.1 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (20480, "20 kB"),
        (99949, "100 kB"),
        (999499, "1000 kB"),
        (999500, "1000 kB"),
        (1000000, "1.0 MB"),
        (8192000, "8.2 MB"),
        (1 << 31, "2.1 GB"),
        (1 << 40, "1.1 TB"),
        (1 << 63, "9.2 EB"),
    ];
    for (bytes, text) in recorded {
        assert_eq!(humanize(bytes), text, "{bytes}");
    }
}

/// What `go-semver`, which etcd reads versions with, makes of them.
#[test]
fn versions_are_read_as_etcd_reads_them() {
    let recorded: [(&[u8], Option<&str>); 23] = [
        (b"3.7.0", Some("3.7.0")),
        (b"3.7", None),
        (b"3", None),
        (b"", None),
        (b"v3.7.0", None),
        (b"3.7.0.1", None),
        (b"03.007.0", Some("3.7.0")),
        (b"3.7.0-alpha", Some("3.7.0-alpha")),
        (b"3.7.0-alpha.1+build.5", Some("3.7.0-alpha.1+build.5")),
        (b"3.7.0+a-b", Some("3.7.0+a-b")),
        (b"3.7.0-", Some("3.7.0")),
        (b"3.7.0+", Some("3.7.0")),
        (b"3.7.0-a..b", None),
        (b"3.7.0-a_b", None),
        (b"3.7.x", None),
        (b"-3.7.0", None),
        (b"3.-7.0", None),
        (b"3.7.0\n", None),
        (b" 3.7.0", None),
        (b"9223372036854775808.0.0", None),
        (b"3.7.0-a+b+c", None),
        (b"3.7.0+b-a", Some("3.7.0+b-a")),
        (b"\xff.1.2", None),
    ];
    for (text, expected) in recorded {
        assert_eq!(canonical_version(text).as_deref(), expected, "{}", text.escape_ascii());
    }
    let scratch = Scratch::new();
    let file = |version| snapshot(&with_row(Table::Meta, b"storageVersion", version));
    assert_eq!(status_of(&scratch.file("db", &file(b"3.8.0-rc.1"))).version, "3.8.0-rc.1");
    assert_eq!(status_of(&scratch.file("db", &file(b"new"))).version, "");
}
