//! What the writer is given, the reader gives back; and what the writer cannot hold it refuses.

use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;

use super::files::*;
use crate::bolt::format::{KEY_BYTES_MAX, PAGE_BYTES};
use crate::bolt::{CHUNK_BYTES, Reader, Report, Row, Source, Writer, fuzz_read};
use crate::error::Fault;
use crate::storage::engine::{Engine, Table, Visit, Write};
use crate::storage::mem::Mem;

/// Writes tables, reads them back, and accounts for every page.
fn round(tables: &Tables) {
    let file = write(tables);
    let (found, report) = read(&file).expect("what was written is sound");
    assert!(found == *tables, "other rows came back");
    let rows = tables.values().map(|rows| rows.len() as u64).sum();
    assert_eq!(report, Report { buckets: tables.len() as u64, rows, free_pages: 0 });
    let source = &file[..];
    let reader = Reader::open(&source).expect("it was opened before");
    for (name, rows) in tables {
        let found = reader.rows(name).expect("it was read before").expect("each is a bucket");
        let found: Rows =
            found.map(|row| row.map(|(k, v)| (k.into(), v.into())).expect("sound")).collect();
        assert!(found == *rows, "other rows came back of one table");
    }
}

#[test]
fn nothing_is_a_file_too() {
    round(&Tables::new());
    round(&tables([("key", Rows::new())]));
    round(&Table::ALL.map(|table| (table.name().as_bytes().to_vec(), Rows::new())).into());
}

#[test]
fn rows_of_every_size_come_back() {
    let page = PAGE_BYTES;
    let sizes = [0, 1, 100, page - 50, page - 49, page - 48, page, 2 * page, 1 << 20, 0, 3 << 20];
    round(&tables([("key", rows_of(sizes))]));
    for size in sizes {
        round(&tables([("key", rows_of([size])), ("meta", rows_of([size, size, size]))]));
    }
}

#[test]
fn keys_of_every_size_come_back() {
    let sizes = [1, 2, 255, 256, 4000, 4096, KEY_BYTES_MAX - 1, KEY_BYTES_MAX];
    let key = |first: u8, size: usize| [&[first][..], &vec![0xff; size - 1]].concat();
    let row = |(index, size): (usize, &usize)| (key(index as u8, *size), vec![7; index]);
    round(&tables([("key", sizes.iter().enumerate().map(row).collect())]));
    let all_bytes: Rows = (0..=255).map(|byte| (vec![byte], vec![byte])).collect();
    round(&tables([("lease", all_bytes)]));
}

#[test]
fn many_rows_come_back() {
    let small = rows_of((0..40_000).map(|n| n % 90));
    // Keys of a third of a page: three children to a branch, and many levels of branches.
    let wide = |n: u32| (format!("{n:01300}").into_bytes(), Vec::new());
    let tall: Rows = (0..3000).map(wide).collect();
    round(&tables([("key", small), ("lease", tall), ("meta", rows_of([3]))]));
}

/// Rows of sizes that matter: around nothing, around a part of a page, around whole pages.
fn any_rows() -> impl Strategy<Value = Rows> {
    let size = prop_oneof![
        2 => Just(0..=0usize),
        4 => Just(1..=60),
        4 => Just(300..=1500),
        2 => Just(PAGE_BYTES - 80..=PAGE_BYTES),
        1 => Just(2 * PAGE_BYTES - 80..=2 * PAGE_BYTES),
        1 => Just(20_000..=60_000),
    ];
    let value = (size.prop_flat_map(|sizes| sizes), any::<u8>());
    let key = prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 1..20),
        3 => proptest::collection::vec(0..2u8, 1..12),
        1 => (any::<u16>(), 200..3000usize).prop_map(|(first, size)| {
            [&first.to_be_bytes()[..], &vec![b'k'; size]].concat()
        }),
    ];
    let row = (key, value).prop_map(|(key, (size, byte))| (key, vec![byte; size]));
    prop_oneof![3 => 0..12usize, 2 => 100..300usize]
        .prop_flat_map(move |count| proptest::collection::vec(row.clone(), count))
        .prop_map(|rows| rows.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.min(100),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_tables_come_back(all in proptest::collection::vec(any_rows(), Table::COUNT)) {
        let named = Table::ALL.iter().zip(all);
        let tables: Tables = named.map(|(t, rows)| (t.name().as_bytes().to_vec(), rows)).collect();
        round(&tables);
        super::shape::is_well_shaped(&tables);
        fuzz_read(&write(&tables));
    }
}

#[test]
fn an_engine_is_a_source_of_all_tables() {
    let engine = Mem::new();
    let mut expected = Vec::new();
    for (number, table) in Table::ALL.into_iter().enumerate() {
        for row in 0..number as u8 {
            let (key, value) = (Bytes::from(vec![b'k', row]), Bytes::from(vec![row; 1000]));
            engine
                .commit(&[Write::Put { table, key: key.clone(), value: value.clone() }])
                .expect("memory does not fail");
            expected.push(Row { table, key, value });
        }
    }
    let mut writer = Writer::plan(engine.view().expect("memory does not fail")).expect("small");
    // What is committed while it is written is not in it.
    let late = Write::Delete { table: Table::Meta, key: expected[40].key.clone() };
    engine.commit(&[late]).expect("memory does not fail");
    let mut file = Vec::new();
    while let Some(chunk) = writer.next_chunk().expect("memory does not fail") {
        file.extend_from_slice(&chunk);
    }
    let source = &file[..];
    let reader = Reader::open(&source).expect("it is whole");
    let found: Vec<Row> = reader.table_rows().map(|row| row.expect("it is sound")).collect();
    assert_eq!(found, expected);
    let report = reader.table_rows().finish().expect("it is sound");
    assert_eq!(report, Report { buckets: 10, rows: 45, free_pages: 0 });
}

