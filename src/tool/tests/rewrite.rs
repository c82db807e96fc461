//! Changing rows on their way, against etcdutl's own restore and against a map.

use std::collections::BTreeMap;

use anyhow::anyhow;
use bytes::Bytes;
use proptest::prelude::*;

use super::{Scratch, collected};
use crate::bolt::tests::files::{Rows, Tables, revision, write};
use crate::bolt::tests::golden::{file, listing, recorded};
use crate::bolt::{Reader, Row};
use crate::storage::engine::Table;
use crate::tool::rewrite::{Bump, Membership, Rewrite, RowKey, rewrite};
use crate::tool::snapshot::status;

type Result<T> = anyhow::Result<T>;

fn bump(amount: u64) -> Option<Bump> {
    Bump::from_flags(amount, true).expect("an amount goes with the mark")
}

/// Every row of a file that was saved.
fn saved(name: &str) -> Vec<Row> {
    let file = file(name);
    let source = &file[..];
    let reader = Reader::open(&source).expect("it is sound");
    reader.table_rows().map(|row| row.expect("it is sound")).collect()
}

fn changed(rows: &[Row], change: Rewrite) -> Tables {
    collected(rewrite(rows.iter().cloned().map(Ok), change))
}

/// The member of the recorded restore, by its row, at the start of its log.
fn recorded_membership() -> Membership {
    let name = Bytes::from_static(b"fa52afcbfa8a8338");
    let row = br#"{"id":18037672748188861240,"peerURLs":["http://127.0.0.1:2380"],"name":"n"}"#;
    Membership {
        members: BTreeMap::from([(name, Bytes::from_static(row))]),
        consistent_index: 1,
        term: 1,
        conf_state: None,
    }
}

/// A listing without the line of pages and without tables that are empty.
fn recorded_rows(name: &str) -> String {
    let text = recorded(name);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let is_empty = |at: usize| lines.get(at + 1).is_none_or(|next| !next.starts_with('\t'));
    let kept = lines.iter().enumerate();
    let kept = kept.filter(|(at, line)| line.starts_with('\t') || !is_empty(*at));
    kept.map(|(_, line)| format!("{line}\n")).collect()
}

#[test]
fn rows_are_changed_as_etcdutl_changes_them() {
    let change = Rewrite { bump: bump(1_000_000), membership: Some(recorded_membership()) };
    let rows = changed(&saved("tables"), change);
    assert_eq!(listing(&rows), recorded_rows("bumped.rows"));
    // A row without a value counts as a key, here as there; an empty table counts by its name.
    let removed = (Table::MembersRemoved.name().as_bytes().to_vec(), Rows::new());
    let all: Tables = rows.into_iter().chain([removed]).collect();
    let scratch = Scratch::new();
    let ours = status(&scratch.file("db", &write(&all))).expect("it is sound");
    let [hash, revision, keys] = ["hash", "revision", "totalKey"].map(recorded_number);
    assert_eq!(
        (u64::from(ours.hash), ours.revision as u64, ours.total_keys),
        (hash, revision, keys)
    );
    assert_eq!(revision, 1_000_010);
}

/// A number of etcdutl's status of what it restored.
fn recorded_number(name: &str) -> u64 {
    let recorded = recorded("bumped.status");
    let json = recorded.lines().find(|line| line.starts_with('{')).expect("one form is JSON");
    let json: serde_json::Value = serde_json::from_str(json).expect("it is JSON");
    json[name].as_u64().expect("it is a number")
}

#[test]
fn rows_stay_as_they_are_when_nothing_is_to_change() {
    for name in ["tables", "tree"] {
        let rows = saved(name);
        let passed: Vec<Row> = rewrite(rows.iter().cloned().map(Ok), Rewrite::default())
            .collect::<Result<_>>()
            .expect("the stream is whole");
        assert!(passed == rows, "{name}");
    }
}

#[test]
fn flags_of_a_bump_go_together() {
    let said = |amount, mark| Bump::from_flags(amount, mark).map_err(|error| error.to_string());
    let together = Err("--mark-compacted required if --revision-bump > 0".to_owned());
    assert_eq!(said(0, false), Ok(None));
    assert_eq!(said(5, false), together);
    assert_eq!(said(0, true), together);
    assert!(said(i64::MAX as u64, true).is_ok_and(|bump| bump.is_some()));
    let beyond = said(i64::MAX as u64 + 1, true).expect_err("no revision is that high");
    assert_eq!(beyond, "--bump-revision 9223372036854775808 is beyond the last revision there is");
}

fn key_row(main: u64, value: &'static [u8]) -> Row {
    Row { table: Table::Key, key: revision(main).into(), value: Bytes::from_static(value) }
}

#[test]
fn a_bump_counts_from_the_newest_revision() {
    let schedule = |rows: &Tables| rows[&b"meta"[..]][&b"scheduledCompactRev"[..]].clone();
    for (mains, newest) in [(&[][..], 0), (&[1], 1), (&[3, 4, 900], 900)] {
        let rows: Vec<Row> = mains.iter().map(|main| key_row(*main, b"")).collect();
        let found = changed(&rows, Rewrite { bump: bump(100), membership: None });
        let keys = &found[&b"key"[..]];
        let raised = revision(newest + 100);
        assert_eq!(keys.last_key_value(), Some((&raised, &Vec::new())));
        assert_eq!((keys.len(), schedule(&found)), (mains.len() + 1, raised));
    }
    // Up to the last revision there is, and no further.
    let last = i64::MAX as u64;
    let at = |main| {
        rewrite(
            [Ok(key_row(main, b""))].into_iter(),
            Rewrite { bump: bump(last - 5), membership: None },
        )
    };
    assert_eq!(collected(at(5)).len(), 2);
    let error = at(6).find_map(Result::err).expect("that is too far").to_string();
    assert_eq!(error, format!("--bump-revision {} is beyond the last revision there is", last - 5));
}

