//! The simulated disk against the real one while all is well, and its own promises when it is not.

use std::os::unix::fs::PermissionsExt;

use super::sim::{Crash, Seed};
use super::*;

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

fn sim() -> (SimDisk, PathBuf) {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/d")).expect("nothing fails yet");
    (disk, PathBuf::from("/d"))
}

/// One random call, and everything a program can learn from it.
fn act(disk: &dyn Disk, dir: &Path, seed: &mut Seed) -> String {
    let path = |seed: &mut Seed| dir.join(["a", "b", "c"][seed.below(3) as usize]);
    let (first, second) = (path(seed), path(seed));
    let (offset, size) = (seed.below(9000), seed.below(9000));
    let kind = |err: io::Error| err.kind();
    let with = |body: &dyn Fn(&dyn DiskFile) -> io::Result<()>| {
        format!("{:?}", disk.open(&first).and_then(|file| body(&*file)).map_err(kind))
    };
    match seed.below(12) {
        0 => format!("{:?}", disk.create(&first).map(drop).map_err(kind)),
        1 => format!("{:?}", disk.rename(&first, &second).map_err(kind)),
        2 => format!("{:?}", disk.remove(&first).map_err(kind)),
        3 => format!("{:?}", disk.sync_dir(dir).map_err(kind)),
        4 => format!("{:?}", disk.create_dir(dir).map_err(kind)),
        5 => with(&|file| file.set_len(size)),
        6 => with(&|file| file.allocate(size + 1)),
        7 => with(&|file| file.sync()),
        8 => with(&|file| file.settle()),
        9 => with(&|file| file.read_at(offset, &mut vec![0; size as usize])),
        _ => {
            let mut data = vec![0; size as usize];
            seed.fill(&mut data);
            with(&|file| file.write_at(offset, &data))
        }
    }
}

#[test]
fn the_simulated_disk_behaves_like_the_real_one() {
    let temporary = tempfile::tempdir().expect("a directory for the test");
    let (sim, sim_dir) = sim();
    let real_dir = temporary.path().join("d");
    RealDisk.create_dir(&real_dir).expect("a directory for the test");
    let (mut left, mut right) = (Seed::new(5), Seed::new(5));
    for step in 0..600 {
        let real = act(&RealDisk, &real_dir, &mut left);
        let simulated = act(&sim, &sim_dir, &mut right);
        assert_eq!(real, simulated, "step {step}");
        let names = RealDisk.list(&real_dir).expect("it exists");
        assert_eq!(names, sim.list(&sim_dir).expect("it exists"), "step {step}");
        for name in names {
            let real = read(&RealDisk, &real_dir.join(&name)).expect("it is listed");
            let simulated = read(&sim, &sim_dir.join(&name)).expect("it is listed");
            assert!(real == simulated, "step {step}: {} differs", name.display());
        }
    }
}

#[test]
fn real_files_are_private() {
    let temporary = tempfile::tempdir().expect("a directory for the test");
    let dir = temporary.path().join("x/y");
    RealDisk.create_dir(&dir).expect("parents are made");
    drop(RealDisk.create(&dir.join("f")).expect("it is new"));
    let mode = |path: &Path| path.metadata().expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(dir.parent().expect("made above")), 0o700);
    assert_eq!(mode(&dir.join("f")), 0o600);
    let again = RealDisk.create(&dir.join("f")).map(drop).expect_err("it exists");
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
}

/// A file of 2 KiB synced as ones, 4 KiB written as twos, nothing synced since.
fn half_synced() -> (SimDisk, PathBuf) {
    let (disk, dir) = sim();
    let path = dir.join("f");
    let file = disk.create(&path).expect("nothing fails yet");
    file.write_at(0, &[1; 2048]).expect("nothing fails yet");
    file.sync().expect("nothing fails yet");
    disk.sync_dir(&dir).expect("nothing fails yet");
    file.write_at(0, &[2; 4096]).expect("nothing fails yet");
    (disk, path)
}

#[test]
fn data_length_and_names_are_lost_apart_from_each_other() {
    let (disk, path) = half_synced();
    let (mut lengths, mut mixed, mut noise) = ([false; 2], false, false);
    for seed in 0..200 {
        for fate in [Crash::Subset(seed), Crash::Torn(seed), Crash::Garbage(seed)] {
            let disk = disk.fork();
            disk.crash(fate);
            let bytes = read(&disk, &path).expect("its name is durable");
            assert!(bytes.len() == 2048 || bytes.len() == 4096);
            lengths[bytes.len() / 2048 - 1] = true;
            let whole = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]);
            let torn = bytes.chunks(512).all(whole);
            assert!(torn || matches!(fate, Crash::Garbage(_)), "{fate:?} tears at sectors only");
            noise |= !torn;
            mixed |= bytes[..2048].contains(&1) && bytes[..2048].contains(&2);
        }
    }
    assert!(lengths == [true; 2] && mixed && noise, "the crashes are too kind");
    let (kept, lost) = (disk.fork(), disk.fork());
    kept.crash(Crash::KeepAll);
    lost.crash(Crash::LoseAll);
    assert_eq!(read(&kept, &path).expect("durable"), [2; 4096]);
    assert_eq!(read(&lost, &path).expect("durable"), [1; 2048]);
}

