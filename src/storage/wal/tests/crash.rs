//! Power cuts: at every operation of a workload, with every fate of what was on its way, and again
//! at every operation of the recovery.

use bytes::Bytes;

use crate::storage::disk::SimDisk;
use crate::storage::disk::sim::Crash;
use crate::storage::wal::*;

use super::model::*;

/// The fates an image of a crash point is given.
fn fates(point: u64) -> Vec<Crash> {
    let mut fates = vec![Crash::LoseAll, Crash::KeepAll];
    fates.extend((0..20).map(|n| Crash::Subset(point * 100 + n)));
    fates.extend((20..26).map(|n| Crash::Torn(point * 100 + n)));
    fates.extend((26..32).map(|n| Crash::Garbage(point * 100 + n)));
    fates
}

/// Checks one crashed disk, and returns how many operations the recovery took.
fn check(disk: &SimDisk, progress: &Progress, context: &str) -> u64 {
    if !exists(disk) {
        assert!(!progress.created, "{context}: the log is gone");
        drop(create(disk).unwrap_or_else(|fault| panic!("{context}: {fault}")));
        return disk.operations();
    }
    let (wal, recovered) = open(disk).unwrap_or_else(|fault| panic!("{context}: {fault}"));
    let operations = disk.operations();
    drop(wal);
    assert!(progress.allows(&recovered), "{context}: lost or invented something: {recovered:#?}");
    disk.crash(Crash::LoseAll);
    let (mut wal, again) = open(disk).unwrap_or_else(|fault| panic!("{context}, again: {fault}"));
    assert_eq!(recovered, again, "{context}: what was recovered was not durable");
    extend(disk, &mut wal, again, context);
    operations
}

/// A recovered log takes a batch and keeps it.
fn extend(disk: &SimDisk, wal: &mut Wal, mut recovered: Recovered, context: &str) {
    let index = wal.last_index() + 1;
    let data = Bytes::from_static(b"after the crash");
    let entry = Entry { term: 99, index, kind: EntryKind::Normal, data };
    let hard_state = HardState { term: 99, vote: 1, commit: wal.hard_state().commit };
    let entries = std::slice::from_ref(&entry);
    let batch = Batch { snapshot: None, entries, hard_state: Some(hard_state) };
    wal.append(&batch).and_then(|_| wal.sync()).unwrap_or_else(|f| panic!("{context}: {f}"));
    disk.crash(Crash::LoseAll);
    let (_, mut extended) = open(disk).unwrap_or_else(|fault| panic!("{context}: {fault}"));
    recovered.entries.push(entry);
    recovered.hard_state = hard_state;
    extended.torn = recovered.torn;
    assert_eq!(recovered, extended, "{context}: the log does not go on");
}

/// Crashes the recovery at each of its operations.
fn crash_recovery(disk: &SimDisk, progress: &Progress, operations: u64, context: &str) -> u64 {
    let mut images = 0;
    for stop in 1..=operations {
        for fate in [Crash::LoseAll, Crash::Torn(stop), Crash::Garbage(stop)] {
            let disk = disk.fork();
            disk.stop_at(stop);
            let outcome = if exists(&disk) { open(&disk).err() } else { create(&disk).err() };
            let context = format!("{context}, recovery stopped at {stop}, {fate:?}");
            assert!(outcome.is_some(), "{context}: it did not notice");
            disk.crash(fate);
            check(&disk, progress, &context);
            images += 1;
        }
    }
    images
}

#[test]
fn every_crash_point_recovers_what_was_synced() {
    let steps = workload(1, 150);
    let whole = SimDisk::new(0);
    let progress = run(&whole, &steps);
    assert!(progress.finished.is_none(), "{:?}", progress.finished);
    let points = whole.operations();
    let (mut images, mut recoveries) = (0, 0);
    for point in 1..=points {
        let disk = SimDisk::new(0);
        disk.stop_at(point);
        let progress = run(&disk, &steps);
        assert!(progress.finished.is_some(), "operation {point} was not reached");
        for (number, fate) in fates(point).into_iter().enumerate() {
            let context = format!("crash at operation {point}, {fate:?}");
            let crashed = disk.fork();
            crashed.crash(fate);
            let image = crashed.fork();
            let operations = check(&crashed, &progress, &context);
            images += 1;
            // Every fate of every point, each recovery of every twentieth.
            if (number as u64 + point) % 20 == 0 {
                recoveries += crash_recovery(&image, &progress, operations, &context);
            }
        }
    }
    eprintln!("{points} crash points, {images} images, {recoveries} of interrupted recoveries");
    assert!(images > 10_000, "the workload is too small to prove anything: {images} images");
}

/// Of two unsynced batches the second one reached the disk and the first did not. The first is
/// written again, byte for byte; the second must not count as what follows it.
#[test]
fn what_was_cut_off_never_comes_back() {
    let mut met = 0;
    for seed in 0..64 {
        let disk = SimDisk::new(seed);
        let mut wal = create(&disk).expect("the disk is well");
        let entries: Vec<Entry> = (1..=3)
            .map(|index| Entry {
                term: 1,
                index,
                kind: EntryKind::Normal,
                // The second ends with a page: writing it again does not clear the third.
                data: Bytes::from_static(if index == 1 { &[7] } else { &[7; 3000] }),
            })
            .collect();
        let write = |wal: &mut Wal, number: usize| {
            let entries = std::slice::from_ref(&entries[number]);
            wal.append(&Batch { entries, ..Batch::default() }).expect("the disk is well");
        };
        write(&mut wal, 0);
        wal.sync().expect("the disk is well");
        write(&mut wal, 1);
        write(&mut wal, 2);
        disk.crash(Crash::Subset(seed));
        // Twice: the life in between leaves no trace on the disk, only its remains.
        for _ in 0..2 {
            let (mut wal, recovered) = open(&disk).expect("a torn tail is cut");
            if recovered.entries.len() != 1 || !recovered.torn {
                break;
            }
            met += 1;
            write(&mut wal, 1);
            let (kept, lost) = (disk.fork(), &disk);
            kept.crash(Crash::KeepAll);
            let (_, recovered) = open(&kept).expect("it is whole");
            assert_eq!(recovered.entries, entries[..2], "seed {seed}: the third came back");
            write(&mut wal, 2);
            lost.crash(Crash::Subset(seed * 31 + 7));
        }
    }
    assert!(met > 10, "{met} times only");
}

/// A life of crashes: the same directory goes through many, and its log never loses anything.
#[test]
fn a_log_survives_many_crashes_in_a_row() {
    let mut lives = 0;
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let mut progress = run(&disk, &workload(seed, 10));
        for life in 0..30 {
            progress.wal = None;
            let fates = fates(seed * 1000 + life);
            disk.crash(fates[(life as usize * 7 + seed as usize) % fates.len()]);
            let (wal, recovered) = open(&disk).unwrap_or_else(|f| panic!("{seed} {life}: {f}"));
            let left = progress.left(&recovered);
            let left = left.unwrap_or_else(|| panic!("{seed} {life}: {recovered:#?}")).clone();
            let steps = follow(&left, seed * 1000 + life, 20);
            disk.stop_at(disk.operations() + 1 + (seed * 31 + life * 17) % 40);
            progress = Progress { created: true, states: vec![left], ..Progress::default() };
            go_on(wal, &steps, &mut progress);
            lives += 1;
        }
    }
    eprintln!("{lives} lives");
}
