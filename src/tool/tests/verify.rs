//! `verify`: what it says of a whole directory, and that it notices what is not whole.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{PLAIN, Scratch, engine_rows, place, restore};
use crate::bolt::tests::golden::path;
use crate::config::{Config, StorageEngine};
use crate::storage::disk::RealDisk;
use crate::storage::engine::{Table, Write};
use crate::storage::keys;
use crate::storage::wal::{Batch, Entry, EntryKind, Options, Wal};
use crate::tool::verify::{Verified, verify};

/// A restored member, and a log that went on from there: entries 2 to 5, each durable.
fn member(engine: StorageEngine) -> (Scratch, Config) {
    let scratch = Scratch::new();
    let config = scratch.config(engine);
    restore(&path("tables.db"), PLAIN, &config).expect("it is sound");
    let (mut wal, _) = Wal::open(Arc::new(RealDisk), &wal_dir(&config), None, Options::default())
        .expect("it was just made");
    for index in 2..=5 {
        append(&mut wal, index);
        wal.sync().expect("there is room");
    }
    (scratch, config)
}

fn append(wal: &mut Wal, index: u64) {
    let entry = Entry { term: 1, index, kind: EntryKind::Normal, data: Bytes::from(vec![7; 1000]) };
    wal.append(&Batch { entries: &[entry], ..Batch::default() }).expect("there is room");
}

fn wal_dir(config: &Config) -> PathBuf {
    config.data_dir.join("member/wal")
}

/// The only segment of a short log. It is large, though almost nothing of it is used.
fn segment(config: &Config) -> PathBuf {
    let names = fs::read_dir(wal_dir(config)).expect("it was made");
    let paths = names.map(|entry| entry.expect("it can be listed").path());
    let mut segments: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    assert_eq!(segments.len(), 1);
    segments.remove(0)
}

fn said(config: &Config) -> String {
    format!("{:#}", verify(&config.data_dir, None).expect_err("it is not whole"))
}

fn is_whole(config: &Config) -> Verified {
    verify(&config.data_dir, None).expect("it is whole")
}

/// Changes a file in place.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("it is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("it can be written");
}

/// How much of a segment holds the entries of these tests.
const LOG_BYTES: usize = 64 << 10;

/// The part of a segment that is used.
fn log_bytes(segment: &Path) -> Vec<u8> {
    let mut bytes = vec![0; LOG_BYTES];
    File::open(segment).and_then(|file| file.read_exact_at(&mut bytes, 0)).expect("it is there");
    bytes
}

/// Writes into a segment, and makes it this long if it is not.
fn put(segment: &Path, at: usize, bytes: &[u8], length: u64) {
    let file = File::options().write(true).open(segment).expect("it is there");
    file.set_len(length).and_then(|()| file.write_all_at(bytes, at as u64)).expect("there is room");
}

#[test]
fn a_whole_directory_is_described() {
    for engine in [StorageEngine::Redb, StorageEngine::Sled] {
        let (_scratch, config) = member(engine);
        let expected = Verified {
            data_dir: config.data_dir.clone(),
            engine: engine.name(),
            member_id: 0xfa52_afcb_fa8a_8338,
            cluster_id: is_whole(&config).cluster_id,
            revision: 10,
            compact_revision: 4,
            keys: 5,
            applied_index: 1,
            log_first_index: 1,
            log_last_index: 5,
            log_torn: false,
        };
        assert_eq!(is_whole(&config), expected);
        let text = format!(
            "{} is whole\nmember      fa52afcbfa8a8338 of cluster {:x}\n\
             engine      {}, as of entry 1\nrevision    10, compacted 4\nkeys        5\n\
             log         entries 1 to 5\n",
            config.data_dir.display(),
            expected.cluster_id,
            engine.name(),
        );
        assert_eq!(expected.to_string(), text);
    }
}

