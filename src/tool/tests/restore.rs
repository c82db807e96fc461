//! Restoring: what the new member holds, what is refused, and what a failure leaves behind.

use std::fs;

use super::{PLAIN, Scratch, engine_rows, restore, snapshot, with_row};
use crate::bolt::tests::files::{Image, Tables, read, revision};
use crate::bolt::tests::golden::{file, listing, path, recorded};
use crate::config::{Config, StorageEngine};
use crate::storage::disk::RealDisk;
use crate::storage::engine::Table;
use crate::storage::layout::{Found, Layout};
use crate::tool::restore::{Options, Restored};
use crate::tool::verify::verify;

const ENGINES: [StorageEngine; 2] = [StorageEngine::Redb, StorageEngine::Sled];
/// The ids of the recorded restore's member and cluster, as etcdutl computed the first.
const MEMBER_ID: u64 = 0xfa52_afcb_fa8a_8338;

/// Rows of the tables a new membership does not replace.
fn without_membership(tables: Tables) -> Tables {
    let replaced = |name: &[u8]| name == b"members" || name == b"members_removed";
    let mut tables: Tables = tables.into_iter().filter(|(name, _)| !replaced(name)).collect();
    let meta = tables.get_mut(&b"meta"[..]).expect("every file has it");
    for key in ["consistent_index", "term", "confState"] {
        meta.remove(key.as_bytes());
    }
    tables
}

/// A bumped restore leaves the rows that etcdutl's leaves, but for the raft configuration: etcdutl
/// leaves the old cluster's, and etcd does not read it.
#[test]
fn a_restored_member_holds_what_etcdutl_restores() {
    for engine in ENGINES {
        let scratch = Scratch::new();
        let config = scratch.config(engine);
        let options = Options { bump_revision: 1_000_000, mark_compacted: true, ..PLAIN };
        let restored = restore(&path("tables.db"), options, &config).expect("it is sound");
        assert_eq!(restored.member_id, MEMBER_ID);
        assert_eq!(restored.rows, 25);
        let found = listing(&engine_rows(&config));
        let theirs = recorded("bumped.rows");
        let (_, theirs) = theirs.split_once('\n').expect("the first line counts pages");
        let mark = r#"voters\":["#;
        let (head, tail) = theirs.split_once(mark).expect("it has one voter");
        let (_, tail) = tail.split_once(']').expect("it has one voter");
        let expected = format!("{head}{mark}{MEMBER_ID}]{tail}");
        assert_eq!(found, expected, "{engine:?}");
    }
}

#[test]
fn everything_but_the_membership_is_kept() {
    for name in ["tables", "tree"] {
        for engine in ENGINES {
            let scratch = Scratch::new();
            let config = scratch.config(engine);
            restore(&path(&format!("{name}.db")), PLAIN, &config).expect("it is sound");
            let (theirs, _) = read(&file(name)).expect("it is sound");
            let found = without_membership(engine_rows(&config));
            assert!(found == without_membership(theirs), "{name}, {engine:?}");
        }
    }
}

