//! Crashes at every disk operation of a workload, and what the file then opens as.
//!
//! The claim: exactly one of the commits, complete, and none older than the last acknowledged.
//!
//! `Crash::Garbage` is left out: redb, like every engine that overwrites its header in place, needs
//! a torn write to leave old or new sectors, not noise.

use super::*;
use crate::storage::disk::SimDisk;
use crate::storage::disk::sim::{Crash, Seed};
use crate::storage::engine::conformance::{Rows, contents};
use crate::storage::mem::Mem;

const CACHE_BYTES: usize = 1 << 20;
const PATH: &str = "/db";

fn open(disk: &SimDisk) -> Result<Redb, Fault> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Redb::open(&disk, Path::new(PATH), CACHE_BYTES)
}

/// Batches that append, overwrite, delete, grow the file and give space back.
fn workload() -> Vec<Vec<Write>> {
    let mut seed = Seed::new(7);
    let mut batches = Vec::new();
    for commit in 0..24u64 {
        let mut writes = vec![put(Table::Meta, "consistent_index", commit.to_be_bytes())];
        for row in 0..seed.below(40) {
            let key = (commit * 100 + row).to_be_bytes();
            writes.push(put(Table::Key, key, vec![commit as u8; seed.below(900) as usize]));
        }
        for _ in 0..seed.below(30) {
            let key = (seed.below(commit + 1) * 100 + seed.below(40)).to_be_bytes();
            writes.push(delete(Table::Key, key));
        }
        if commit % 6 == 5 {
            writes.push(put(Table::Auth, "big", vec![commit as u8; 700_000]));
        }
        if commit % 6 == 1 {
            writes.push(delete(Table::Auth, "big"));
        }
        batches.push(writes);
    }
    batches
}

/// The states after no batch, one batch, and so on.
fn states(workload: &[Vec<Write>]) -> Vec<Vec<Rows>> {
    let model = Mem::new();
    let mut states = vec![contents(&*model.view().unwrap())];
    for writes in workload {
        model.commit(writes).unwrap();
        states.push(contents(&*model.view().unwrap()));
    }
    states
}

/// Runs the workload to its end or the first fault; returns how many batches were acknowledged.
fn run(disk: &SimDisk, workload: &[Vec<Write>]) -> usize {
    let Ok(engine) = open(disk) else { return 0 };
    workload.iter().take_while(|writes| engine.commit(writes).is_ok()).count()
}

/// Requires the engine to hold one of the states from `acknowledged` on; returns which.
fn check(engine: &Redb, states: &[Vec<Rows>], acknowledged: usize, context: &str) -> usize {
    let found = contents(&*engine.view().unwrap());
    let at = states.iter().rposition(|state| *state == found);
    let at = at.unwrap_or_else(|| panic!("{context}: no commit looks like this"));
    // The one in flight may have made it, too.
    assert!(at == acknowledged || at == acknowledged + 1, "{context}: {at}, not {acknowledged}");
    let rows = found.iter().flatten().map(|(key, value)| key.len() + value.len());
    assert_eq!(engine.used_bytes().unwrap(), rows.sum::<usize>() as u64, "{context}");
    at
}

/// Requires redb to find its own pages in order.
fn check_pages(disk: &SimDisk, context: &str) {
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    let place = Place::new(&seam, Path::new(PATH));
    let mut database = database(&place, &place.open().unwrap(), CACHE_BYTES).unwrap();
    assert!(database.check_integrity().unwrap(), "{context}: redb finds damage");
}

/// How a crash at operation `number` goes; over four numbers every kind has its turn.
fn kind(number: u64, round: u64) -> Crash {
    match (number + round) % 4 {
        0 => Crash::LoseAll,
        1 => Crash::KeepAll,
        2 => Crash::Subset(number * 1000 + round),
        _ => Crash::Torn(number * 1000 + round),
    }
}

/// `SEED=n` takes other crashes than `n - 1` did; three in a row stop at every operation. The one
/// taken by default notices when the mark on a suspect file is taken out.
fn round() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4)
}

fn some_of(operations: u64) -> impl Iterator<Item = u64> {
    (1 + round() % 3..=operations).step_by(3)
}

#[test]
fn a_crash_anywhere_leaves_one_commit() {
    let workload = workload();
    let states = states(&workload);
    let whole = SimDisk::new(1);
    assert_eq!(run(&whole, &workload), workload.len());
    let mut lost = 0;
    for number in some_of(whole.operations()) {
        let disk = SimDisk::new(1);
        disk.stop_at(number);
        let acknowledged = run(&disk, &workload);
        let how = kind(number, round());
        disk.crash(how);
        let context = format!("operation {number}, {how:?}");
        // The machine stops again while the engine opens, and again, a little later each time.
        for again in 1..4 {
            disk.stop_at(disk.operations() + again * 2 + number % 2);
            drop(open(&disk).ok());
            disk.crash(kind(number + again, round()));
        }
        let engine = open(&disk).unwrap_or_else(|fault| panic!("{context}: {fault}"));
        let at = check(&engine, &states, acknowledged, &context);
        lost += usize::from(at == acknowledged);
        // And it goes on from there.
        for writes in &workload[at..] {
            engine.commit(writes).unwrap();
        }
        drop(engine);
        disk.crash(Crash::LoseAll);
        let engine = open(&disk).unwrap();
        assert_eq!(check(&engine, &states, workload.len(), &context), workload.len());
        drop(engine);
        check_pages(&disk, &context);
    }
    assert!(lost > 50, "the crashes lost next to nothing: {lost}");
}

/// An operation fails, the process ends and comes back, then the power goes.
#[test]
fn a_failed_operation_loses_nothing_acknowledged() {
    let workload = workload();
    let states = states(&workload);
    let whole = SimDisk::new(1);
    assert_eq!(run(&whole, &workload), workload.len());
    for number in some_of(whole.operations()) {
        let disk = SimDisk::new(number + 1000 * round());
        disk.fail_at(number);
        let acknowledged = run(&disk, &workload);
        let context = format!("operation {number}");
        let engine = open(&disk).unwrap_or_else(|fault| panic!("{context}: {fault}"));
        let at = check(&engine, &states, acknowledged, &context);
        // Some of what is left, so that the power goes at different distances from the failure.
        let rest = workload[at..].iter().take(1 + number as usize % 3);
        rest.for_each(|writes| engine.commit(writes).unwrap());
        let expected = contents(&*engine.view().unwrap());
        disk.crash(Crash::LoseAll);
        drop(engine);
        let engine = open(&disk).unwrap_or_else(|fault| panic!("{context}, power: {fault}"));
        assert!(contents(&*engine.view().unwrap()) == expected, "{context}, power");
        drop(engine);
        check_pages(&disk, &context);
    }
}

/// The disk is full for a while.
#[test]
fn a_full_disk_loses_nothing_acknowledged() {
    let workload = workload();
    let states = states(&workload);
    let whole = SimDisk::new(1);
    assert_eq!(run(&whole, &workload), workload.len());
    for kilobytes in (64..whole.used() / 1024 + 64).step_by(64) {
        let disk = SimDisk::new(1);
        disk.set_capacity(Some(kilobytes * 1024));
        let acknowledged = run(&disk, &workload);
        disk.set_capacity(None);
        let context = format!("{kilobytes} KiB");
        let engine = open(&disk).unwrap_or_else(|fault| panic!("{context}: {fault}"));
        let at = check(&engine, &states, acknowledged, &context);
        for writes in &workload[at..] {
            engine.commit(writes).unwrap();
        }
        assert_eq!(check(&engine, &states, workload.len(), &context), workload.len());
    }
}
