//! What every engine must do, as tests an engine's own tests run through [`conformance!`].
//!
//! The oracle is the model engine: the same batches go to both, and every view ever opened must
//! show what the model's view of the same moment shows, for as long as it is held.

use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Engine, Table, View, Write};
use crate::storage::mem::Mem;

/// A place where an engine can be opened again and again.
pub trait Rig {
    fn open(&self) -> Box<dyn Engine>;
    /// How many random histories to try.
    fn histories(&self) -> u32 {
        24
    }
    /// Whether `used_bytes` is exact.
    fn counts_rows(&self) -> bool {
        true
    }
}

/// One `#[test]` per claim, for the rig an expression makes.
macro_rules! conformance {
    ($rig:expr) => {
        $crate::storage::engine::conformance::conformance!($rig;
            reads_what_was_written scans_a_range keeps_tables_apart holds_a_view_still
            stores_big_values scans_100k_rows_in_order commits_large_batches
            behaves_like_the_model_at_random);
    };
    ($rig:expr; $($claim:ident)+) => {
        $(#[test]
        fn $claim() {
            $crate::storage::engine::conformance::$claim(&$rig);
        })+
    };
}
pub(crate) use conformance;

pub type Rows = Vec<(Bytes, Bytes)>;

pub fn put(table: Table, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write {
    let (key, value) = (key.as_ref(), value.as_ref());
    Write::Put { table, key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) }
}

pub fn delete(table: Table, key: impl AsRef<[u8]>) -> Write {
    Write::Delete { table, key: Bytes::copy_from_slice(key.as_ref()) }
}

pub fn rows_of(view: &dyn View, table: Table) -> Rows {
    range_of(view, table, b"", None)
}

fn range_of(view: &dyn View, table: Table, from: &[u8], to: Option<&[u8]>) -> Rows {
    let mut rows = Rows::new();
    let copy = Bytes::copy_from_slice;
    let scanned = view.scan(table, from, to, &mut |key, value| {
        rows.push((copy(key), copy(value)));
        Ok(ControlFlow::Continue(()))
    });
    scanned.unwrap();
    rows
}

/// Everything a view shows.
pub fn contents(view: &dyn View) -> Vec<Rows> {
    Table::ALL.map(|table| rows_of(view, table)).to_vec()
}

/// Requires a view to show what the model shows, by scan and by key.
pub fn assert_same(view: &dyn View, model: &dyn View) {
    for table in Table::ALL {
        let expected = rows_of(model, table);
        assert!(rows_of(view, table) == expected, "table {}", table.name());
        let keys: Vec<&[u8]> = expected.iter().map(|(key, _)| &key[..]).collect();
        let mut seen = 0;
        let found = view.get_each(table, &keys, &mut |at, value| {
            assert_eq!(value, Some(&expected[at].1[..]), "get_each");
            seen += 1;
            Ok(())
        });
        found.unwrap();
        assert_eq!(seen, keys.len());
    }
}