/// Whichever of its members is restored, a cluster has the ids that etcdutl 3.7.3 gives it, and
/// every member holds the rows of all.
#[test]
fn every_member_of_a_cluster_restores_the_same_cluster() {
    let urls = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    let cluster = [
        ("n1", "http://127.0.0.1:2380"),
        ("n2", "http://127.0.0.1:2381"),
        ("n2", "http://127.0.0.1:2391"),
        ("n3", "http://127.0.0.1:2382"),
    ];
    let members = [
        ("n1", 0xfa52_afcb_fa8a_8338, "http://127.0.0.1:2380"),
        ("n2", 0xb9d1_c64a_e439_19ee, "http://127.0.0.1:2391,http://127.0.0.1:2381"),
        ("n3", 0xd32e_f3dc_b6f7_bbff, "http://127.0.0.1:2382"),
    ];
    for (name, member_id, advertised) in members {
        let scratch = Scratch::new();
        let config = Config {
            name: name.to_owned(),
            initial_advertise_peer_urls: urls(advertised),
            initial_cluster: cluster.map(|(name, url)| (name.to_owned(), url.to_owned())).into(),
            ..scratch.config(StorageEngine::Redb)
        };
        config.verify_founding().expect("it is in its cluster");
        let restored = restore(&path("tables.db"), PLAIN, &config).expect("it is sound");
        let Restored { cluster_id, member_id: found, .. } = restored;
        assert_eq!((found, cluster_id), (member_id, 0x6de9_943d_6193_55be));
        let tables = engine_rows(&config);
        let rows = tables[&b"members"[..]].values();
        let rows: Vec<String> = rows.map(|row| String::from_utf8_lossy(row).into_owned()).collect();
        assert_eq!(
            rows,
            [
                r#"{"id":13389701192108022254,"peerURLs":["#.to_owned()
                    + r#""http://127.0.0.1:2381","http://127.0.0.1:2391"],"name":"n2"}"#,
                r#"{"id":15217368320219528191,"peerURLs":["http://127.0.0.1:2382"],"name":"n3"}"#
                    .to_owned(),
                r#"{"id":18037672748188861240,"peerURLs":["http://127.0.0.1:2380"],"name":"n1"}"#
                    .to_owned(),
            ]
        );
        assert_eq!(tables[&b"meta"[..]][&b"consistent_index"[..]], 3u64.to_be_bytes());
        let verified = verify(&config.data_dir, None).expect("it is whole");
        assert_eq!(verified.member_id, member_id);
    }
}

#[test]
fn more_rows_than_one_commit_takes_are_all_there() {
    let scratch = Scratch::new();
    let config = scratch.config(StorageEngine::Redb);
    let mut tables = with_row(Table::Meta, b"storageVersion", b"3.6.0");
    let rows = (1..=40).map(|main| (revision(main), message(b"k", &[b'v'; 500_000])));
    *tables.get_mut(&b"key"[..]).expect("it is a table") = rows.collect();
    let restored = restore(&scratch.file("db", &snapshot(&tables)), PLAIN, &config);
    assert_eq!(restored.map(|restored| restored.rows), Ok(40 + 1 + 3 + 1));
    let found = engine_rows(&config);
    assert!(found[&b"key"[..]] == tables[&b"key"[..]]);
    // A storage version that is older, or was not there, is this one's from here on.
    assert_eq!(found[&b"meta"[..]][&b"storageVersion"[..]], b"3.7.0");
}

/// A `KeyValue` with a key and a value.
fn message(key: &[u8], value: &[u8]) -> Vec<u8> {
    use prost::Message as _;
    let (key, value) = (key.to_vec().into(), value.to_vec().into());
    crate::pb::KeyValue { key, value, ..Default::default() }.encode_to_vec()
}

#[test]
fn a_log_may_be_elsewhere() {
    let scratch = Scratch::new();
    let mut config = scratch.config(StorageEngine::Redb);
    config.wal_dir = Some(scratch.path("log"));
    restore(&path("tables.db"), PLAIN, &config).expect("it is sound");
    assert!(fs::read_dir(scratch.path("log")).expect("it was made").count() > 0);
    assert!(!config.data_dir.join("member/wal").exists());
    let verified = verify(&config.data_dir, config.wal_dir.as_deref()).expect("it is whole");
    assert_eq!(verified.member_id, MEMBER_ID);
    verify(&config.data_dir, None).expect_err("the log is not there");
}

#[test]
fn a_directory_that_is_not_empty_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let config = scratch.config(StorageEngine::Redb);
    let file = path("tables.db");
    restore(&file, PLAIN, &config).expect("it is sound");
    let before = engine_rows(&config);
    let dir = config.data_dir.display();
    let said = format!("{dir} holds a member already; give an empty or absent directory");
    assert_eq!(restore(&file, PLAIN, &config), Err(said));
    assert!(engine_rows(&config) == before);

    let scratch = Scratch::new();
    let config = scratch.config(StorageEngine::Redb);
    fs::create_dir_all(config.data_dir.join("member/snap")).expect("a directory");
    let said = restore(&file, PLAIN, &config).expect_err("it is an etcd's");
    assert!(said.contains("is an etcd data directory"), "{said}");
    assert!(
        !config.data_dir.join("format").exists() && !config.data_dir.join("member/wal").exists()
    );

    let scratch = Scratch::new();
    let config = scratch.config(StorageEngine::Redb);
    fs::create_dir(&config.data_dir).expect("a directory");
    fs::write(config.data_dir.join("letter.txt"), "dear").expect("a file");
    let said = restore(&file, PLAIN, &config).expect_err("it is somebody's");
    assert!(said.contains("holds files that are not kvorum's (found letter.txt)"), "{said}");

    let scratch = Scratch::new();
    let mut config = scratch.config(StorageEngine::Redb);
    config.wal_dir = Some(scratch.path(""));
    scratch.file("letter.txt", b"dear");
    let said = restore(&file, PLAIN, &config).expect_err("it is somebody's");
    assert!(said.contains("holds files that are not kvorum's"), "{said}");
    assert!(scratch.path("letter.txt").exists());
}