#[test]
fn the_file_comes_in_pieces_of_known_length_from_a_small_buffer() {
    // 12 MiB: many small rows, some that are larger than a piece.
    let sizes = (0..20_000).map(|n| if n % 500 == 0 { 100_000 } else { 400 });
    let tables = tables([("key", rows_of(sizes))]);
    let mut writer = Writer::plan(&tables).expect("rows that fit are planned");
    let size_bytes = writer.size_bytes();
    assert!(size_bytes > 12 << 20);
    let (mut taken, mut held_max) = (0, 0);
    while let Some(chunk) = writer.next_chunk().expect("the same rows") {
        taken += chunk.len() as u64;
        assert_eq!(taken + writer.remaining_bytes(), size_bytes);
        assert!(chunk.len() == CHUNK_BYTES || taken == size_bytes, "a short piece at {taken}");
        held_max = held_max.max(writer.buffered_bytes());
    }
    assert_eq!((taken, writer.remaining_bytes()), (size_bytes, 0));
    assert!(writer.next_chunk().expect("it has ended").is_none());
    // Eight pieces, and the leaf and its branches that made it enough.
    assert!(held_max <= 8 * CHUNK_BYTES + 100_000 + 16 * PAGE_BYTES, "{held_max} bytes at once");
}

/// A source whose second reading is not the first, or that fails in it.
struct Fickle {
    readings: Cell<usize>,
    rows: [Vec<(Vec<u8>, usize)>; 2],
    fails: bool,
}

impl Fickle {
    fn new(first: &[usize], second: &[usize]) -> Self {
        let rows = |sizes: &[usize]| {
            sizes.iter().enumerate().map(|(n, size)| (vec![n as u8 + 1], *size)).collect()
        };
        Self { readings: Cell::new(0), rows: [rows(first), rows(second)], fails: false }
    }
}

impl Source for &Fickle {
    fn tables(&self) -> Vec<&str> {
        vec!["key"]
    }

    fn scan(&self, _: usize, from: &[u8], visit: &mut Visit<'_>) -> Result<(), Fault> {
        let reading = self.readings.get();
        self.readings.set(1);
        for (key, size) in self.rows[reading].iter().filter(|(key, _)| &key[..] >= from) {
            if self.fails && reading == 1 {
                return Err(Fault::Broken("the source failed".into()));
            }
            if visit(key, &vec![0; *size])?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The pieces of a file up to a fault.
fn written(source: &Fickle) -> (u64, Result<(), Fault>) {
    let mut writer = Writer::plan(source).expect("the first reading is good");
    let mut taken = 0;
    loop {
        match writer.next_chunk() {
            Ok(Some(chunk)) => taken += chunk.len() as u64,
            Ok(None) => return (taken, Ok(())),
            Err(fault) => return (taken, Err(fault)),
        }
    }
}

#[test]
fn rows_that_change_between_the_readings_end_the_file() {
    let (taken, same) = written(&Fickle::new(&[5000, 10], &[5000, 10]));
    assert!(same.is_ok() && taken > 0);
    // More pages, fewer pages, as many pages in other places.
    for second in [&[5000, 10, 9000][..], &[10], &[]] {
        let source = Fickle::new(&[5000, 10], second);
        let planned = Writer::plan(&source).expect("the first reading is good").size_bytes();
        source.readings.set(0);
        let (taken, end) = written(&source);
        let fault = end.expect_err("other rows").to_string();
        assert_eq!(fault, "broken invariant: the tables changed while a snapshot was written");
        assert!(taken < planned, "a whole file came out");
    }
    let source = Fickle { fails: true, ..Fickle::new(&[1], &[1]) };
    let (_, end) = written(&source);
    assert_eq!(end.expect_err("it fails").to_string(), "broken invariant: the source failed");
}

/// Rows in the order given, which a map would not keep.
struct Listed<'a>(&'a [(&'a [u8], &'a [u8])]);

impl Source for Listed<'_> {
    fn tables(&self) -> Vec<&str> {
        vec!["key"]
    }

    fn scan(&self, _: usize, _: &[u8], visit: &mut Visit<'_>) -> Result<(), Fault> {
        self.0.iter().try_for_each(|(key, value)| visit(key, value).map(|_| ()))
    }
}

#[test]
fn rows_that_bbolt_cannot_hold_are_refused_before_anything_is_written() {
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    let refused = |rows: &[(&[u8], &[u8])]| {
        Writer::plan(Listed(rows)).err().expect("such rows are refused").to_string()
    };
    let size = "broken invariant: a row of 0 + 1 bytes does not fit into a snapshot";
    assert_eq!(refused(&[(b"", b"v")]), size);
    let size = "broken invariant: a row of 32769 + 1 bytes does not fit into a snapshot";
    assert_eq!(refused(&[(&long, b"v")]), size);
    let order = "broken invariant: rows for a snapshot are out of order";
    assert_eq!(refused(&[(b"b", b""), (b"a", b"")]), order);
    assert_eq!(refused(&[(b"a", b""), (b"a", b"")]), order);
}

#[test]
fn a_file_of_less_than_there_is_is_not_begun() {
    let engine = Mem::new();
    let row = |key: &'static str| Write::Put {
        table: Table::Key,
        key: key.into(),
        value: Bytes::from_static(b"1"),
    };
    engine.commit(&[row("a"), row("b")]).expect("memory takes everything");
    Writer::plan(engine.view().expect("a view")).expect("it is whole");
    engine.lose(Table::Key, b"a");
    let planned = Writer::plan(engine.view().expect("a view")).map(drop);
    assert!(planned.expect_err("a row is gone").to_string().contains("are found of 4"));
}
