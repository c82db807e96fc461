//! How fast is the multi-version store by itself, and what does a key cost in memory?
//!
//! Run: `cargo bench --bench mvcc`. Memory is printed first, from the allocator's own count, then
//! criterion times single operations: writes with and without a publication after each (a
//! publication makes the next write copy its path), pages of 500, counts.
//!
//! The engine below holds nothing: every row is answered from the write-behind buffer. So the
//! figures are the index and the rules of reading, not a disk.

#![allow(unsafe_code)] // a counting allocator has to be

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, criterion_group, criterion_main};
use kvorum::error::Fault;
use kvorum::mvcc::index::{Facts, Head, Index, NOW};
use kvorum::mvcc::{Revision, Store};
use kvorum::pb;
use kvorum::span::Span;
use kvorum::storage::engine::{Engine, Found, Table, View, Visit, Write};

const KEYS: usize = 1_000_000;

/// Counts live heap bytes, as the allocator rounds them.
struct Counting;

static HEAP: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is handed on to mimalloc unchanged; only a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { mimalloc::MiMalloc.dealloc(at, layout) }
    }
}

/// Times by the thread's CPU clock: the machine may have other things to do.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_time()
    }

    fn end(&self, start: Duration) -> Duration {
        cpu_time() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// An engine without rows.
#[derive(Debug)]
struct Empty;

impl Engine for Empty {
    fn name(&self) -> &'static str {
        "empty"
    }

    fn commit(&self, _: &[Write]) -> Result<(), Fault> {
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        Ok(Box::new(Self))
    }

    fn size_bytes(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    fn used_bytes(&self) -> Result<u64, Fault> {
        Ok(0)
    }
}

impl View for Empty {
    fn get_each(&self, _: Table, keys: &[&[u8]], found: &mut Found<'_>) -> Result<(), Fault> {
        (0..keys.len()).try_for_each(|at| found(at, None))
    }

    fn scan(&self, _: Table, _: &[u8], _: Option<&[u8]>, _: &mut Visit<'_>) -> Result<(), Fault> {
        Ok(())
    }
}

/// A key of 64 bytes, spread over 1000 "namespaces" without order.
fn key(n: usize) -> String {
    let n = n * 7_368_787 % KEYS;
    format!("/registry/pods/namespace-{:04}/deployment-{:08}-{:016x}", n % 1000, n / 1000, n * 31)
}

/// A key of 64 bytes that shares nothing with its neighbours.
fn random_key(n: usize) -> String {
    let mix =
        |n: u64| (n ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31);
    let (a, b) = (mix(n as u64), mix(mix(n as u64)));
    format!("{:016x}{b:016x}{a:016x}{b:016x}", mix(a))
}

fn head(n: usize) -> Head {
    let main = n as i64 + 2;
    let facts = Facts {
        revision: Revision::new(main, 0),
        create_revision: main,
        version: 1,
        leased: false,
    };
    Head { facts, tombstone: false }
}

fn index_of(key: impl Fn(usize) -> String) -> Index {
    let mut index = Index::default();
    for n in 0..KEYS {
        index.put(key(n).as_bytes(), head(n));
    }
    index
}

fn rss() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells its sizes");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number is the resident set") * 4096
}

/// Prints what a key costs; returns the index.
fn weigh(name: &str, key: impl Fn(usize) -> String) -> Index {
    let (heap, resident, start) = (HEAP.load(Ordering::Relaxed), rss(), cpu_time());
    let index = index_of(key);
    let (heap, resident) = (HEAP.load(Ordering::Relaxed) - heap, rss() - resident);
    println!(
        "{name}: {} heap bytes per key, {} resident, {:.0} ns per put",
        heap / KEYS,
        resident / KEYS,
        (cpu_time() - start).as_secs_f64() * 1e9 / KEYS as f64
    );
    index
}

fn whole() -> Span {
    Span::new(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
}

fn range(key: String, limit: i64, revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        range_end: Bytes::from_static(b"\0"),
        limit,
        revision,
        ..Default::default()
    }
}

fn bench_index(c: &mut Criterion<CpuTime>) {
    drop(weigh("random keys", random_key));
    drop(weigh("ascending keys", |n| format!("/registry/pods/default/{n:041}")));
    let mut index = weigh("kubernetes-like keys", key);
    let mut n = KEYS;
    let mut next = || {
        n += 1;
        n
    };
    c.bench_function("index: put over 1 M keys, in place", |b| {
        b.iter(|| {
            let n = next();
            index.put(key(n * 13).as_bytes(), head(n))
        })
    });
    let mut snapshot = index.clone();
    c.bench_function("index: put over 1 M keys, snapshot after each", |b| {
        b.iter(|| {
            let n = next();
            index.put(key(n * 13).as_bytes(), head(n));
            snapshot = index.clone();
        })
    });
    c.bench_function("index: put over 1 M keys, snapshot after 16", |b| {
        b.iter(|| {
            let n = next();
            index.put(key(n * 13).as_bytes(), head(n));
            if n % 16 == 0 {
                snapshot = index.clone();
            }
        })
    });
    c.bench_function("key: only making one (to subtract)", |b| b.iter(|| key(next() * 13)));
    c.bench_function("index: get over 1 M keys", |b| {
        b.iter(|| index.get(key(next() * 13).as_bytes(), NOW))
    });
    c.bench_function("index: count of 1 M", |b| b.iter(|| index.count(black_box(&whole()), NOW)));
    let half = Span::new(key(500_123).into(), Bytes::from_static(b"\0"));
    c.bench_function("index: count from the middle", |b| b.iter(|| index.count(&half, NOW)));
    let before = n as i64 - 10_000;
    c.bench_function("index: count of 1 M, 10 k changes ago", |b| {
        b.iter(|| index.count(&whole(), before))
    });
}

fn bench_store(c: &mut Criterion<CpuTime>) {
    let mut store = Store::open(Arc::new(Empty)).expect("an empty engine is a fresh store");
    let value = [7; 256];
    for n in 0..KEYS {
        let mut txn = store.begin();
        txn.put(key(n).as_bytes(), &value, 0);
        txn.end();
    }
    store.publish();
    let reader = store.reader();
    let mut n = 0;
    c.bench_function("store: page of 500 rows", |b| {
        b.iter(|| {
            n += 17;
            reader.range(&range(key(n), 500, 0)).expect("nothing is compacted")
        })
    });
    c.bench_function("store: 500 keys without rows", |b| {
        b.iter(|| {
            n += 17;
            let request = pb::RangeRequest { keys_only: true, ..range(key(n), 500, 0) };
            reader.range(&request).expect("nothing is compacted")
        })
    });
    c.bench_function("store: get one row", |b| {
        b.iter(|| {
            n += 17;
            let request = pb::RangeRequest { key: key(n).into(), ..Default::default() };
            reader.range(&request).expect("nothing is compacted")
        })
    });
    let mut worst = Duration::ZERO;
    c.bench_function("store: put and publish", |b| {
        b.iter(|| {
            n += 17;
            let key = key(n);
            let start = Instant::now();
            let mut txn = store.begin();
            txn.put(key.as_bytes(), &value, 0);
            let changes = txn.end();
            store.publish();
            worst = worst.max(start.elapsed());
            changes
        })
    });
    println!("worst put and publish: {worst:?}");
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = bench_index, bench_store
}
criterion_main!(benches);
