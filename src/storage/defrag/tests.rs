//! A copy made while the source changes is the source.

use proptest::prelude::*;

use super::*;
use crate::storage::engine::conformance::{assert_same, contents, delete, put};
use crate::storage::mem::Mem;
use crate::storage::state::read_all;

/// What the owner of an engine does while it is defragmented.
#[derive(Clone, Debug)]
enum Act {
    Commit(Vec<Write>),
    Step(usize),
}

fn any_write() -> impl Strategy<Value = Write> {
    let table = prop::sample::select(&Table::ALL[..]);
    let key = prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4);
    let value = prop::collection::vec(any::<u8>(), 0..30);
    (table, key, proptest::option::weighted(0.7, value)).prop_map(|(table, key, value)| {
        value.map_or_else(|| delete(table, &key), |value| put(table, &key, value))
    })
}

fn any_act() -> impl Strategy<Value = Act> {
    let writes = |length| prop::collection::vec(any_write(), length);
    prop_oneof![writes(0..10).prop_map(Act::Commit), (0..300usize).prop_map(Act::Step)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn the_copy_equals_the_source_when_done(
        base in prop::collection::vec(any_write(), 0..200),
        acts in prop::collection::vec(any_act(), 0..60),
    ) {
        let (source, copy) = (Mem::new(), Mem::new());
        source.commit(&base).unwrap();
        let mut defrag = Defrag::new();
        let check = |defrag: &Defrag| {
            if defrag.progress() == Progress::Done {
                assert_same(&*copy.view().unwrap(), &*source.view().unwrap());
            }
        };
        for act in acts {
            match act {
                Act::Commit(writes) => {
                    source.commit(&writes).unwrap();
                    copy.commit(&defrag.mirror(&writes)).unwrap();
                }
                Act::Step(budget) => drop(defrag.step(&source, &copy, budget).unwrap()),
            }
            check(&defrag);
        }
        while defrag.step(&source, &copy, 100).unwrap() == Progress::More {}
        check(&defrag);
        // Done stays done: commits go to both, steps change nothing.
        let late = [put(Table::Key, "late", "1"), delete(Table::Meta, "")];
        source.commit(&late).unwrap();
        copy.commit(&defrag.mirror(&late)).unwrap();
        prop_assert_eq!(defrag.step(&source, &copy, 100).unwrap(), Progress::Done);
        check(&defrag);
    }
}

#[test]
fn a_step_copies_no_more_than_its_budget() {
    let (source, copy) = (Mem::new(), Mem::new());
    let rows: Vec<Write> = (0..100u8).map(|row| put(Table::Key, [row], [0; 67])).collect();
    source.commit(&rows).unwrap();
    let mut defrag = Defrag::new();
    let mut steps = 0;
    while defrag.step(&source, &copy, 1000).unwrap() == Progress::More {
        steps += 1;
        let copied = contents(&*copy.view().unwrap())[Table::Key as usize].len();
        assert_eq!(copied, 10 * steps);
    }
    assert_eq!(steps, 10);
}

#[test]
fn a_step_copies_one_row_at_least() {
    let (source, copy) = (Mem::new(), Mem::new());
    source.commit(&[put(Table::Key, "k", "v"), put(Table::Meta, "m", "w")]).unwrap();
    let mut defrag = Defrag::new();
    assert_eq!(defrag.step(&source, &copy, 0).unwrap(), Progress::More);
    assert_eq!(defrag.step(&source, &copy, 0).unwrap(), Progress::More);
    assert_eq!(defrag.step(&source, &copy, 0).unwrap(), Progress::Done);
    assert_same(&*copy.view().unwrap(), &*source.view().unwrap());
}

#[test]
fn a_copy_with_rows_is_refused() {
    let (source, copy) = (Mem::new(), Mem::new());
    copy.commit(&[put(Table::Lease, "l", "")]).unwrap();
    let refused = Defrag::new().step(&source, &copy, 1).unwrap_err();
    assert_eq!(refused.to_string(), "broken invariant: the copy already has rows in lease");
}

#[test]
fn rows_that_are_not_found_are_missed() {
    let (source, copy) = (Mem::new(), Mem::new());
    source.commit(&[put(Table::Key, "a", "1"), put(Table::Key, "b", "2")]).unwrap();
    read_all(&source).expect("it is whole");
    source.lose(Table::Key, b"a");
    for refused in [read_all(&source), Defrag::new().step(&source, &copy, 100).map(drop)] {
        let told = refused.expect_err("a row is gone").to_string();
        assert!(told.contains("2 bytes of rows are found of 4"), "{told}");
    }
}