#[test]
fn a_bad_request_makes_nothing() {
    let scratch = Scratch::new();
    let config = scratch.config(StorageEngine::Redb);
    let without = scratch.file("without.db", &file("tables")[..20_480]);
    let nowhere = scratch.path("none.db");
    let mut wrong = file("tables");
    *wrong.last_mut().expect("it is long") ^= 1;
    let wrong = scratch.file("wrong.db", &wrong);
    let saved = path("tables.db");
    let cases = [
        (&saved, Options { bump_revision: 5, ..PLAIN }, "--mark-compacted required"),
        (&saved, Options { mark_compacted: true, ..PLAIN }, "--mark-compacted required"),
        (&without, PLAIN, "snapshot missing hash but --skip-hash-check=false"),
        (&wrong, PLAIN, "expected sha256 ["),
        (&nowhere, PLAIN, "open "),
    ];
    for (file, options, words) in cases {
        let said = restore(file, options, &config).expect_err("it is refused");
        assert!(said.starts_with(words), "{said}");
        assert!(!config.data_dir.exists(), "{words} left a directory");
    }
    let skipping = Options { skip_hash_check: true, ..PLAIN };
    for file in [&without, &wrong, &saved] {
        let scratch = Scratch::new();
        let restored = restore(file, skipping, &scratch.config(StorageEngine::Redb));
        assert_eq!(restored.map(|restored| restored.member_id), Ok(MEMBER_ID));
    }
}

/// Restores a file that opens and turns out bad later; says why it is refused.
fn failed(scratch: &Scratch, bytes: &[u8], options: Options) -> String {
    let config = scratch.config(StorageEngine::Redb);
    let said = restore(&scratch.file("bad.db", bytes), options, &config);
    let said = said.expect_err("it is refused");
    let layout = Layout::new(&config.data_dir, None);
    assert_eq!(layout.inspect(&RealDisk).expect("it is ours"), Found::Nothing, "{said}");
    said
}

#[test]
fn a_failed_restore_leaves_no_member_and_the_next_one_takes_over() {
    let scratch = Scratch::new();
    let skipping = Options { skip_hash_check: true, ..PLAIN };
    // The last leaf of the keys, after some of them were written.
    let mut image = Image { bytes: file("tree") };
    let leaf = *image.leaves(image.root("key")).last().expect("there are leaves");
    image.ruin(leaf);
    let said = failed(&scratch, &image.bytes, skipping);
    assert_eq!(said, format!("page {leaf}: has unexpected flags 0x0"));
    let said = verify(&scratch.config(StorageEngine::Redb).data_dir, None);
    let said = said.expect_err("it is no member's").to_string();
    assert!(said.ends_with("holds no member"), "{said}");
    for config in ENGINES.map(|engine| scratch.config(engine)) {
        if config.storage_engine == StorageEngine::Sled {
            fs::remove_dir_all(&config.data_dir).expect("it was made");
            failed(&scratch, &image.bytes, skipping);
        }
        let restored = restore(&path("tree.db"), PLAIN, &config).expect("it is sound");
        let Restored { member_id, .. } = restored;
        assert_eq!(member_id, MEMBER_ID);
        let (theirs, _) = read(&file("tree")).expect("it is sound");
        assert!(without_membership(engine_rows(&config)) == without_membership(theirs));
    }
}

