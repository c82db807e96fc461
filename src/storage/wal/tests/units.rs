//! Small things: names, sizes, the rules a batch must keep, the fuzz body.

use std::path::Path;

use bytes::Bytes;

use crate::error::Fault;
use crate::storage::disk::SimDisk;
use crate::storage::disk::sim::Seed;
use crate::storage::wal::standing::Standing;
use crate::storage::wal::*;

use super::model::*;

#[test]
fn names_are_read_as_written() {
    let name = Name { sequence: 7, first_index: 0x4b1 };
    let path = name.path(Path::new(""));
    assert_eq!(path, Path::new("0000000000000007-00000000000004b1.wal"));
    assert_eq!(Name::parse(&path), Some(name));
    let strange = [
        "0000000000000007-00000000000004B1.wal",
        "0000000000000007-00000000000004b1.wal.tmp",
        "7-4b1.wal",
        "+000000000000007-00000000000004b1.wal",
        "ffffffffffffffff-0000000000000001.wal",
        "spare-0000000000000007",
    ];
    for name in strange {
        assert_eq!(Name::parse(Path::new(name)), None, "{name}");
    }
    assert_eq!(spare::number(&spare::name(0xabc)), Some(0xabc));
}

#[test]
fn a_batch_is_read_as_written_and_measured_right() {
    let mut seed = Seed::new(7);
    for length in [0, 1, 5] {
        let written = Written {
            snapshot: (length == 1).then_some(Mark::Installed(Snapshot { index: 4, term: 2 })),
            entries: (0..length).map(|n| entry(&mut seed, 3, n + 5)).collect(),
            hard_state: (length != 5).then_some(HardState { term: 3, vote: 9, commit: 5 }),
        };
        let mut buffer = Vec::new();
        format::encode_batch(&mut buffer, &written.batch());
        assert_eq!(buffer.len() as u64, format::batch_bytes(&written.batch()));
        let items = format::decode_batch(Bytes::from(buffer.clone())).expect("just encoded");
        assert_eq!(items.snapshot, written.snapshot);
        assert_eq!(items.entries, written.entries);
        assert_eq!(items.hard_state, written.hard_state);
        // Cut anywhere, it is shorter or refused, never read beyond its end.
        for cut in 0..buffer.len() {
            let cut = Bytes::copy_from_slice(&buffer[..cut]);
            if let Ok(items) = format::decode_batch(cut) {
                assert!(items.entries.len() < written.entries.len() || items.hard_state.is_none());
            }
        }
    }
}

fn entries(indexes: &[(u64, u64)]) -> Vec<Entry> {
    let entry = |&(term, index)| Entry { term, index, kind: EntryKind::Normal, data: Bytes::new() };
    indexes.iter().map(entry).collect()
}

/// Each rule, broken alone. The standing: entries to 10, 6 committed, a snapshot at 4.
#[test]
fn a_batch_that_contradicts_the_log_is_refused() {
    let standing = Standing {
        hard_state: HardState { term: 5, vote: 2, commit: 6 },
        snapshot: Snapshot { index: 4, term: 3 },
        last_index: 10,
    };
    let taken = |index| Written {
        snapshot: Some(Mark::Taken(Snapshot { index, term: 5 })),
        ..Written::default()
    };
    let installed = |index| Written {
        snapshot: Some(Mark::Installed(Snapshot { index, term: 5 })),
        ..Written::default()
    };
    let log = |indexes| Written { entries: entries(indexes), ..Written::default() };
    let state = |term, vote, commit| Written {
        hard_state: Some(HardState { term, vote, commit }),
        ..Written::default()
    };
    let refused = [
        (taken(11), "a snapshot is taken of entries the log does not have"),
        (taken(3), "a snapshot lies below the one before it"),
        (installed(5), "a snapshot is installed below the commit index"),
        (installed(u64::MAX), "a snapshot has the last of all indexes"),
        (log(&[(5, 12)]), "there is a gap between the log and the next entry"),
        (log(&[(5, 6)]), "a committed entry is replaced"),
        (log(&[(5, 11), (5, 13)]), "entries are not consecutive"),
        (log(&[(5, 11), (4, 12)]), "entries are not consecutive"),
        (state(4, 2, 6), "the term goes back"),
        (state(5, 3, 6), "the vote of a term is changed"),
        (state(5, 0, 6), "the vote of a term is changed"),
        (state(5, 2, 5), "the commit index goes back"),
        (state(5, 2, 11), "the commit index is ahead of the log"),
    ];
    for (written, why) in refused {
        assert_eq!(standing.after(&written.batch()), Err(why), "{written:?}");
    }
    let allowed = [
        (taken(4), 10),
        (taken(10), 10),
        (installed(6), 6),
        (installed(8), 8),
        (installed(50), 50),
        (log(&[(5, 7)]), 7),
        (log(&[(5, 11), (6, 12)]), 12),
        (state(6, 3, 10), 10),
    ];
    for (written, last_index) in allowed {
        let next = standing.after(&written.batch()).expect("it breaks no rule");
        assert_eq!(next.last_index, last_index, "{written:?}");
    }
}