#[test]
fn names_need_a_sync_of_their_directory() {
    let (disk, dir) = sim();
    let file = disk.create(&dir.join("new")).expect("nothing fails yet");
    file.write_at(0, b"x").expect("nothing fails yet");
    file.sync().expect("nothing fails yet");
    disk.crash(Crash::LoseAll);
    assert!(!disk.exists(&dir.join("new")), "a synced file without a synced name is lost");
    assert!(file.len().is_err(), "a handle does not outlive the crash");

    drop(disk.create(&dir.join("old")).expect("nothing fails yet"));
    disk.sync_dir(&dir).expect("nothing fails yet");
    disk.rename(&dir.join("old"), &dir.join("new")).expect("nothing fails yet");
    disk.crash(Crash::LoseAll);
    assert_eq!(disk.list(&dir).expect("it exists"), [PathBuf::from("old")]);
}

/// The bug of 2018: a sync fails, the pages are clean all the same, and the next sync is content.
#[test]
fn a_failed_sync_drops_what_the_cache_still_shows() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let path = Path::new("/f");
        let file = disk.create(path).expect("nothing fails yet");
        file.allocate(100).expect("nothing fails yet");
        file.sync().expect("nothing fails yet");
        disk.sync_dir(Path::new("/")).expect("nothing fails yet");
        file.write_at(0, &[3; 100]).expect("nothing fails yet");
        disk.fail_at(disk.operations() + 1);
        assert_eq!(file.sync().expect_err("as told").raw_os_error(), Some(5));
        assert_eq!(read(&disk, path).expect("visible"), [3; 100]);
        file.sync().expect("it has nothing left to write");
        assert_eq!(read(&disk, path).expect("visible"), [3; 100]);
        let settled = disk.fork();
        disk.crash(Crash::KeepAll);
        let durable = read(&disk, path).expect("durable");
        let file = settled.open(path).expect("visible");
        file.settle().expect("it has nothing left to write");
        assert_eq!(read(&settled, path).expect("settled"), durable);
        lost += u32::from(durable == [0; 100]);
    }
    assert!(lost > 3 && lost < 17, "{lost} of 20 lost");
}

#[test]
fn a_full_disk_refuses_what_is_not_reserved() {
    let disk = SimDisk::new(2);
    let file = disk.create(Path::new("/f")).expect("no blocks needed");
    file.allocate(8192).expect("there is space");
    disk.set_capacity(Some(8192));
    file.write_at(0, &[1; 8192]).expect("it is reserved");
    let full = file.write_at(8192, &[1]).expect_err("no block is left");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().expect("it is open"), 8192);
    file.set_len(4096).expect("it frees a block");
    file.write_at(4096, &[1]).expect("there is one");
    let other = disk.create(Path::new("/g")).expect("no blocks needed");
    assert!(other.allocate(1).is_err());
    disk.remove(Path::new("/f")).expect("it exists");
    other.allocate(8192).expect("its blocks are free");
}

#[test]
fn a_stopped_machine_does_nothing_more() {
    let (disk, path) = half_synced();
    disk.stop_at(disk.operations() + 1);
    let file = disk.open(&path).expect("it runs");
    assert!(file.write_at(0, &[9; 512]).is_err(), "issued, and never heard of again");
    assert!(file.read_at(0, &mut [0]).is_err());
    assert!(disk.sync_dir(Path::new("/d")).is_err());
    disk.crash(Crash::KeepAll);
    assert_eq!(read(&disk, &path).expect("durable")[..512], [9; 512]);
}

#[test]
fn the_same_seed_has_the_same_outcome() {
    let outcome = || {
        let (disk, path) = half_synced();
        disk.crash(Crash::Garbage(77));
        read(&disk, &path).expect("its name is durable")
    };
    assert_eq!(outcome(), outcome());
}

#[test]
fn an_unsynced_disk_does_everything_but_sync() {
    let (plain, dir) = sim();
    let below = SimDisk::new(1);
    let unsynced = Unsynced(Arc::new(below.clone()));
    unsynced.create_dir(&dir).expect("nothing fails yet");
    let (mut left, mut right) = (Seed::new(9), Seed::new(9));
    for step in 0..300 {
        let expected = act(&plain, &dir, &mut left);
        assert_eq!(act(&unsynced, &dir, &mut right), expected, "step {step}");
    }

    let path = dir.join("f");
    let survives = |disk: &dyn Disk, below: &SimDisk| {
        let file = disk.create(&path).expect("it is new");
        disk.sync_dir(&dir).expect("nothing fails");
        let name = below.fork();
        name.crash(Crash::LoseAll);
        below.sync_dir(&dir).expect("nothing fails");
        file.write_at(0, &[1; 512]).expect("there is space");
        file.sync().expect("nothing fails");
        file.settle().expect("nothing fails");
        let visible = read(disk, &path).expect("it is visible") == [1; 512];
        below.crash(Crash::LoseAll);
        let data = read(below, &path).expect("its name is durable") == [1; 512];
        (visible, name.exists(&path), data, disk.syncs())
    };
    assert_eq!(survives(&plain, &plain), (true, true, true, true));
    assert_eq!(survives(&unsynced, &below), (true, false, false, false));
}
