//! The index and a map of full histories, driven side by side by arbitrary bytes.
//!
//! Beside puts and deletions there are snapshots, which make what follows copy, and compactions,
//! which forget tombstones and drop the log's front.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Builder, Facts, Head, Index, NOW, Pieces};
use crate::error::Fault;
use crate::mvcc::revision::Revision;
use crate::span::Span;

/// Runs `bytes` against an index and a map; panics where they differ.
pub fn fuzz_index(bytes: &[u8]) {
    let mut run = Run::default();
    for piece in bytes.chunks(3) {
        let [choice, a, b] = [0, 1, 2].map(|at| piece.get(at).copied().unwrap_or(0));
        match choice % 32 {
            0..20 => run.put(key(a, b)),
            20..28 => run.delete(key(a, b)),
            28..31 => run.snapshot(),
            _ => run.compact(a),
        }
    }
    run.snapshot();
    for snapshot in &run.snapshots {
        snapshot.compare();
    }
}

/// Keys of many shapes: deep paths that share much, short ones that share little, long ones.
fn key(a: u8, b: u8) -> Vec<u8> {
    match a % 16 {
        0..9 => format!("/registry/pods/{}/{b}", a % 7).into_bytes(),
        9..15 => (0..b % 6).map(|at| (a >> at) & 3).collect(),
        _ => vec![b'x'; usize::from(b) * 36],
    }
}

/// An index and, per key, every state it had since history begins.
#[derive(Clone, Default)]
struct Pair {
    index: Index,
    states: BTreeMap<Vec<u8>, Vec<Head>>,
    revision: i64,
    floor: i64,
}

#[derive(Default)]
struct Run {
    pair: Pair,
    tombstones: Vec<(Vec<u8>, Revision)>,
    snapshots: Vec<Pair>,
}

impl Run {
    fn put(&mut self, key: Vec<u8>) {
        let before = self.pair.live(&key);
        let revision = self.next();
        let facts = Facts {
            revision,
            create_revision: before.map_or(revision.main, |facts| facts.create_revision),
            version: before.map_or(1, |facts| facts.version + 1),
            leased: key.len() % 3 == 1,
        };
        self.note(key, Head { facts, tombstone: false }, before);
    }

    fn delete(&mut self, key: Vec<u8>) {
        let Some(before) = self.pair.live(&key) else { return };
        let facts = Facts { revision: self.next(), ..before };
        self.tombstones.push((key.clone(), facts.revision));
        self.note(key, Head { facts, tombstone: true }, Some(before));
    }

    fn next(&mut self) -> Revision {
        self.pair.revision += 1;
        Revision::new(self.pair.revision, 0)
    }

    fn note(&mut self, key: Vec<u8>, head: Head, before: Option<Facts>) {
        assert_eq!(self.pair.index.put(&key, head).and_then(Head::live), before);
        self.pair.states.entry(key).or_default().push(head);
    }

    /// Keeps the pair as it is; the snapshot goes on with an index built from stored pieces.
    fn snapshot(&mut self) {
        self.pair.index.check();
        let mut pieces = Stored::default();
        self.pair.index.save(&mut pieces).expect("memory takes everything");
        let index = pieces.0.build(self.pair.index.sequences()).expect("its own pieces fit");
        index.check();
        let kept =
            Pair { index: std::mem::replace(&mut self.pair.index, index), ..self.pair.clone() };
        self.snapshots.push(kept);
        if self.snapshots.len() > 4 {
            self.snapshots.remove(0).compare();
        }
    }

    /// Compacts as the store does: walks the log, forgets old tombstones, drops history.
    fn compact(&mut self, part: u8) {
        let at = (self.pair.revision * i64::from(part)) >> 8;
        if at <= self.pair.floor {
            return;
        }
        self.pair.floor = at;
        let index = &mut self.pair.index;
        let mut sequence = index.oldest();
        while let Some((replaced, next)) = index.replaced(sequence) {
            if replaced.by > at {
                break;
            }
            sequence = next;
        }
        index.drop_history(sequence);
        self.tombstones.retain(|(key, revision)| {
            if revision.main < at {
                index.forget(key, *revision);
            }
            revision.main >= at
        });
        self.pair.states.retain(|_, states| {
            let kept = |head: &Head| head.facts.revision.main <= at;
            let newest = states.iter().rposition(kept).unwrap_or(0);
            states.drain(..newest);
            let dead = |head: &Head| head.tombstone && head.facts.revision.main < at;
            if states.first().is_some_and(dead) {
                states.remove(0);
            }
            !states.is_empty()
        });
        index.check();
    }
}

/// The pieces of an index, stored in the parts of the next.
#[derive(Default)]
struct Stored(Builder);

impl Pieces for Stored {
    fn leaf(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        assert!(self.0.leaf(bytes), "what was saved is a leaf");
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        assert!(self.0.chunk(bytes), "what was saved is a chunk");
        Ok(())
    }
}

impl Pair {
    fn live(&self, key: &[u8]) -> Option<Facts> {
        self.states.get(key).and_then(|states| states.last()).and_then(|head| head.live())
    }

    fn compare(&self) {
        let bytes = |key: &'static [u8]| Bytes::from_static(key);
        let spans = [
            Span::new(bytes(b""), bytes(b"\0")),
            Span::new(bytes(b"/registry/pods/2"), bytes(b"/registry/pods/5")),
            Span::new(bytes(b"\x01"), bytes(b"\x02\x01")),
            Span::new(bytes(b"/registry/pods/3/3"), bytes(b"")),
            Span::new(bytes(b"x"), bytes(b"w")),
        ];
        let step = 1 + self.revision as usize / 7;
        for at in (self.floor.max(1)..=self.revision).step_by(step).chain([self.revision, NOW]) {
            for span in &spans {
                let want = self.expected(span, at);
                assert_eq!(self.index.count(span, at), want.len() as i64, "count at {at}");
                assert_eq!(self.visited(span, at), want, "visit at {at}");
            }
            for (key, states) in &self.states {
                assert_eq!(self.index.get(key, at), live_at(states, at), "get at {at}");
            }
        }
        for (key, states) in &self.states {
            assert_eq!(self.index.head(key).as_ref(), states.last(), "head of {key:?}");
        }
    }

    fn expected(&self, span: &Span, at: i64) -> Vec<(Vec<u8>, Facts)> {
        let live =
            |(key, states): (&Vec<u8>, &Vec<Head>)| Some((key.clone(), live_at(states, at)?));
        self.states.iter().filter(|(key, _)| span.contains(key)).filter_map(live).collect()
    }

    fn visited(&self, span: &Span, at: i64) -> Vec<(Vec<u8>, Facts)> {
        let mut found = Vec::new();
        self.index.visit(span, at, &mut |key, facts| {
            found.push((key.to_vec(), facts));
            ControlFlow::Continue(())
        });
        found
    }
}

fn live_at(states: &[Head], at: i64) -> Option<Facts> {
    let visible = |head: &&Head| head.facts.revision.main <= at;
    states.iter().rev().find(visible).and_then(|head| head.live())
}