#[test]
fn a_directory_that_is_no_members_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let config = scratch.config(StorageEngine::Redb);
    let dir = config.data_dir.clone();
    assert_eq!(said(&config), format!("{} does not exist", dir.display()));
    fs::create_dir(&dir).expect("a directory");
    let names = || fs::read_dir(&dir).expect("it is there").count();
    assert_eq!(said(&config), format!("{} holds no member", dir.display()));
    assert_eq!(names(), 0, "it left something");
    fs::write(dir.join("letter.txt"), "dear").expect("a file");
    assert!(said(&config).contains("holds files that are not kvorum's (found letter.txt)"));
    assert_eq!(names(), 1, "it left something");
    fs::create_dir_all(dir.join("member/snap")).expect("a directory");
    assert!(said(&config).contains("is an etcd data directory"));
    assert_eq!(names(), 2, "it left something");
    let file = scratch.file("file", b"");
    verify(&file, None).expect_err("a file is no directory");
}

#[test]
fn a_directory_in_use_is_refused() {
    let (_scratch, config) = member(StorageEngine::Redb);
    let lock = crate::node::lock(&config.data_dir).expect("nobody uses it");
    assert!(said(&config).contains("is in use by another process"));
    drop(lock);
    is_whole(&config);
}

#[test]
fn a_format_that_is_not_this_one_is_refused() {
    let (_scratch, config) = member(StorageEngine::Redb);
    let format = config.data_dir.join("format");
    for (line, words) in [
        ("kvorum format 2 engine redb\n", "newer than this kvorum reads (format 1)"),
        ("kvorum format 1 engine rocks\n", "this kvorum has no engine \"rocks\""),
        ("kvorum format 1 founding\n", "holds no member"),
        ("kvorum format one engine redb\n", "is not a format line"),
        ("", "is not a format line"),
    ] {
        fs::write(&format, line).expect("it can be written");
        assert!(said(&config).contains(words), "{}", said(&config));
    }
    fs::remove_file(&format).expect("it is there");
    // What is left looks like an etcd's, and is refused rather than adopted.
    assert!(said(&config).contains("is an etcd data directory"));
    fs::write(&format, "kvorum format 1 engine redb\n").expect("it can be written");
    is_whole(&config);
}

#[test]
fn a_damaged_log_is_noticed() {
    let (_scratch, config) = member(StorageEngine::Redb);
    let segment = segment(&config);
    let length = fs::metadata(&segment).expect("it is there").len();
    let good = log_bytes(&segment);
    // The header, a record that was durable before others were written, and a head among them.
    let data = good.windows(100).position(|bytes| bytes == [7; 100]).expect("entries are there");
    for at in [0, 20, 512, 520, data, data + 900] {
        put(&segment, at, &[good[at] ^ 4], length);
        let said = said(&config);
        assert!(said.contains(" is damaged at offset ") && said.contains(".wal"), "{at}: {said}");
        put(&segment, at, &[good[at]], length);
    }
    put(&segment, 0, b"", data as u64);
    let cut = verify(&config.data_dir, None).expect("the entries behind a cut may never have been");
    assert_eq!((cut.log_last_index, cut.log_torn), (1, true));
    put(&segment, 0, b"", 600);
    assert!(said(&config).contains("files of different times were put together"));
    put(&segment, 0, b"", 0);
    assert!(said(&config).contains("the header is unreadable"), "{}", said(&config));
    fs::rename(&segment, config.data_dir.join("aside")).expect("it can be moved");
    assert!(said(&config).contains("there is no log in it"), "{}", said(&config));
    fs::rename(config.data_dir.join("aside"), &segment).expect("it can be moved");
    put(&segment, 0, &good, length);
    is_whole(&config);
}

#[test]
fn a_write_cut_short_is_told_and_is_no_damage() {
    let (_scratch, config) = member(StorageEngine::Redb);
    let (mut wal, _) = Wal::open(Arc::new(RealDisk), &wal_dir(&config), None, Options::default())
        .expect("it is whole");
    append(&mut wal, 6);
    drop(wal);
    let segment = segment(&config);
    let last = log_bytes(&segment).iter().rposition(|byte| *byte == 7).expect("it has entries");
    let length = fs::metadata(&segment).expect("it is there").len();
    put(&segment, last, b"x", length);
    let verified = is_whole(&config);
    assert_eq!((verified.log_last_index, verified.log_torn), (5, true));
    assert!(verified.to_string().ends_with("log         entries 1 to 5, then a write cut short\n"));
}

