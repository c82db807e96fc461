//! A store and its oracle, driven side by side by arbitrary bytes.
//!
//! Every byte string is a valid run: bytes choose what happens next and to which keys. Beside
//! writes and reads that is everything that goes on around a store: publications, checkpoints taken
//! and committed at different times, compactions and their steps, hash jobs that begin late, views
//! held for long, and crashes that lose whatever the engine had not committed, start from an image
//! of whatever age if there is one, and replay the commands after it, as the log would.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::hash::HashJob;
use super::model::{Model, Op};
use super::{Batch, Change, Image, Reader, Step, Store, View};
use crate::error::{Error, Failure};
use crate::input::Input;
use crate::pb;
use crate::span::Span;
use crate::storage::blocks::{self, Writer};
use crate::storage::disk::{Disk, SimDisk};
use crate::storage::engine::{Engine, Table};
use crate::storage::mem::Mem;

/// Runs `bytes` against a store and the oracle; panics where they differ.
pub fn fuzz_against_model(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new();
    while let Some(choice) = input.next() {
        world.step(choice, &mut input);
    }
    world.finish();
}

impl Input<'_> {
    fn key(&mut self) -> Bytes {
        let n = self.below(40);
        Bytes::from(match n {
            0..8 => format!("a{}", n % 4).repeat(1 + usize::from(n) / 4),
            8..32 => format!("/registry/pods/{}/pod-{}", n % 3, n / 3),
            32..36 => format!("/registry/{}", "x".repeat(usize::from(n) * 600)),
            _ => format!("z{}", "\0".repeat(usize::from(n) - 35)),
        })
    }

    fn span(&mut self) -> Span {
        let (key, end) = self.bounds();
        Span::new(key, end)
    }

    fn bounds(&mut self) -> (Bytes, Bytes) {
        match self.below(5) {
            0 | 1 => (self.key(), Bytes::new()),
            2 => (self.key(), Bytes::from_static(b"\0")),
            3 => (Bytes::from_static(b"/registry/"), Bytes::from_static(b"/registry0")),
            _ => (self.key(), self.key()),
        }
    }

    fn op(&mut self) -> Op {
        if self.below(4) == 0 {
            return Op::Delete(self.span());
        }
        let key = self.key();
        let value = self.below(8);
        let value = Bytes::from(vec![b'v'; usize::from(value)]);
        Op::Put { key, value, lease: i64::from(self.below(3)) - 1 }
    }

    /// A revision around those that exist.
    fn revision(&mut self, model: &Model) -> i64 {
        match self.below(4) {
            0 => 0,
            1 => model.compact_revision() + i64::from(self.below(4)) - 1,
            2 => model.revision() + 1 - i64::from(self.below(4)),
            _ => i64::from(self.below(255)) * (model.revision() + 1) / 255,
        }
    }

    fn range(&mut self, model: &Model) -> pb::RangeRequest {
        let (key, range_end) = self.bounds();
        let mut request = pb::RangeRequest { key, range_end, ..Default::default() };
        let options = self.next().unwrap_or(0);
        if options & 1 != 0 {
            request.revision = self.revision(model);
        }
        if options & 2 != 0 {
            request.limit = i64::from(self.below(8)) - 1;
        }
        request.keys_only = options & 4 != 0;
        request.count_only = options & 24 == 24;
        if options & 32 != 0 {
            request.sort_order = i32::from(self.below(3));
            request.sort_target = i32::from(self.below(5));
        }
        if options & 192 == 192 {
            let filter = self.below(15) + 1;
            let mut bound = |bit: u8| match filter & bit {
                0 => 0,
                _ => self.revision(model),
            };
            request.min_mod_revision = bound(1);
            request.max_mod_revision = bound(2);
            request.min_create_revision = bound(4);
            request.max_create_revision = bound(8);
        }
        request
    }
}

/// A command of the log.
#[derive(Clone, Debug)]
enum Command {
    Txn(Vec<Op>),
    Compact(i64),
}

