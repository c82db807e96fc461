//! The index against a map of full histories.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// Per key, every state it ever had since history begins.
type Model = BTreeMap<Vec<u8>, Vec<Head>>;

fn live_at(states: &[Head], at: i64) -> Option<Facts> {
    states.iter().rev().find(|head| head.facts.revision.main <= at).and_then(|head| head.live())
}

fn expected(model: &Model, span: &Span, at: i64) -> Vec<(Vec<u8>, Facts)> {
    let live = |(key, states): (&Vec<u8>, &Vec<Head>)| Some((key.clone(), live_at(states, at)?));
    model.iter().filter(|(key, _)| span.contains(key)).filter_map(live).collect()
}

fn visited(index: &Index, span: &Span, at: i64) -> Vec<(Vec<u8>, Facts)> {
    let mut found = Vec::new();
    index.visit(span, at, &mut |key, facts| {
        found.push((key.to_vec(), facts));
        ControlFlow::Continue(())
    });
    found
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    Delete(Vec<u8>),
    /// Takes a snapshot, so that further changes copy.
    Snapshot,
    /// Compacts to this fraction (in 256ths) of the current revision.
    Compact(u8),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0..200u8).prop_map(|n| format!("/registry/pods/{}/{n}", n % 7).into_bytes()),
        4 => proptest::collection::vec(0..4u8, 0..6),
        1 => (0..9000usize).prop_map(|n| vec![b'x'; n]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => key().prop_map(Step::Put),
        8 => key().prop_map(Step::Delete),
        2 => Just(Step::Snapshot),
        1 => any::<u8>().prop_map(Step::Compact),
    ]
}

/// Compacts as the store does: walks the log, forgets old tombstones, drops history.
fn compact(
    index: &mut Index,
    model: &mut Model,
    at: i64,
    tombstones: &mut Vec<(Vec<u8>, Revision)>,
) {
    let mut sequence = index.oldest();
    while let Some((replaced, next)) = index.replaced(sequence) {
        if replaced.by > at {
            break;
        }
        sequence = next;
    }
    index.drop_history(sequence);
    tombstones.retain(|(key, revision)| {
        if revision.main < at {
            index.forget(key, *revision);
        }
        revision.main >= at
    });
    model.retain(|_, states| {
        let newest = states.iter().rposition(|head| head.facts.revision.main <= at).unwrap_or(0);
        states.drain(..newest);
        let dead = |head: &Head| head.tombstone && head.facts.revision.main < at;
        if states.first().is_some_and(dead) {
            states.remove(0);
        }
        !states.is_empty()
    });
}

fn run(steps: Vec<Step>) {
    let (mut index, mut model, mut snapshots) = (Index::default(), Model::new(), Vec::new());
    let (mut revision, mut floor, mut tombstones) = (1, 0, Vec::new());
    for step in steps {
        match step {
            Step::Put(key) => {
                revision += 1;
                let states = model.entry(key.clone()).or_default();
                let before = states.last().and_then(|head| head.live());
                let revision = Revision::new(revision, 0);
                let facts = Facts {
                    revision,
                    create_revision: before.map_or(revision.main, |f| f.create_revision),
                    version: before.map_or(1, |f| f.version + 1),
                };
                let head = Head { facts, tombstone: false };
                assert_eq!(index.put(&key, head).and_then(Head::live), before);
                states.push(head);
            }
            Step::Delete(key) => {
                let Some(states) = model.get_mut(&key) else { continue };
                let Some(before) = states.last().and_then(|head| head.live()) else { continue };
                revision += 1;
                let revision = Revision::new(revision, 0);
                let head = Head { facts: Facts { revision, ..before }, tombstone: true };
                assert_eq!(index.put(&key, head).and_then(Head::live), Some(before));
                tombstones.push((key, revision));
                states.push(head);
            }
            Step::Snapshot => snapshots.push((index.clone(), model.clone(), revision, floor)),
            Step::Compact(part) => {
                let at = (revision * i64::from(part)) >> 8;
                if at > floor {
                    floor = at;
                    compact(&mut index, &mut model, at, &mut tombstones);
                }
            }
        }
        index.check();
    }
    snapshots.push((index, model, revision, floor));
    for (index, model, revision, floor) in snapshots {
        compare(&index, &model, revision, floor);
    }
}

fn compare(index: &Index, model: &Model, revision: i64, floor: i64) {
    let bytes = |key: &'static [u8]| Bytes::from_static(key);
    let spans = [
        Span::new(bytes(b""), bytes(b"\0")),
        Span::new(bytes(b"/registry/pods/2"), bytes(b"/registry/pods/5")),
        Span::new(bytes(b"\x01"), bytes(b"\x02\x01")),
        Span::new(bytes(b"/registry/pods/3/3"), bytes(b"")),
    ];
    let revisions = (floor.max(1)..=revision).step_by(1 + revision as usize / 13);
    for at in revisions.chain([revision, NOW]) {
        for span in &spans {
            let want = expected(model, span, at);
            assert_eq!(index.count(span, at), want.len() as i64, "count at {at}");
            assert_eq!(visited(index, span, at), want, "visit at {at}");
        }
        for (key, states) in model {
            assert_eq!(index.get(key, at), live_at(states, at), "get at {at}");
        }
    }
    for (key, states) in model {
        let head = index.head(key).expect("the model's key is in the index");
        let want = states.last().expect("no key without states");
        assert_eq!((head.facts.revision, head.tombstone), (want.facts.revision, want.tombstone));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_index_remembers_what_a_map_of_histories_does(
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        run(steps);
    }
}

#[test]
fn a_tree_grows_and_shrinks_through_all_heights() {
    let mut index = Index::default();
    let keys: Vec<String> =
        (0..20_000).map(|n| format!("/registry/{:05}", n * 7919 % 20_000)).collect();
    let mut revision = 1;
    for key in &keys {
        revision += 1;
        let facts =
            Facts { revision: Revision::new(revision, 0), create_revision: revision, version: 1 };
        index.put(key.as_bytes(), Head { facts, tombstone: false });
    }
    index.check();
    let all = Span::new(Bytes::from_static(b"/"), Bytes::from_static(b"\0"));
    assert_eq!(index.count(&all, NOW), 20_000);
    let full = index.clone();
    for key in &keys {
        revision += 1;
        let facts = Facts { revision: Revision::new(revision, 0), ..Facts::default() };
        index.put(key.as_bytes(), Head { facts, tombstone: true });
        assert!(index.forget(key.as_bytes(), facts.revision));
        if revision % 997 == 0 {
            index.check();
        }
    }
    index.check();
    assert_eq!(index.count(&all, NOW), 0);
    assert_eq!(full.count(&all, NOW), 20_000);
}
