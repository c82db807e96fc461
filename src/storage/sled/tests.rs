//! sled against the shared claims, and the precautions that are only its own.

use super::*;
use crate::storage::disk::sim::Seed;
use crate::storage::engine::Table;
use crate::storage::engine::conformance::{Rig, Rows, conformance, contents, delete, put};
use crate::storage::mem::Mem;

/// A directory that outlives the engines opened in it.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("sled")
    }

    fn open_sled(&self) -> Result<Sled, Fault> {
        Sled::open(&self.path(), CACHE_BYTES)
    }

    /// The files as they are now, as a process killed now would leave them.
    fn copy(&self) -> Self {
        let copy = Self::new();
        for dir in ["", "blobs"] {
            fs::create_dir_all(copy.path().join(dir)).unwrap();
            for file in list(&self.path().join(dir)).unwrap() {
                if file.is_file() {
                    let name = file.file_name().unwrap();
                    fs::copy(&file, copy.path().join(dir).join(name)).unwrap();
                }
            }
        }
        copy
    }
}

impl Rig for Directory {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(self.open_sled().unwrap())
    }

    fn histories(&self) -> u32 {
        8
    }

    fn counts_rows(&self) -> bool {
        false
    }
}

conformance!(Directory::new());

/// Batches that append, overwrite and delete; some rows in chunks.
fn workload() -> Vec<Vec<Write>> {
    let mut seed = Seed::new(5);
    let batch = |commit: u64| {
        let mut writes = vec![put(Table::Meta, "consistent_index", commit.to_be_bytes())];
        for row in 0..60 {
            let key = (commit * 100 + row).to_be_bytes();
            writes.push(put(Table::Key, key, vec![commit as u8; seed.below(3000) as usize]));
            let key = (seed.below(commit + 1) * 100 + seed.below(60)).to_be_bytes();
            writes.push(delete(Table::Key, key));
        }
        writes.push(put(Table::Auth, "long", vec![commit as u8; 100_000 + 4000 * commit as usize]));
        writes
    };
    (0..20).map(batch).collect()
}

fn states(workload: &[Vec<Write>]) -> Vec<Vec<Rows>> {
    let model = Mem::new();
    let mut states = vec![contents(&*model.view().unwrap())];
    for writes in workload {
        model.commit(writes).unwrap();
        states.push(contents(&*model.view().unwrap()));
    }
    states
}

#[test]
fn a_killed_process_leaves_the_last_commit() {
    let workload = workload();
    let states = states(&workload);
    let directory = Directory::new();
    let engine = directory.open_sled().unwrap();
    for (writes, state) in workload.iter().zip(&states[1..]) {
        engine.commit(writes).unwrap();
        let copy = directory.copy();
        let killed = copy.open_sled().unwrap();
        assert!(contents(&*killed.view().unwrap()) == *state);
    }
}

/// The end of sled's log does not reach the disk: what its own flush allows (sled #1077).
#[test]
fn a_lost_tail_leaves_an_older_commit_or_a_fault() {
    let workload = workload();
    let states = states(&workload);
    let directory = Directory::new();
    let engine = directory.open_sled().unwrap();
    workload.iter().for_each(|writes| engine.commit(writes).unwrap());
    let length = fs::metadata(directory.path().join("db")).unwrap().len();
    let mut seed = Seed::new(11);
    let (mut older, mut faults) = (0, 0);
    for _ in 0..60 {
        let copy = directory.copy();
        let file = File::options().write(true).open(copy.path().join("db")).unwrap();
        file.set_len(seed.below(length)).unwrap();
        match copy.open_sled() {
            Ok(engine) => {
                let found = contents(&*engine.view().unwrap());
                let at = states.iter().rposition(|state| *state == found);
                at.expect("no commit looks like this");
                older += 1;
            }
            Err(_) => faults += 1,
        }
    }
    println!("{older} older commits, {faults} faults, of 60");
    assert!(older > 0);
}