#[test]
fn a_stream_ends_with_its_error() {
    let gone = || Err(anyhow!("the file is gone"));
    let bad = Row { table: Table::Key, key: Bytes::from_static(b"short"), value: Bytes::new() };
    let cases: [(Vec<Result<Row>>, &str); 3] = [
        (vec![gone(), Ok(key_row(2, b""))], "the file is gone"),
        (vec![Ok(key_row(1, b"")), gone(), Ok(key_row(2, b""))], "the file is gone"),
        (vec![Ok(key_row(1, b"")), Ok(bad)], "cannot parse revision key: b\"short\""),
    ];
    for (rows, said) in cases {
        let change = Rewrite { bump: bump(5), membership: Some(recorded_membership()) };
        let mut rows = rewrite(rows.into_iter(), change);
        let first = rows.by_ref().find_map(Result::err).expect("there is an error");
        assert_eq!(first.to_string(), said);
        assert!(rows.next().is_none(), "a row after an error");
    }
}

#[test]
fn keys_of_rows_are_read_by_etcds_rules() {
    let plain = RowKey { main: 7, sub: 3, is_tombstone: false };
    let tombstone = RowKey { is_tombstone: true, ..plain };
    for key in [plain, tombstone] {
        assert_eq!(RowKey::decode(&key.encode()), Some(key));
    }
    assert_eq!(plain.encode().len(), 17);
    // etcd 3.7 takes any mark for a row that is there, and only `t` for one that is not.
    let marked = |mark: u8| RowKey::decode(&[&plain.encode()[..], &[mark]].concat());
    assert_eq!((marked(b't'), marked(b'x')), (Some(tombstone), Some(plain)));
    let short = plain.encode();
    assert!((0..17).all(|length| RowKey::decode(&short[..length]).is_none()));
    assert_eq!(RowKey::decode(&[&short[..], b"tt"].concat()), None);
    let flipped = |at: usize, bits: u8| {
        let mut key = short.to_vec();
        key[at] ^= bits;
        RowKey::decode(&key)
    };
    assert_eq!([flipped(0, 0x80), flipped(8, 1), flipped(9, 0x80)], [None; 3]);
}

/// Rows of any table, with the keys that a rewrite looks at among them.
fn any_row() -> impl Strategy<Value = (Table, Vec<u8>)> {
    let names = ["consistent_index", "term", "confState", "scheduledCompactRev", "a", "zz"];
    prop_oneof![
        3 => (1..50u64).prop_map(|main| (Table::Key, revision(main))),
        3 => proptest::sample::select(names.to_vec())
            .prop_map(|name| (Table::Meta, name.as_bytes().to_vec())),
        4 => (proptest::sample::select(&Table::ALL[..]), 0..6u8)
            .prop_filter("other keys", |(table, _)| *table != Table::Key)
            .prop_map(|(table, byte)| (table, vec![b'b' + byte])),
    ]
}

proptest! {
    #[test]
    fn a_rewrite_is_what_a_map_would_do(
        old in proptest::collection::btree_set(any_row(), 0..30),
        members in proptest::collection::btree_set(0..6u8, 0..3),
        amount in 0..3u64,
        with_members in any::<bool>(),
        with_conf_state in any::<bool>(),
    ) {
        let (new, conf) = (Bytes::from_static(b"new"), Bytes::from_static(b"conf"));
        let members: BTreeMap<Bytes, Bytes> =
            members.iter().map(|byte| (vec![b'b' + byte].into(), new.clone())).collect();
        let membership = Membership {
            members: members.clone(),
            consistent_index: 1,
            term: 2,
            conf_state: with_conf_state.then(|| conf.clone()),
        };
        let mut map: BTreeMap<(Table, Vec<u8>), Vec<u8>> =
            old.iter().cloned().map(|place| (place, b"old".to_vec())).collect();
        let rows: Vec<Row> = old
            .into_iter()
            .map(|(table, key)| Row { table, key: key.into(), value: Bytes::from_static(b"old") })
            .collect();
        let meta = |name: &str| (Table::Meta, name.as_bytes().to_vec());
        if amount > 0 {
            let keys = map.keys().filter(|(table, _)| *table == Table::Key);
            let newest = keys.map(|(_, key)| key[7]).max().unwrap_or(0);
            let raised = revision(u64::from(newest) + amount);
            map.insert((Table::Key, raised.clone()), Vec::new());
            map.insert(meta("scheduledCompactRev"), raised);
        }
        if with_members {
            map.retain(|(table, _), _| !matches!(table, Table::Members | Table::MembersRemoved));
            map.extend(members.iter().map(|(k, v)| ((Table::Members, k.to_vec()), v.to_vec())));
            map.insert(meta("consistent_index"), 1u64.to_be_bytes().to_vec());
            map.insert(meta("term"), 2u64.to_be_bytes().to_vec());
            if with_conf_state {
                map.insert(meta("confState"), conf.to_vec());
            }
        }
        let change = Rewrite {
            bump: if amount > 0 { bump(amount) } else { None },
            membership: with_members.then_some(membership),
        };
        let found = rewrite(rows.into_iter().map(Ok), change).map(|row| row.expect("whole"));
        let found: Vec<_> =
            found.map(|row| ((row.table, row.key.to_vec()), row.value.to_vec())).collect();
        prop_assert_eq!(found, map.into_iter().collect::<Vec<_>>());
    }
}
