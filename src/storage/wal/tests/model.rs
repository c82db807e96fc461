//! The naive log, a scripted workload, and the question whether a recovered log is the model's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Fault;
use crate::storage::disk::SimDisk;
use crate::storage::disk::sim::Seed;
use crate::storage::wal::*;

pub const IDENTITY: Identity = Identity { cluster_id: 0xc1, member_id: 0x11 };
/// Small, so that a short script meets many boundaries.
pub const OPTIONS: Options = Options { segment_bytes: 16 * 1024, prefill: false };

pub fn dir() -> PathBuf {
    PathBuf::from("/data/wal")
}

pub fn create(disk: &SimDisk) -> Result<Wal, Fault> {
    Wal::create(Arc::new(disk.clone()), &dir(), IDENTITY, OPTIONS)
}

pub fn open(disk: &SimDisk) -> Result<(Wal, Recovered), Fault> {
    Wal::open(Arc::new(disk.clone()), &dir(), Some(IDENTITY), OPTIONS)
}

pub fn exists(disk: &SimDisk) -> bool {
    Wal::exists(disk, Path::new(&dir())).expect("the directory can be listed")
}

/// A [`Batch`] that owns its entries.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub snapshot: Option<Mark>,
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
}

impl Written {
    pub fn batch(&self) -> Batch<'_> {
        let Written { snapshot, entries, hard_state } = self;
        Batch { snapshot: *snapshot, entries, hard_state: *hard_state }
    }
}

/// What the log should hold; nothing is ever released from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub hard_state: HardState,
    pub snapshot: Snapshot,
    /// The index before the first entry.
    pub base: u64,
    pub entries: Vec<Entry>,
}

impl Model {
    pub fn last_index(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub fn apply(&mut self, written: &Written) {
        match written.snapshot {
            Some(Mark::Installed(snapshot)) => {
                self.entries.clear();
                self.base = snapshot.index;
                self.snapshot = snapshot;
            }
            Some(Mark::Taken(snapshot)) => self.snapshot = snapshot,
            None => {}
        }
        if let Some(first) = written.entries.first() {
            self.entries.truncate((first.index - self.base - 1) as usize);
            self.entries.extend(written.entries.iter().cloned());
        }
        self.hard_state = written.hard_state.unwrap_or(self.hard_state);
    }

    /// Whether a recovered log is this one, less what was released from its front.
    pub fn is(&self, recovered: &Recovered) -> bool {
        let held = recovered.entries.len();
        let covered = recovered.entries.first().map_or(self.last_index(), |e| e.index - 1);
        recovered.identity == IDENTITY
            && recovered.hard_state == self.hard_state
            && recovered.snapshot == self.snapshot
            && covered <= self.snapshot.index
            && held <= self.entries.len()
            && recovered.entries == self.entries[self.entries.len() - held..]
    }
}

/// One step of a workload.
#[derive(Clone, Debug)]
pub enum Step {
    Append(Written),
    Sync,
    Release(u64),
    Reserve,
}

/// A workload of `count` batches: appends of all sizes, votes, conflicts, snapshots of both kinds,
/// several batches to a sync, releases, reserves.
pub fn workload(seed: u64, count: usize) -> Vec<Step> {
    follow(&Model::default(), seed, count)
}

/// A workload that goes on from a log.
pub fn follow(model: &Model, seed: u64, count: usize) -> Vec<Step> {
    let mut seed = Seed::new(seed);
    let mut model = model.clone();
    let mut steps = Vec::new();
    for _ in 0..count {
        let written = next(&mut seed, &model);
        model.apply(&written);
        steps.push(Step::Append(written));
        if seed.below(3) > 0 {
            steps.push(Step::Sync);
        }
        match seed.below(8) {
            0 => steps.push(Step::Reserve),
            1 | 2 => steps.push(Step::Release(model.snapshot.index)),
            _ => {}
        }
    }
    steps.push(Step::Sync);
    steps
}

fn next(seed: &mut Seed, model: &Model) -> Written {
    let mut written = Written::default();
    let mut hard_state = model.hard_state;
    let (committed, last) = (hard_state.commit, model.last_index());
    let mut from = last + 1;
    match seed.below(16) {
        // A leader far ahead, now and then with a log that contradicts ours.
        0 => {
            let index = committed + seed.below(12).max(1);
            let index = index.max(model.snapshot.index);
            let snapshot = Snapshot { index, term: hard_state.term.max(1) };
            written.snapshot = Some(Mark::Installed(snapshot));
            hard_state.commit = index;
            written.hard_state = Some(hard_state);
            return written;
        }
        1..4 if committed > model.snapshot.index => {
            let snapshot = Snapshot { index: committed, term: hard_state.term };
            written.snapshot = Some(Mark::Taken(snapshot));
        }
        // A new leader replaces what was not committed.
        4..6 => {
            hard_state.term += 1;
            hard_state.vote = 0;
            from = committed.max(model.snapshot.index) + 1;
            from += seed.below(last + 2 - from);
        }
        6 => {
            hard_state.term += 1;
            hard_state.vote = 1 + seed.below(3);
            written.hard_state = Some(hard_state);
            return written;
        }
        _ => {}
    }
    hard_state.term = hard_state.term.max(1);
    let count = [1, 1, 1, 2, 3, 7, 40][seed.below(7) as usize];
    written.entries = (0..count).map(|n| entry(seed, hard_state.term, from + n)).collect();
    let last = from + count - 1;
    hard_state.commit += seed.below(last - hard_state.commit + 1);
    if seed.coin() || hard_state.term != model.hard_state.term {
        written.hard_state = Some(hard_state);
    }
    written
}

pub fn entry(seed: &mut Seed, term: u64, index: u64) -> Entry {
    let length = match seed.below(8) {
        0 => 0,
        1 => 470 + seed.below(90),
        2 => 1500,
        _ => seed.below(120),
    };
    let kind = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2];
    let kind = kind[seed.below(3) as usize];
    let mut data = vec![0; length as usize];
    seed.fill(&mut data);
    Entry { term, index, kind, data: Bytes::from(data) }
}