#[test]
fn a_log_and_a_state_that_do_not_meet_are_noticed() {
    let (_scratch, config) = member(StorageEngine::Redb);
    let engine = place(&config).open(0).expect("it is whole");
    engine.commit(&keys::applied(6, 1)).expect("there is room");
    drop(engine);
    assert_eq!(
        said(&config),
        "the state is as of entry 6, but the log holds entries 1 to 5: files of different times \
         were put together; restore this member from a snapshot"
    );
    let engine = place(&config).open(0).expect("it is whole");
    engine.commit(&keys::applied(5, 1)).expect("there is room");
    drop(engine);
    assert_eq!(is_whole(&config).applied_index, 5);
}

#[test]
fn a_damaged_engine_is_noticed() {
    let (_scratch, config) = member(StorageEngine::Redb);
    let state = config.data_dir.join("member/state");
    let redb = state.join("1/redb");
    let good = fs::read(&redb).expect("it is there");
    edit(&redb, Vec::clear);
    assert!(said(&config).contains("the file is empty"), "{}", said(&config));
    edit(&redb, |bytes| bytes.extend([b'x'; 100_000]));
    assert!(said(&config).contains("redb"), "{}", said(&config));
    fs::write(&redb, &good[..good.len() / 2]).expect("it can be written");
    assert!(said(&config).contains("redb"), "{}", said(&config));
    fs::write(&redb, &good).expect("it can be written");
    is_whole(&config);
    let current = state.join("current");
    for text in ["", "one", "-1"] {
        fs::write(&current, text).expect("it can be written");
        assert!(said(&config).contains("does not hold the number of a generation"));
    }
    fs::remove_file(&current).expect("it is there");
    assert!(said(&config).starts_with("cannot read "), "{}", said(&config));
}

/// Each row of each table, also of those that a start does not read.
#[test]
fn a_row_that_is_not_what_was_written_is_noticed() {
    let (_scratch, config) = member(StorageEngine::Redb);
    let redb = config.data_dir.join("member/state/1/redb");
    let tables = engine_rows(&config);
    let good = fs::read(&redb).expect("it is there");
    let mut damaged = 0;
    for table in Table::ALL {
        for (key, value) in &tables[table.name().as_bytes()] {
            // A value is followed by its checksum; by that it is found among the pages.
            let checksum =
                [&[table as u8][..], key, value].into_iter().fold(0, crc32c::crc32c_append);
            let sealed = [&value[..], &checksum.to_le_bytes()].concat();
            let mut bad = good.clone();
            let places = good.windows(sealed.len()).enumerate();
            for (at, _) in places.filter(|(_, bytes)| *bytes == sealed) {
                bad[at + value.len() / 2] ^= 1;
            }
            assert!(bad != good, "the value is in the file");
            fs::write(&redb, bad).expect("it can be written");
            let (table, key) = (table.name(), key.escape_ascii());
            let said = match verify(&config.data_dir, None) {
                Ok(_) => panic!("row {key} of {table} was altered unnoticed"),
                Err(error) => format!("{error:#}"),
            };
            assert!(said.contains(&format!(" of table {table} is damaged")), "{said}");
            damaged += 1;
        }
    }
    assert_eq!(damaged, 24, "rows were left out");
}

#[test]
fn a_row_that_is_not_of_its_table_is_noticed() {
    let strange = [
        (Table::Key, &b"short"[..], &b""[..]),
        (Table::Lease, b"short", b""),
        (Table::Members, b"not hex", b"{}"),
        (Table::Members, b"1", b"{"),
        (Table::MembersRemoved, b"not hex", b"removed"),
        (Table::Alarm, b"\xff", b""),
        (Table::Meta, keys::CONSISTENT_INDEX, b"short"),
        (Table::Meta, keys::CONF_STATE, b"[]"),
        (Table::Meta, keys::SCHEDULED_COMPACT_REV, b"short"),
        (Table::Cluster, keys::CLUSTER_VERSION, b"\xff"),
    ];
    for (table, key, value) in strange {
        let scratch = Scratch::new();
        let config = scratch.config(StorageEngine::Redb);
        restore(&path("tables.db"), PLAIN, &config).expect("it is sound");
        let engine = place(&config).open(0).expect("it is whole");
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        engine.commit(&[Write::Put { table, key: key.clone(), value }]).expect("there is room");
        drop(engine);
        let said = said(&config);
        let is_said = said.contains(" is damaged") || said.contains("a row of table lease");
        assert!(is_said, "{} {}: {said}", table.name(), key.escape_ascii());
    }
}
