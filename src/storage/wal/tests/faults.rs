//! Errors instead of power cuts: failing operations, failing reads, full disks, rotten bits.

use bytes::Bytes;

use crate::error::Fault;
use crate::storage::disk::SimDisk;
use crate::storage::disk::sim::{Crash, Seed};
use crate::storage::wal::*;

use super::model::*;

fn names(disk: &SimDisk) -> Vec<std::path::PathBuf> {
    disk.list(&dir()).expect("the directory is there")
}

/// A workload that releases nothing, for a log of many segments.
fn hoard(seed: u64, count: usize) -> Vec<Step> {
    let mut steps = workload(seed, count);
    steps.retain(|step| !matches!(step, Step::Release(_)));
    steps
}

/// EIO at each operation in turn; a sync among them drops what it should have written.
#[test]
fn every_failed_operation_is_told_and_loses_nothing() {
    let steps = workload(2, 60);
    let whole = SimDisk::new(0);
    assert!(run(&whole, &steps).finished.is_none());
    let (mut images, mut refusals) = (0, 0);
    for number in 1..=whole.operations() {
        let disk = SimDisk::new(number);
        disk.fail_at(number);
        let mut progress = run(&disk, &steps);
        let fault = progress.finished.take().unwrap_or_else(|| panic!("{number} went unnoticed"));
        assert!(matches!(fault, Fault::Io { .. }), "{number}: {fault}");
        match progress.wal.take() {
            Some(mut wal) if wal.failed => {
                let hard_state = Some(HardState { term: 99, vote: 0, commit: 0 });
                let batch = Batch { hard_state, ..Batch::default() };
                wal.append(&batch).expect_err("a failed log takes nothing");
                wal.sync().expect_err("a failed log promises nothing");
            }
            // A reserve could not be made; the log itself is well.
            Some(mut wal) => {
                wal.sync().unwrap_or_else(|fault| panic!("{number}: {fault}"));
                let lags = wal_lags(&wal, &progress);
                progress.syncs.push(progress.states.len() - 1 - lags);
                refusals += 1;
            }
            None => assert!(!progress.created),
        }
        for fate in [Crash::KeepAll, Crash::LoseAll, Crash::Torn(number), Crash::Garbage(number)] {
            // The process restarts first, and believes what it reads; then the power goes.
            for restart in [true, false] {
                let disk = disk.fork();
                let context = format!("EIO at {number}, {fate:?}, restart {restart}");
                let restarted = (restart && exists(&disk)).then(|| open(&disk));
                let restarted = restarted.map(|opened| opened.map(|(_, recovered)| recovered));
                disk.crash(fate);
                if !exists(&disk) {
                    assert!(!progress.created, "{context}: the log is gone");
                    continue;
                }
                let (_, recovered) = open(&disk).unwrap_or_else(|f| panic!("{context}: {f}"));
                assert!(progress.allows(&recovered), "{context}: {recovered:#?}");
                if let Some(restarted) = restarted {
                    let before = restarted.unwrap_or_else(|f| panic!("{context}: {f}"));
                    assert_eq!(before, recovered, "{context}: what was read was not durable");
                }
                images += 1;
            }
        }
    }
    eprintln!("{} failed operations, {refusals} of them refusals, {images} images", {
        whole.operations()
    });
}

/// One if the last batch was refused, so that the log is a state behind the workload.
fn wal_lags(wal: &Wal, progress: &Progress) -> usize {
    let last = progress.states.last().expect("never empty");
    let stands = (last.hard_state, last.snapshot, last.last_index());
    usize::from(stands != (wal.hard_state(), wal.snapshot(), wal.last_index()))
}

#[test]
fn a_read_error_is_never_taken_for_a_torn_tail() {
    let disk = SimDisk::new(3);
    let steps = hoard(3, 40);
    let progress = run(&disk, &steps);
    disk.crash(Crash::KeepAll);
    drop(open(&disk).expect("it is whole"));
    let reads = disk.reads();
    assert!(reads > 10);
    for number in 1..=reads {
        disk.crash(Crash::KeepAll);
        disk.fail_read_at(number);
        let fault = open(&disk).map(drop).expect_err("a read failed");
        assert!(matches!(fault, Fault::Io { .. }), "read {number}: {fault}");
    }
    disk.crash(Crash::KeepAll);
    let (_, recovered) = open(&disk).expect("the disk is well again");
    assert!(progress.states.last().expect("never empty").is(&recovered));
}

/// At every capacity, wherever it runs out: refused before anything is written, readable after a
/// crash, and going on where it stopped once there is space.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let steps = workload(4, 120);
    let (mut full, mut resumed) = (0, 0);
    for blocks in 0..40 {
        let disk = SimDisk::new(blocks);
        disk.set_capacity(Some(blocks * 4096));
        let mut progress = run(&disk, &steps);
        while let Some(fault) = progress.finished.take() {
            assert!(is_full(&fault), "{blocks} blocks: {fault}");
            full += 1;
            let Some(wal) = progress.wal.take() else {
                assert!(!exists(&disk), "{blocks} blocks: a log was half created");
                break;
            };
            let crashed = disk.fork();
            crashed.crash(Crash::Torn(blocks));
            let (_, recovered) = open(&crashed).unwrap_or_else(|f| panic!("{blocks}: {f}"));
            assert!(progress.allows(&recovered), "{blocks} blocks: {recovered:#?}");
            let rest = rest(&mut progress, &steps, &wal);
            disk.set_capacity(Some(disk.used() + 16 * 1024));
            go_on(wal, &rest, &mut progress);
            resumed += 1;
        }
        if progress.created {
            disk.crash(Crash::LoseAll);
            let (_, recovered) = open(&disk).unwrap_or_else(|f| panic!("{blocks}: {f}"));
            assert!(progress.states.last().expect("never empty").is(&recovered));
        }
    }
    eprintln!("full {full} times, resumed {resumed} times");
    assert!(resumed > 40);
}