/// A state that was published, and the view that holds it.
struct Kept {
    view: View,
    revision: i64,
    compact_revision: i64,
}

struct World {
    engine: Mem,
    store: Store,
    reader: Reader,
    model: Model,
    /// Commands the engine has not committed.
    log: VecDeque<Command>,
    /// Batches taken and not yet committed, with the commands each completes and maybe an image.
    batches: VecDeque<(Batch, usize, Option<Image>)>,
    /// The newest image that may be believed.
    image: Option<Image>,
    /// Commands since the last batch was taken.
    untaken: usize,
    jobs: Vec<HashJob>,
    views: Vec<Kept>,
    /// What readers were shown last.
    published: (i64, i64),
}

impl World {
    fn new() -> Self {
        let engine = Mem::new();
        let store = Store::open(Arc::new(engine.clone())).expect("an empty engine opens");
        let reader = store.reader();
        Self {
            engine,
            store,
            reader,
            model: Model::default(),
            log: VecDeque::new(),
            batches: VecDeque::new(),
            image: None,
            untaken: 0,
            jobs: Vec::new(),
            views: Vec::new(),
            published: (1, -1),
        }
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        match choice % 32 {
            0..9 => {
                let ops = (0..=input.below(3)).map(|_| input.op()).collect::<Vec<_>>();
                self.transact(&ops, input);
            }
            9..12 => self.publish(),
            12..14 => self.take(input.below(3) == 0),
            14..16 => self.commit(),
            16 => self.compact(input.revision(&self.model)),
            17..20 => self.compact_step(input.below(6)),
            20 => self.run_job(),
            21 => self.keep_view(),
            22 => self.check_views(input),
            23 => self.check_hash(input),
            24 => self.check_history(input),
            25 => self.check_previous(input),
            26 if input.below(4) == 0 => self.crash(),
            _ => self.check_range(input),
        }
    }

    fn transact(&mut self, ops: &[Op], input: &mut Input<'_>) {
        let mut txn = self.store.begin();
        let probe = usize::from(input.below(4));
        for (at, op) in ops.iter().enumerate() {
            let counted = match op {
                Op::Put { key, value, lease } => i64::from(txn.put(key, value, *lease).is_some()),
                Op::Delete(span) => txn.delete_range(span),
            };
            if at == probe {
                // Inside, reads see the changes so far.
                let mut model = self.model.clone();
                let changes = model.apply(&ops[..=at]);
                let request = input.range(&self.model);
                let (revision, floor) = (model.revision(), model.compact_revision());
                same(txn.state().range(&request), model.range(&request, revision, floor), None);
                assert!(counted >= 0 && changes.len() >= usize::from(at == 0 && counted > 0));
            }
        }
        let changes = txn.end();
        assert_eq!(changes.events, self.model.apply(ops), "events of {ops:?}");
        assert_eq!(changes.revision, self.model.revision());
        self.note(Command::Txn(ops.to_vec()));
    }

    fn note(&mut self, command: Command) {
        self.log.push_back(command);
        self.untaken += 1;
    }

    fn publish(&mut self) {
        self.store.publish();
        self.published = (self.model.revision(), self.model.compact_revision());
    }

    fn take(&mut self, with_image: bool) {
        let batch = self.store.take_writes();
        let image = with_image.then(|| self.store.image());
        self.batches.push_back((batch, std::mem::take(&mut self.untaken), image));
    }

    fn commit(&mut self) {
        let Some((batch, commands, image)) = self.batches.pop_front() else { return };
        let mut writes = Vec::new();
        batch.writes(&mut writes);
        assert_eq!(writes.is_empty(), batch.is_empty());
        self.engine.commit(&writes).expect("the model engine commits");
        self.reader.checkpointed(batch.revision());
        self.log.drain(..commands);
        self.image = image.map(|image| stored(&image)).or(self.image.take());
    }

    fn compact(&mut self, revision: i64) {
        let answer = self.store.compact(revision);
        assert_eq!(answer, self.model.compact(revision), "compact {revision}");
        if answer.is_ok() {
            self.jobs.extend(self.store.compaction_job());
            self.note(Command::Compact(revision));
        }
    }

