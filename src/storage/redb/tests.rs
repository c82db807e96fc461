//! redb against the shared claims, on a real disk, and what is only its own.

mod crash;
mod rot;

use super::*;
use crate::storage::defrag::{Defrag, Progress};
use crate::storage::disk::RealDisk;
use crate::storage::engine::conformance::{Rig, assert_same, conformance, delete, put, rows_of};

/// A directory that outlives the engines opened in it.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open_at(&self, name: &str) -> Redb {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Redb::open(&disk, &self.0.path().join(name), 4 << 20).unwrap()
    }
}

impl Rig for Directory {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(self.open_at("db"))
    }
}

conformance!(Directory::new());

fn rows(range: std::ops::Range<u32>) -> Vec<Write> {
    range.map(|row| put(Table::Key, row.to_be_bytes(), [row as u8; 300])).collect()
}

fn deletes(range: std::ops::Range<u32>) -> Vec<Write> {
    range.map(|row| delete(Table::Key, row.to_be_bytes())).collect()
}

#[test]
fn a_view_outlives_its_engine() {
    let directory = Directory::new();
    let engine = directory.open_at("db");
    engine.commit(&rows(0..20_000)).unwrap();
    let view = engine.view().unwrap();
    drop(engine);
    assert_eq!(rows_of(&*view, Table::Key).len(), 20_000);
}

#[test]
fn deleted_space_is_used_again() {
    let directory = Directory::new();
    let engine = directory.open_at("db");
    let size = || engine.size_bytes().unwrap();
    (0..20).for_each(|n| engine.commit(&rows(n * 2000..(n + 1) * 2000)).unwrap());
    let full = size();
    assert!(full > engine.used_bytes().unwrap());
    // What a compaction does: old revisions go, new ones have come, round after round.
    for n in 20..100 {
        engine.commit(&deletes((n - 20) * 2000..(n - 19) * 2000)).unwrap();
        engine.commit(&rows(n * 2000..(n + 1) * 2000)).unwrap();
    }
    assert!(size() < full * 5 / 4, "{full} grew to {}", size());
}

#[test]
fn a_defragmented_copy_takes_over() {
    let directory = Directory::new();
    let engine = directory.open_at("db");
    (0..20).for_each(|n| engine.commit(&rows(n * 2000..(n + 1) * 2000)).unwrap());
    engine.commit(&deletes(1000..36_000)).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let path = directory.0.path().join("db.defrag");
    std::fs::write(&path, "left by a crash").unwrap();
    let copy = Redb::open_empty(&disk, &path, 4 << 20).unwrap();
    let mut defrag = Defrag::new();
    let mut next = 40_000;
    while defrag.step(&engine, &copy, 100_000).unwrap() == Progress::More {
        let mut writes = rows(next..next + 10);
        writes.extend(deletes(next - 40_000..next - 39_950));
        engine.commit(&writes).unwrap();
        copy.commit(&defrag.mirror(&writes)).unwrap();
        next += 10;
    }
    let old = engine.view().unwrap();
    assert_same(&*copy.view().unwrap(), &*old);
    assert_eq!(copy.used_bytes().unwrap(), engine.used_bytes().unwrap());
    let (before, after) = (engine.size_bytes().unwrap(), copy.size_bytes().unwrap());
    assert!(after < before / 3, "{before} became {after}");
    copy.rename(&directory.0.path().join("db")).unwrap();
    drop(engine);
    copy.commit(&rows(next..next + 1)).unwrap();
    let last = copy.view().unwrap();
    drop(copy);
    assert_same(&*directory.open_at("db").view().unwrap(), &*last);
    drop(rows_of(&*old, Table::Key));
}

#[test]
fn an_empty_file_is_not_an_empty_engine() {
    let directory = Directory::new();
    let path = directory.0.path().join("db");
    std::fs::write(&path, "").unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let refused = Redb::open(&disk, &path, 4 << 20).unwrap_err();
    assert!(matches!(refused, Fault::Corrupt { .. }), "{refused}");
}
