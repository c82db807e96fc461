//! What an acknowledgement costs before the network: appending to the log and syncing it.
//!
//! Question: is an append bound by copying and checksumming its bytes, and how much of a sync does
//! the file system add on fresh blocks, on blocks written with zeros, and on recycled ones?
//!
//! Run `cargo bench --bench wal`; `KVORUM_BENCH_DIR` names a directory on the disk to measure, the
//! build's own is the default. Compare `append/256` with `floor/256`, which only copies and
//! checksums, and the three kinds of `sync` with each other. Syncs vary with the hour: only numbers
//! of one run compare.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use kvorum::storage::disk::{Disk, DiskFile, RealDisk};
use kvorum::storage::wal::{
    Batch, Entry, EntryKind, HardState, Identity, Mark, Options, Snapshot, Wal,
};

const ENTRY_BYTES: usize = 300;
const IDENTITY: Identity = Identity { cluster_id: 1, member_id: 2 };

/// A log and the next batch for it.
struct Log {
    wal: Wal,
    entries: Vec<Entry>,
}

impl Log {
    fn create(disk: Arc<dyn Disk>, dir: &Path, options: Options, count: u64) -> Self {
        let wal = Wal::create(disk, dir, IDENTITY, options).expect("a directory of our own");
        let data = Bytes::from(vec![0x5a; ENTRY_BYTES]);
        let entry = |index| Entry { term: 1, index, kind: EntryKind::Normal, data: data.clone() };
        Self { wal, entries: (1..=count).map(entry).collect() }
    }

    /// Appends the batch and moves its indexes on. Old segments go as soon as new ones come.
    fn append(&mut self) -> bool {
        let batch = Batch { entries: &self.entries, ..Batch::default() };
        let switched = self.wal.append(&batch).expect("the disk is well").switched;
        let count = self.entries.len() as u64;
        self.entries.iter_mut().for_each(|entry| entry.index += count);
        if switched {
            let index = self.wal.last_index();
            let batch = Batch {
                snapshot: Some(Mark::Taken(Snapshot { index, term: 1 })),
                entries: &[],
                hard_state: Some(HardState { term: 1, vote: 2, commit: index }),
            };
            self.wal.append(&batch).expect("the disk is well");
            self.wal.sync().expect("the disk is well");
            self.wal.release(index).expect("the disk is well");
        }
        switched
    }
}

/// A disk that takes everything and keeps nothing.
#[derive(Debug)]
struct NoDisk;

#[derive(Debug)]
struct NoFile;

impl Disk for NoDisk {
    fn create(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NoFile))
    }
    fn open(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NoFile))
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove_tree(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn exists(&self, _: &Path) -> bool {
        false
    }
}

impl DiskFile for NoFile {
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Ok(())
    }
    fn write_at(&self, _: u64, data: &[u8]) -> io::Result<()> {
        black_box(data);
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Appending without a disk, and the least it could cost.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for count in [1, 256] {
        group.throughput(Throughput::Bytes(count * ENTRY_BYTES as u64));
        let mut log = Log::create(Arc::new(NoDisk), Path::new("/"), Options::default(), count);
        group.bench_function(format!("append/{count}"), |bencher| bencher.iter(|| log.append()));
        let data = vec![0x5a_u8; ENTRY_BYTES + 21];
        let mut buffer = Vec::with_capacity(data.len() * count as usize);
        group.bench_function(format!("floor/{count}"), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                (0..count).for_each(|_| buffer.extend_from_slice(black_box(&data)));
                crc32fast::hash(&buffer)
            })
        });
    }
    group.finish();
}

/// Appending and syncing on a real file system.
fn sync(criterion: &mut Criterion) {
    let base = std::env::var_os("KVORUM_BENCH_DIR").map(PathBuf::from);
    let base = base.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let mut group = criterion.benchmark_group("sync");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for count in [1, 256] {
        group.throughput(Throughput::Elements(count));
        for (kind, segment_bytes, prefill, turns) in [
            ("fresh", 512 << 20, false, 0),
            ("zeroed", 512 << 20, true, 0),
            ("recycled", 16 << 20, false, 4),
        ] {
            let dir = base.join(format!("wal-{}-{kind}-{count}", std::process::id()));
            let options = Options { segment_bytes, prefill };
            let mut log = Log::create(Arc::new(RealDisk), &dir, options, count);
            for _ in 0..turns {
                while !log.append() {}
            }
            group.bench_function(format!("{kind}/{count}"), |bencher| {
                bencher.iter_custom(|rounds| {
                    let start = Instant::now();
                    for _ in 0..rounds {
                        log.append();
                        log.wal.sync().expect("the disk is well");
                    }
                    start.elapsed()
                })
            });
            drop(log);
            fs::remove_dir_all(&dir).expect("a directory of our own");
        }
    }
    group.finish();
}

criterion_group!(benches, append, sync);
criterion_main!(benches);