    fn compact_step(&mut self, budget: u8) {
        if self.store.compact_step(usize::from(budget)) == Step::Done {
            assert!(self.jobs.is_empty(), "no compaction ends before its hash has begun");
        }
    }

    fn run_job(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let hash = self.jobs.remove(0).run().expect("the model engine reads");
        let want = self.model.compaction_hash(hash.hash_revision).expect("it was compacted");
        assert_eq!((hash.hash, hash.compact_revision), (want.hash, want.compact_revision));
    }

    fn keep_view(&mut self) {
        let (revision, compact_revision) = self.published;
        self.views.push(Kept { view: self.reader.view(), revision, compact_revision });
        if self.views.len() > 4 {
            self.views.remove(0);
        }
    }

    fn check_views(&self, input: &mut Input<'_>) {
        for kept in &self.views {
            assert_eq!(kept.view.revision(), kept.revision);
            let request = input.range(&self.model);
            let want = self.model.range(&request, kept.revision, kept.compact_revision);
            let at = if request.revision <= 0 { kept.revision } else { request.revision };
            let overtaken = (at < self.published.1).then_some(Error::Compacted);
            same(kept.view.range(&request), want, overtaken);
        }
    }

    fn check_range(&self, input: &mut Input<'_>) {
        let request = input.range(&self.model);
        let (revision, compact_revision) = self.published;
        let want = self.model.range(&request, revision, compact_revision);
        same(self.reader.range(&request), want, None);
        let plain = pb::RangeRequest {
            key: request.key,
            range_end: request.range_end,
            limit: request.limit,
            revision: request.revision,
            keys_only: request.keys_only,
            count_only: request.count_only,
            ..Default::default()
        };
        let want = self.model.range(&plain, revision, compact_revision);
        same(self.paged(&plain, usize::from(input.below(250))), want, None);
    }

    /// A range put together from its pages.
    fn paged(
        &self,
        request: &pb::RangeRequest,
        size_bytes: usize,
    ) -> Result<pb::RangeResponse, Failure> {
        let mut pages = self.reader.view().pages(request, size_bytes)?;
        let mut whole = pb::RangeResponse::default();
        while let Some(page) = pages.next_page()? {
            assert!(whole.header.is_none(), "only the last page has a header");
            let kvs = [whole.kvs, page.kvs.clone()].concat();
            whole = pb::RangeResponse { kvs, ..page };
        }
        Ok(whole)
    }

    fn check_hash(&mut self, input: &mut Input<'_>) {
        self.publish();
        let revision = input.revision(&self.model).max(0);
        let answer = self.reader.hash_kv(revision).map_err(refusal);
        let want = match self.reader.shared.hashes.lock().get(revision) {
            Some(kept) => Ok(super::HashKv { revision: self.model.revision(), ..kept }),
            None => self.model.hash_kv(revision),
        };
        assert_eq!(answer, want, "hash at {revision}");
    }

    fn check_history(&mut self, input: &mut Input<'_>) {
        self.publish();
        let from = input.revision(&self.model);
        let (mut events, mut next) = (Vec::new(), Some(from));
        let view = self.reader.view();
        while let Some(from) = next {
            let mut piece = Vec::new();
            let max = 1 + usize::from(input.below(4));
            match view.history(from, i64::MAX, max, &mut |change| piece.push(change)) {
                Ok(go_on) => next = go_on,
                Err(failure) => {
                    assert_eq!(refusal(failure), Error::Compacted);
                    assert!(from < self.model.compact_revision());
                    return;
                }
            }
            events.append(&mut piece);
        }
        assert!(from >= self.model.compact_revision());
        let mut want = self.model.history(from, i64::MAX);
        for events in [&mut events, &mut want] {
            settle(events, self.model.compact_revision());
        }
        assert_eq!(events, want, "history from {from}");
    }

