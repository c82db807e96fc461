//! What the state engines cost: commits, point reads, pages of point reads, scans.
//!
//! `cargo bench --bench engine [-- redb|sled]`. Rows are 17-byte keys and 300-byte values; a commit
//! appends rows as a checkpoint does and is durable when it returns, so its time has the disk's
//! sync in it. `get/hot` stays within 10 000 rows, `get/all` goes over all of them; a page is 500
//! keys over all rows, sorted, in one `get_each`. Divide a page's and a scan's time by its rows
//! (the throughput line does).

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kvorum::storage::disk::sim::Seed;
use kvorum::storage::disk::{Disk, RealDisk};
use kvorum::storage::engine::{Engine, Table, Write};
use kvorum::storage::redb::{self, Redb};
use kvorum::storage::sled::{self, Sled};

const ROWS: u64 = 100_000;
const HOT_ROWS: u64 = 10_000;
const PAGE_ROWS: u64 = 500;

fn key(row: u64) -> [u8; 17] {
    let mut key = [0; 17];
    key[..8].copy_from_slice(&row.to_be_bytes());
    key[8] = b'_';
    key
}

fn rows(from: u64, count: u64) -> Vec<Write> {
    let row = |row: u64| Write::Put {
        table: Table::Key,
        key: Bytes::copy_from_slice(&key(row)),
        value: Bytes::from(vec![row as u8; 300]),
    };
    (from..from + count).map(row).collect()
}

fn open(name: &str, dir: &Path) -> Box<dyn Engine> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    match name {
        "redb" => Box::new(Redb::open(&disk, &dir.join("db"), redb::CACHE_BYTES).unwrap()),
        _ => Box::new(Sled::open(&dir.join("sled"), sled::CACHE_BYTES).unwrap()),
    }
}

fn commits(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group(format!("{name}/commit"));
    group.sample_size(10);
    for count in [256, 4096] {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(name, dir.path());
        let mut next = 0;
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count}"), |b| {
            let batch = || {
                next += count;
                rows(next, count)
            };
            b.iter_batched(
                batch,
                |writes| engine.commit(&writes).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
}

fn reads(c: &mut Criterion, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(name, dir.path());
    (0..ROWS / 5000).for_each(|n| engine.commit(&rows(n * 5000, 5000)).unwrap());
    let view = engine.view().unwrap();
    let mut seed = Seed::new(1);
    let mut group = c.benchmark_group(name);
    for (which, range) in [("hot", HOT_ROWS), ("all", ROWS)] {
        group.bench_function(format!("get/{which}"), |b| {
            b.iter(|| view.get(Table::Key, &key(seed.below(range))).unwrap().unwrap());
        });
    }
    group.throughput(Throughput::Elements(PAGE_ROWS));
    group.bench_function("page", |b| {
        b.iter_batched(
            || {
                let mut keys: Vec<_> = (0..PAGE_ROWS).map(|_| key(seed.below(ROWS))).collect();
                keys.sort_unstable();
                keys
            },
            |keys| {
                let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                view.get_each(Table::Key, &keys, &mut |_, value| {
                    black_box(value);
                    Ok(())
                })
            },
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    group.bench_function("scan", |b| {
        b.iter(|| {
            view.scan(Table::Key, b"", None, &mut |_, value| {
                black_box(value);
                Ok(ControlFlow::Continue(()))
            })
        });
    });
}

fn engines(c: &mut Criterion) {
    for name in ["redb", "sled"] {
        commits(c, name);
        reads(c, name);
    }
}

criterion_group!(benches, engines);
criterion_main!(benches);