/// The steps that are left, the refused one first.
fn rest(progress: &mut Progress, steps: &[Step], wal: &Wal) -> Vec<Step> {
    let lags = wal_lags(wal, progress);
    progress.states.truncate(progress.states.len() - lags);
    let done = progress.states.len() - 1;
    let batch = |step: &Step| matches!(step, Step::Append(_));
    let numbers = steps.iter().enumerate().filter(|(_, step)| batch(step));
    let next = numbers.map(|(number, _)| number).nth(done);
    // What came between the last batch and the refusal is done again; it does no harm.
    steps[next.unwrap_or(steps.len() - 1)..].to_vec()
}

/// The use the reserve is for: no space for another segment, and still room to delete, compact and
/// release, after which the log lives on what it has.
#[test]
fn the_log_lives_on_its_reserve() {
    let disk = SimDisk::new(5);
    let mut wal = create(&disk).expect("there is space");
    wal.reserve().expect("there is space");
    disk.set_capacity(Some(disk.used()));
    let mut seed = Seed::new(5);
    let mut index = 0;
    let mut put = |wal: &mut Wal| {
        let data = Bytes::from_static(&[7; 100]);
        let entries = [Entry { data, ..entry(&mut seed, 1, index + 1) }];
        let appended = wal.append(&Batch { entries: &entries, ..Batch::default() });
        index += u64::from(appended.is_ok());
        appended
    };
    while !put(&mut wal).expect("the reserve is there").switched {}
    assert_eq!(wal.room().spares, 0);
    let order = wal.order().expect("none is ready");
    assert!(is_full(&order.fulfil().expect_err("the disk is full")));
    while wal.room().active_bytes > 512 {
        assert_eq!(put(&mut wal).expect("there is room").bytes, 512);
    }
    let last = wal.last_index();
    let hard_state = Some(HardState { term: 1, vote: 0, commit: last });
    let snapshot = Some(Mark::Taken(Snapshot { index: last, term: 1 }));
    wal.append(&Batch { snapshot, hard_state, ..Batch::default() }).expect("the last room");
    for _ in 0..2 {
        assert!(is_full(&put(&mut wal).expect_err("there is no room at all")));
    }
    assert_eq!(wal.release(last).expect("the disk is well"), 0, "the mark is not durable yet");
    wal.sync().expect("the disk is well");
    assert_eq!(wal.release(last).expect("the disk is well"), 1);
    assert_eq!(wal.room(), Room { active_bytes: 0, spares: 1 });
    put(&mut wal).expect("the log goes on without new space");
    wal.sync().expect("the disk is well");
    let held = wal.last_index();
    disk.crash(Crash::LoseAll);
    let (wal, recovered) = open(&disk).expect("it is whole");
    assert_eq!((wal.last_index(), recovered.snapshot.index), (held, held - 1));
}

/// A file of the right length may own no blocks; it would fail the log in the middle of a write.
#[test]
fn a_reserve_without_blocks_is_not_counted_on() {
    let disk = SimDisk::new(7);
    drop(create(&disk).expect("there is space"));
    let path = dir().join(spare::name(9));
    let file = disk.create(&path).expect("no blocks needed");
    file.set_len(OPTIONS.segment_bytes).expect("no blocks needed");
    let full = disk.fork();
    full.set_capacity(Some(full.used()));
    let (wal, _) = open(&full).expect("it is whole");
    assert!(wal.room().spares == 0 && !full.exists(&path));
    let (wal, _) = open(&disk).expect("it is whole");
    assert!(wal.room().spares == 1 && disk.exists(&path));
}

/// Every bit that rots is told, or was behind the log, or was written after the last sync but one:
/// there it cannot be told from a write that never ended.
#[test]
fn rot_is_found() {
    let disk = SimDisk::new(6);
    let progress = run(&disk, &hoard(6, 60));
    assert!(progress.finished.is_none());
    disk.crash(Crash::LoseAll);
    let [.., before, durable] = progress.syncs[..] else { panic!("a long workload") };
    let (shorter, whole) = (&progress.states[before..durable], &progress.states[durable]);
    let files = names(&disk);
    let segments = files.iter().filter(|name| Name::parse(name).is_some());
    let last = segments.clone().next_back().expect("a segment");
    let (mut flips, mut found, mut harmless, mut cut) = (0, 0, 0, 0);
    for name in segments.clone() {
        for offset in (0..16 * 1024).step_by(37) {
            let disk = disk.fork();
            let path = dir().join(name);
            disk.flip(&path, offset, 1 << (offset % 7)).expect("inside the file");
            flips += 1;
            match open(&disk) {
                Ok((_, recovered)) if whole.is(&recovered) => harmless += 1,
                Ok((_, recovered)) => {
                    let known = shorter.iter().any(|state| state.is(&recovered));
                    assert!(name == last && known, "{name:?} {offset}: served");
                    cut += 1;
                }
                Err(Fault::Corrupt { .. }) => {
                    found += 1;
                    let report = verify(&disk, &dir()).expect("the directory is there");
                    assert!(report.damage.is_some(), "{name:?} {offset}: verify is content");
                }
                Err(fault) => panic!("{name:?} {offset}: {fault}"),
            }
        }
    }
    let count = segments.count();
    eprintln!("{flips} flips in {count} segments: {found} found, {harmless} harmless, {cut} cut");
    assert!(count > 2 && found > flips / 4 && cut < flips / 4, "the log is too small for this");
}