pub fn reads_what_was_written(rig: &impl Rig) {
    let engine = rig.open();
    engine
        .commit(&[put(Table::Key, "a", "1"), put(Table::Key, "b", ""), put(Table::Meta, "", "m")])
        .unwrap();
    let view = engine.view().unwrap();
    assert_eq!(view.get(Table::Key, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(view.get(Table::Key, b"b").unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(view.get(Table::Key, b"c").unwrap(), None);
    assert_eq!(view.get(Table::Meta, b"").unwrap().as_deref(), Some(&b"m"[..]));
    let mut seen = Vec::new();
    view.get_each(Table::Key, &[b"b", b"x", b"a", b"b"], &mut |at, value| {
        seen.push((at, value.map(<[u8]>::to_vec)));
        Ok(())
    })
    .unwrap();
    let some = |value: &str| Some(value.as_bytes().to_vec());
    assert_eq!(seen, [(0, some("")), (1, None), (2, some("1")), (3, some(""))]);
    drop(view);
    // In order within a batch; the last write to a row wins.
    engine
        .commit(&[
            put(Table::Key, "a", "2"),
            delete(Table::Key, "a"),
            delete(Table::Key, "b"),
            put(Table::Key, "b", "3"),
            delete(Table::Key, "never there"),
        ])
        .unwrap();
    engine.commit(&[]).unwrap();
    let expected = [(Bytes::from("b"), Bytes::from("3"))];
    assert_eq!(rows_of(&*engine.view().unwrap(), Table::Key), expected);
    if rig.counts_rows() {
        assert_eq!(engine.used_bytes().unwrap(), 3);
    }
    drop(engine);
    let engine = rig.open();
    assert_eq!(rows_of(&*engine.view().unwrap(), Table::Key), expected);
    assert_eq!(rows_of(&*engine.view().unwrap(), Table::Meta).len(), 1);
    if rig.counts_rows() {
        assert_eq!(engine.used_bytes().unwrap(), 3);
    }
    assert!(engine.size_bytes().unwrap() >= 3);
}

pub fn scans_a_range(rig: &impl Rig) {
    let engine = rig.open();
    let keys = ["", "a", "a\0", "ab", "b", "c"];
    engine.commit(&keys.map(|key| put(Table::Key, key, key))).unwrap();
    let view = engine.view().unwrap();
    let scan = |from: &str, to: Option<&str>| -> Vec<String> {
        let rows = range_of(&*view, Table::Key, from.as_bytes(), to.map(str::as_bytes));
        rows.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
    };
    assert_eq!(scan("", None), keys);
    assert_eq!(scan("a", Some("b")), ["a", "a\0", "ab"]);
    assert_eq!(scan("a\0", Some("a\0\0")), ["a\0"]);
    assert_eq!(scan("bb", None), ["c"]);
    assert_eq!(scan("b", Some("b")), [""; 0]);
    assert_eq!(scan("c", Some("a")), [""; 0]);
    assert_eq!(scan("", Some("")), [""; 0]);
    let mut seen = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        seen += 1;
        Ok(if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    view.scan(Table::Key, b"", None, visit).unwrap();
    assert_eq!(seen, 2);
}

pub fn keeps_tables_apart(rig: &impl Rig) {
    let engine = rig.open();
    let keys: [&[u8]; 4] = [b"", b"\0", b"k", b"\xff\xff"];
    let each = |table: Table| keys.map(move |key| put(table, key, table.name()));
    engine.commit(&Table::ALL.iter().flat_map(|table| each(*table)).collect::<Vec<_>>()).unwrap();
    engine.commit(&keys.map(|key| delete(Table::Lease, key))).unwrap();
    let view = engine.view().unwrap();
    for table in Table::ALL {
        let rows = rows_of(&*view, table);
        let name = Bytes::from(table.name());
        let expected: Rows = keys.map(|key| (Bytes::from(key), name.clone())).to_vec();
        assert_eq!(rows, if table == Table::Lease { Rows::new() } else { expected });
    }
}

/// Views opened before, between and after commits, all held to the end and read last to first.
pub fn holds_a_view_still(rig: &impl Rig) {
    let engine = rig.open();
    let model = Mem::new();
    let mut views = vec![(engine.view().unwrap(), model.view().unwrap())];
    for round in 0..20u32 {
        let mut writes = Vec::new();
        for row in 0..600u32 {
            // Rows come, change, go and come back, in different rounds.
            let key = row.to_be_bytes();
            match (row + round) % 7 {
                0 => writes.push(delete(Table::Key, key)),
                1 | 2 => writes.push(put(Table::Key, key, [round as u8; 40])),
                _ => {}
            }
        }
        let length = if round % 2 == 0 { 300_000 } else { 10 };
        writes.push(put(Table::Auth, "long and short", vec![round as u8; length]));
        engine.commit(&writes).unwrap();
        model.commit(&writes).unwrap();
        views.push((engine.view().unwrap(), model.view().unwrap()));
        if round % 5 == 4 {
            views.remove(views.len() / 2);
        }
    }
    while let Some((view, model)) = views.pop() {
        assert_same(&*view, &*model);
        assert_eq!(view.get(Table::Key, b"never").unwrap(), None);
    }
}

pub fn stores_big_values(rig: &impl Rig) {
    let model = Mem::new();
    let mut engine = rig.open();
    let value = |length: usize| (0..length).map(|at| (at * 7 + at / 251) as u8).collect::<Vec<_>>();
    let chunk = 128 * 1024;
    let lengths = [3 << 19, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 << 19, 4096, 0];
    // Each key goes through the lengths from its own start, then away.
    for round in 0..lengths.len() {
        let mut writes = Vec::new();
        for start in 0..4 {
            let length = lengths[(round + start * 2) % lengths.len()];
            writes.push(put(Table::Key, [start as u8], value(length)));
        }
        writes.push(delete(Table::Key, [round as u8 % 4]));
        engine.commit(&writes).unwrap();
        model.commit(&writes).unwrap();
        assert_same(&*engine.view().unwrap(), &*model.view().unwrap());
        drop(engine);
        engine = rig.open();
        assert_same(&*engine.view().unwrap(), &*model.view().unwrap());
    }
}

pub fn scans_100k_rows_in_order(rig: &impl Rig) {
    let engine = rig.open();
    // Every second row first, then those in between.
    for start in 0..2u32 {
        let rows = (start..100_000).step_by(2);
        let writes: Vec<Write> =
            rows.map(|row| put(Table::Key, row.to_be_bytes(), row.to_le_bytes())).collect();
        writes.chunks(5000).for_each(|batch| engine.commit(batch).unwrap());
    }
    let mut next = 0u32;
    let visit = &mut |key: &[u8], value: &[u8]| {
        assert_eq!((key, value), (&next.to_be_bytes()[..], &next.to_le_bytes()[..]));
        next += 1;
        Ok(ControlFlow::Continue(()))
    };
    engine.view().unwrap().scan(Table::Key, b"", None, visit).unwrap();
    assert_eq!(next, 100_000);
}

/// A batch larger than any segment or buffer of an engine, then the deletion of all of it.
pub fn commits_large_batches(rig: &impl Rig) {
    let engine = rig.open();
    let key = |row: u32| row.to_be_bytes();
    let puts: Vec<Write> = (0..30_000).map(|row| put(Table::Key, key(row), [7; 600])).collect();
    engine.commit(&puts).unwrap();
    drop(engine);
    let engine = rig.open();
    assert_eq!(rows_of(&*engine.view().unwrap(), Table::Key).len(), 30_000);
    let deletes: Vec<Write> = (0..30_000).map(|row| delete(Table::Key, key(row))).collect();
    engine.commit(&deletes).unwrap();
    assert_eq!(rows_of(&*engine.view().unwrap(), Table::Key), []);
    if rig.counts_rows() {
        assert_eq!(engine.used_bytes().unwrap(), 0);
    }
}

/// A step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    Open,
    Close(usize),
    Reopen,
}

fn any_write() -> impl Strategy<Value = Write> {
    let table = prop_oneof![Just(Table::Key), Just(Table::Meta), Just(Table::Lease)];
    let key = prop::collection::vec(prop_oneof![Just(0), Just(b'k'), Just(255)], 0..4);
    let length = prop_oneof![8 => 0..40usize, 1 => 4000..4200usize, 1 => 131_000..270_000usize];
    let value = (any::<u8>(), length).prop_map(|(byte, length)| vec![byte; length]);
    (table, key, proptest::option::weighted(0.7, value)).prop_map(|(table, key, value)| {
        value.map_or_else(|| delete(table, &key), |value| put(table, &key, value))
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any_write(), 0..12).prop_map(Step::Commit),
        3 => Just(Step::Open),
        2 => any::<usize>().prop_map(Step::Close),
        1 => Just(Step::Reopen),
    ]
}

pub fn behaves_like_the_model_at_random(rig: &impl Rig) {
    let steps = prop::collection::vec(any_step(), 1..40);
    let cases = rig.histories();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..<_>::default() });
    let run = runner.run(&steps, |steps| {
        let mut engine = rig.open();
        let model = Mem::new();
        let empty = clear(&*engine);
        engine.commit(&empty).unwrap();
        let mut views: Vec<(Box<dyn View>, Box<dyn View>)> = Vec::new();
        for step in steps {
            match step {
                Step::Commit(writes) => {
                    engine.commit(&writes).unwrap();
                    model.commit(&writes).unwrap();
                }
                Step::Open => views.push((engine.view().unwrap(), model.view().unwrap())),
                Step::Close(at) if !views.is_empty() => {
                    let (view, model) = views.swap_remove(at % views.len());
                    assert_same(&*view, &*model);
                }
                Step::Close(_) => {}
                Step::Reopen => {
                    views.drain(..).for_each(|(view, model)| assert_same(&*view, &*model));
                    drop(engine);
                    engine = rig.open();
                }
            }
            if rig.counts_rows() {
                assert_eq!(engine.used_bytes().unwrap(), model.used_bytes().unwrap());
            }
        }
        views.push((engine.view().unwrap(), model.view().unwrap()));
        views.into_iter().for_each(|(view, model)| assert_same(&*view, &*model));
        Ok(())
    });
    run.unwrap();
}

/// The deletion of every row.
fn clear(engine: &dyn Engine) -> Vec<Write> {
    let view = engine.view().unwrap();
    let of_table =
        |table| rows_of(&*view, table).into_iter().map(move |(key, _)| delete(table, key));
    Table::ALL.into_iter().flat_map(of_table).collect()
}