    fn check_previous(&self, input: &mut Input<'_>) {
        let (key, revision) = (input.key(), input.revision(&self.model));
        let (newest, floor) = self.published;
        let found = self.reader.previous(&key, revision).expect("the past has no faults");
        let at = revision - 1;
        if at < floor || at <= 0 || at > newest {
            assert!(found.is_none() || at > newest);
            return;
        }
        let want = self.model.get(&key, at).map(prost::Message::encode_to_vec);
        assert_eq!(found.map(Vec::from), want, "before {revision}");
    }

    /// Loses everything the engine has not committed and applies it again.
    fn crash(&mut self) {
        let engine: Arc<dyn Engine> = Arc::new(self.engine.clone());
        self.jobs.clear();
        self.views.clear();
        self.batches.clear();
        let image = self.image.clone();
        self.store = Store::open_with(engine, image).expect("what was committed opens");
        self.reader = self.store.reader();
        self.untaken = 0;
        for command in std::mem::take(&mut self.log) {
            match &command {
                Command::Txn(ops) => {
                    let mut txn = self.store.begin();
                    for op in ops {
                        match op {
                            Op::Put { key, value, lease } => drop(txn.put(key, value, *lease)),
                            Op::Delete(span) => drop(txn.delete_range(span)),
                        }
                    }
                    txn.end();
                }
                Command::Compact(revision) => {
                    self.store.compact(*revision).expect("it was accepted before");
                }
            }
            self.note(command);
        }
        assert_eq!(self.store.revision(), self.model.revision());
        self.publish();
    }

    /// Lets everything come to rest and compares the engine's rows with the oracle's.
    fn finish(mut self) {
        self.publish();
        self.jobs.clear();
        loop {
            let step = self.store.compact_step(7);
            self.take(false);
            while !self.batches.is_empty() {
                self.commit();
            }
            match step {
                Step::Done => break,
                Step::More => {}
                Step::Waiting => panic!("nothing to wait for"),
            }
        }
        let mut rows = Vec::new();
        let view = self.engine.view().expect("the model engine reads");
        view.scan(Table::Key, &[], None, &mut |key, row| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .expect("the model engine reads");
        assert_eq!(rows, self.model.kept(self.model.compact_revision()));
        let hash = self.model.hash_kv(0);
        self.crash();
        assert_eq!(self.reader.hash_kv(0).map_err(refusal), hash);
        assert_eq!(self.reader.buffered_bytes(), 0, "a restart buffers nothing");
    }
}

/// An image after it was written and read.
fn stored(image: &Image) -> Image {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let path = Path::new("/image");
    let mut writer = Writer::create(&disk, path).expect("the simulated disk writes");
    image.write(&mut writer).expect("the simulated disk writes");
    writer.finish().expect("the simulated disk writes");
    let reader = blocks::Reader::open(&*disk, path).expect("the simulated disk reads");
    Image::read(&mut reader.expect("it was just written")).expect("it is whole")
}

/// Leaves out what a transaction at the compact revision changed again itself: whether those rows
/// are still there depends on how far deletion has come.
fn settle(events: &mut Vec<Change>, compact_revision: i64) {
    let all = events.clone();
    let again = |event: &Change| {
        let later = |other: &&Change| other.key == event.key && other.revision > event.revision;
        all.iter().filter(later).any(|other| other.revision.main == compact_revision)
    };
    events.retain(|event| event.revision.main != compact_revision || !again(event));
}

/// Panics unless the store answers as the oracle does, or with what is also allowed.
fn same(
    answer: Result<pb::RangeResponse, Failure>,
    want: Result<pb::RangeResponse, Error>,
    also: Option<Error>,
) {
    let answer = answer.map_err(refusal);
    if answer.as_ref().err().is_none_or(|error| also.as_ref() != Some(error)) {
        assert_eq!(answer, want);
    }
}

fn refusal(failure: Failure) -> Error {
    match failure {
        Failure::Refused(error) => error,
        Failure::Fault(fault) => panic!("{fault}"),
    }
}