#[test]
fn a_refused_batch_leaves_the_log_as_it_was() {
    let disk = SimDisk::new(8);
    let mut wal = create(&disk).expect("the disk is well");
    let operations = disk.operations();
    let fault = wal.append(&Batch { entries: &entries(&[(1, 2)]), ..Batch::default() });
    assert!(matches!(fault, Err(Fault::Broken(_))), "{fault:?}");
    assert_eq!(disk.operations(), operations, "nothing was written");
    assert_eq!(wal.append(&Batch::default()).expect("nothing to do"), Appended::default());
    wal.append(&Batch { entries: &entries(&[(1, 1)]), ..Batch::default() }).expect("in order");
}

#[test]
fn a_batch_is_one_write_and_two_over_a_boundary() {
    let disk = SimDisk::new(9);
    let mut wal = create(&disk).expect("the disk is well");
    wal.reserve().expect("the disk is well");
    let mut seed = Seed::new(9);
    let batch: Vec<Entry> = (1..=8).map(|index| entry(&mut seed, 1, index)).collect();
    let before = disk.operations();
    wal.append(&Batch { entries: &batch, ..Batch::default() }).expect("the disk is well");
    assert_eq!(disk.operations() - before, 1);
    wal.sync().expect("the disk is well");
    let mut next = 9;
    loop {
        let before = disk.operations();
        let batch = [entry(&mut seed, 1, next)];
        next += 1;
        let appended = wal.append(&Batch { entries: &batch, ..Batch::default() });
        if appended.expect("the disk is well").switched {
            // Sync, then header, sync, rename, sync of the directory, then the batch.
            assert_eq!(disk.operations() - before, 6);
            break;
        }
    }
}

/// A value larger than a segment, and the way back to segments of the usual size.
#[test]
fn a_large_batch_gets_a_segment_of_its_size() {
    let disk = SimDisk::new(10);
    let mut wal = create(&disk).expect("the disk is well");
    let mut batch = entries(&[(1, 1)]);
    batch[0].data = Bytes::from(vec![7; 100_000]);
    wal.append(&Batch { entries: &batch, ..Batch::default() }).expect("it makes room");
    let small = entries(&[(1, 2)]);
    let appended = wal.append(&Batch { entries: &small, ..Batch::default() }).expect("room");
    wal.sync().expect("the disk is well");
    assert_eq!(appended.bytes, 512);
    drop(wal);
    let (_, recovered) = open(&disk).expect("it is whole");
    assert_eq!(recovered.entries, [batch, small].concat());
}

#[test]
fn the_fuzz_body_takes_anything() {
    let mut seed = Seed::new(11);
    let disk = SimDisk::new(11);
    assert!(run(&disk, &workload(11, 6)).finished.is_none());
    let first = Name { sequence: 1, first_index: 1 }.path(&dir());
    let file = disk.open(&first).expect("it exists");
    let mut image = vec![0; file.len().expect("it is open") as usize + 1];
    file.read_at(0, &mut image[1..]).expect("as long as it is");
    fuzz_open(&image);
    for round in 0..300 {
        let mut bytes = image.clone();
        if round % 2 == 1 {
            bytes.truncate(seed.below(2000) as usize);
            seed.fill(&mut bytes);
            // A mode that frames what follows, with items of every kind.
            bytes.iter_mut().for_each(|byte| *byte %= [3, 20, 255][round % 3]);
            bytes.insert(0, 1);
        }
        let at = seed.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << seed.below(8);
        bytes.truncate(1 + seed.below(bytes.len() as u64) as usize);
        fuzz_open(&bytes);
    }
}