/// How far a workload came.
#[derive(Debug, Default)]
pub struct Progress {
    pub created: bool,
    /// The log after each batch that was begun, oldest first, the empty log before all.
    pub states: Vec<Model>,
    /// Which of them was the newest whenever a sync succeeded.
    pub syncs: Vec<usize>,
    pub finished: Option<Fault>,
    pub wal: Option<Wal>,
}

/// Runs a workload until something fails.
pub fn run(disk: &SimDisk, steps: &[Step]) -> Progress {
    let mut progress = Progress { states: vec![Model::default()], ..Progress::default() };
    match create(disk) {
        Ok(wal) => {
            progress.created = true;
            go_on(wal, steps, &mut progress);
        }
        Err(fault) => progress.finished = Some(fault),
    }
    progress
}

/// Runs steps on an open log.
pub fn go_on(mut wal: Wal, steps: &[Step], progress: &mut Progress) {
    for step in steps {
        let result = match step {
            Step::Append(written) => {
                let mut state = progress.states.last().expect("never empty").clone();
                state.apply(written);
                progress.states.push(state);
                wal.append(&written.batch()).map(drop)
            }
            Step::Sync => wal.sync(),
            Step::Release(index) => wal.release(*index).map(drop),
            Step::Reserve => wal.reserve(),
        };
        if let Err(fault) = result {
            progress.finished = Some(fault);
            break;
        }
        if matches!(step, Step::Sync) {
            progress.syncs.push(progress.states.len() - 1);
        }
    }
    progress.wal = Some(wal);
}

impl Progress {
    /// The state a recovered log is in, if it is no older than the last sync.
    pub fn left(&self, recovered: &Recovered) -> Option<&Model> {
        let durable = self.syncs.last().copied().unwrap_or(0);
        self.states[durable..].iter().find(|state| state.is(recovered))
    }

    /// Whether a recovered log is one of those that may be left: no older than the last sync.
    pub fn allows(&self, recovered: &Recovered) -> bool {
        self.left(recovered).is_some()
    }
}