#[test]
fn rows_of_another_kind_of_etcd_are_refused() {
    let scratch = Scratch::new();
    for version in ["3.8.0", "4.0.0", "3.10.0", "new", ""] {
        let tables = with_row(Table::Meta, b"storageVersion", version.as_bytes());
        let said = failed(&scratch, &snapshot(&tables), PLAIN);
        let words = format!("was written by a newer etcd, storage version {version}; this kvorum");
        assert!(said.contains(&words), "{said}");
    }
    let mut tables = with_row(Table::Meta, b"storageVersion", b"3.7.0");
    tables.insert(b"test".to_vec(), [(b"k".to_vec(), b"v".to_vec())].into());
    let said = failed(&scratch, &snapshot(&tables), PLAIN);
    assert_eq!(said, "bucket \"test\" is not one of etcd's and has rows");
    let said = failed(&scratch, &snapshot(&with_row(Table::Key, b"short", b"")), PLAIN);
    assert_eq!(said, "cannot parse revision key: b\"short\"");
    let beyond = Options { bump_revision: i64::MAX as u64, mark_compacted: true, ..PLAIN };
    let said = failed(&scratch, &snapshot(&with_row(Table::Key, &revision(1), b"")), beyond);
    assert!(said.ends_with("is beyond the last revision there is"), "{said}");
    for version in ["3.7.0", "3.6.0", "3.5.0"] {
        let scratch = Scratch::new();
        let tables = with_row(Table::Meta, b"storageVersion", version.as_bytes());
        let file = scratch.file("db", &snapshot(&tables));
        restore(&file, PLAIN, &scratch.config(StorageEngine::Redb)).expect("it is known");
    }
}

/// A member would not start on them, and who restores would rather know now.
#[test]
fn rows_that_no_member_starts_on_are_refused() {
    for (table, key, value) in [
        (Table::Key, &revision(1)[..], &b"not a message"[..]),
        (Table::Key, b"\x7f\xff\xff\xff\xff\xff\xff\xff_\0\0\0\0\0\0\0\0", b""),
        (Table::Meta, b"scheduledCompactRev", b"\x7f\xff\xff\xff\xff\xff\xff\xff_\0\0\0\0\0\0\0\0"),
        (Table::Lease, b"short", b""),
        (Table::Meta, b"finishedCompactRev", b"short"),
        (Table::Alarm, b"\xff", b""),
        (Table::Cluster, b"clusterVersion", b"\xff"),
    ] {
        let said = failed(&Scratch::new(), &snapshot(&with_row(table, key, value)), PLAIN);
        assert!(
            said.contains(&format!("table {}", table.name())) || table == Table::Alarm,
            "{said}"
        );
    }
}

/// A put and a deletion at one place in history: no store writes that.
#[test]
fn two_rows_of_one_revision_are_refused() {
    let mut tables = with_row(Table::Key, &revision(2), &message(b"a", b"v"));
    let rows = tables.get_mut(&b"key"[..]).expect("one of the tables");
    rows.insert([&revision(2)[..], b"t"].concat(), message(b"a", b""));
    let said = failed(&Scratch::new(), &snapshot(&tables), PLAIN);
    assert!(said.contains("a second row of its revision"), "{said}");
}

/// Watchers would not be told of what is not there, and nobody would notice.
#[test]
fn revisions_that_are_missing_are_refused() {
    let tables = with_row(Table::Key, &revision(7), &message(b"a", b"v"));
    let scratch = Scratch::new();
    let said = failed(&scratch, &snapshot(&tables), PLAIN);
    assert!(said.contains("rows before it are missing") && said.contains("--bump-"), "{said}");
    let bump = Options { bump_revision: 1, mark_compacted: true, ..PLAIN };
    let scratch = Scratch::new();
    let (file, config) =
        (scratch.file("db", &snapshot(&tables)), scratch.config(StorageEngine::Redb));
    restore(&file, bump, &config).expect("it does as it says");
}

/// Users are not built yet: a member without them would let everybody in.
#[test]
fn a_store_that_asks_who_comes_is_not_opened_to_all() {
    let scratch = Scratch::new();
    let on = with_row(Table::Auth, b"authEnabled", &[1]);
    let said = failed(&scratch, &snapshot(&on), PLAIN);
    assert!(said.contains("authentication is on"), "{said}");
    let scratch = Scratch::new();
    let off = with_row(Table::Auth, b"authEnabled", &[0]);
    let file = scratch.file("db", &snapshot(&off));
    restore(&file, PLAIN, &scratch.config(StorageEngine::Redb)).expect("everybody may come");
}