#[test]
fn nothing_becomes_a_blob() {
    let directory = Directory::new();
    let engine = directory.open_sled().unwrap();
    // The worst leaf: as many entries as there can be, each as long as there can be.
    for row in 0..64u8 {
        engine.commit(&[put(Table::Key, [row], vec![row; rows::CHUNK_BYTES])]).unwrap();
    }
    engine.commit(&[put(Table::Key, "long", vec![1; 3 << 20])]).unwrap();
    assert_eq!(list(&directory.path().join("blobs")).unwrap(), [""; 0].map(PathBuf::from));
}

#[test]
fn chunks_go_with_their_row() {
    let directory = Directory::new();
    let long = |chunks: usize| vec![7; rows::CHUNK_BYTES * chunks];
    for change in [delete(Table::Key, "k"), put(Table::Key, "k", "short")] {
        let engine = directory.open_sled().unwrap();
        engine.commit(&[put(Table::Key, "k", long(5)), put(Table::Key, "k\0", long(3))]).unwrap();
        drop(engine);
        let engine = directory.open_sled().unwrap();
        engine.commit(&[put(Table::Key, "k", long(2))]).unwrap();
        assert_eq!(engine.shared.tree.range(rows::chunks()).count(), 5);
        engine.commit(&[change]).unwrap();
        assert_eq!(engine.shared.tree.range(rows::chunks()).count(), 3);
    }
}

#[test]
fn views_keep_no_versions_longer_than_they_need() {
    let directory = Directory::new();
    let engine = directory.open_sled().unwrap();
    let kept = || format!("{:?}", engine.shared.versions.lock());
    let commit = || engine.commit(&[put(Table::Key, "k", "v")]).unwrap();
    commit();
    assert_eq!(kept(), "applied 1, undone [], views {}");
    let first = engine.view().unwrap();
    commit();
    let second = engine.view().unwrap();
    let third = engine.view().unwrap();
    commit();
    commit();
    assert_eq!(kept(), "applied 4, undone [2, 3, 4], views {1: 1, 2: 2}");
    drop(second);
    assert_eq!(kept(), "applied 4, undone [2, 3, 4], views {1: 1, 2: 1}");
    drop(first);
    assert_eq!(kept(), "applied 4, undone [3, 4], views {2: 1}");
    drop(third);
    assert_eq!(kept(), "applied 4, undone [], views {}");
}

#[test]
fn a_flipped_bit_is_never_served() {
    let workload = workload();
    let states = states(&workload);
    let expected = states.last().unwrap();
    let directory = Directory::new();
    let engine = directory.open_sled().unwrap();
    workload.iter().for_each(|writes| engine.commit(writes).unwrap());
    drop(engine);
    let whole = fs::read(directory.path().join("db")).unwrap();
    assert!(!reads_differently(&directory.copy(), expected, &states));
    let mut seed = Seed::new(23);
    let mut found = 0;
    for _ in 0..40 {
        let copy = directory.copy();
        let mut rotten = whole.clone();
        rotten[seed.below(whole.len() as u64) as usize] ^= 1 << seed.below(8);
        fs::write(copy.path().join("db"), rotten).unwrap();
        found += usize::from(reads_differently(&copy, expected, &states));
    }
    println!("{found} of 40 found");
    assert!(found > 10);
}

/// Whether the damage was noticed; an older commit is a fault the log repairs.
fn reads_differently(directory: &Directory, expected: &[Rows], states: &[Vec<Rows>]) -> bool {
    let Ok(engine) = directory.open_sled() else { return true };
    let view = engine.view().unwrap();
    let mut all = Vec::new();
    for table in Table::ALL {
        let mut rows = Rows::new();
        let scanned = view.scan(table, b"", None, &mut |key, value| {
            rows.push((key.to_vec().into(), value.to_vec().into()));
            Ok(std::ops::ControlFlow::Continue(()))
        });
        if scanned.is_err() {
            return true;
        }
        all.push(rows);
    }
    assert!(states.contains(&all), "what was never committed is served");
    all != expected
}
