//! What does it cost to tell who cares? From a change to deliveries in the streams' hands.
//!
//! Run with `cargo bench --bench watch`. "elements" are deliveries (or, where nobody or one watcher
//! cares, events), so the inverse of `thrpt` is the time per delivery. The readers keep up: each
//! delivery is taken at once, and the hub is told of it as an edge would.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;

use kvorum::mvcc::Revision;
use kvorum::pb;
use kvorum::watch::{Change, Changes, Hub, Kind, Limits, Now, Output, Receipts, StreamId};

const NOW: Now = Now { revision: 1, compact_revision: -1 };

/// A hub with `streams` streams of `each` watchers, made by `request` from their number.
struct Bench {
    hub: Hub,
    receipts: Vec<Receipts>,
    revision: i64,
}

impl Bench {
    fn new(streams: u64, each: u64, request: impl Fn(u64) -> pb::WatchCreateRequest) -> Self {
        let limits = Limits::default();
        let mut hub = Hub::new(NOW, limits.clone());
        for stream in 0..streams {
            hub.open(StreamId(stream), 0);
            for number in 0..each {
                hub.create(StreamId(stream), &request(stream * each + number), NOW);
            }
        }
        let receipts = (0..streams).map(|_| Receipts::new(&limits)).collect();
        let mut bench = Self { hub, receipts, revision: 1 };
        bench.deliver();
        bench
    }

    /// Publishes one put; how many deliveries it made.
    fn publish(&mut self, key: Bytes) -> usize {
        self.revision += 1;
        let row = pb::KeyValue {
            key: key.clone(),
            create_revision: 2,
            mod_revision: self.revision,
            version: self.revision,
            value: Bytes::from_static(&[b'v'; 1024]),
            lease: 0,
        };
        let row = Bytes::from(row.encode_to_vec());
        let revision = Revision::new(2, 0);
        let change = Change { revision, key, row: row.clone(), kind: Kind::Put, created: false };
        let changes = Changes { revision: self.revision, events: vec![change] };
        self.hub.publish(changes, &mut |_| Ok(Some(row.clone()))).expect("the lookup works");
        self.deliver()
    }

    fn deliver(&mut self) -> usize {
        let mut reports = Vec::new();
        let mut deliveries = 0;
        for output in self.hub.work() {
            if let Output::Send { stream, delivery } = output {
                deliveries += 1;
                if let Some(taken) = self.receipts[stream.0 as usize].take(&delivery) {
                    reports.push((stream, taken));
                }
            }
        }
        for (stream, taken) in reports {
            self.hub.room(stream, taken);
        }
        deliveries
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/pods/namespace-{number:06}/pod"))
}

fn single(number: u64, prev_kv: bool) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key(number), prev_kv, ..Default::default() }
}

fn prefix(number: u64) -> pb::WatchCreateRequest {
    let start = format!("/registry/pods/namespace-{number:06}/");
    let end = format!("/registry/pods/namespace-{number:06}0");
    pb::WatchCreateRequest { key: start.into(), range_end: end.into(), ..Default::default() }
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for (name, prev_kv) in [("1000 watchers of one key", false), ("… with prev_kv", true)] {
        group.throughput(Throughput::Elements(1000));
        let mut bench = Bench::new(100, 10, |_| single(0, prev_kv));
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(bench.publish(key(0)), 1000));
        });
    }
    group.throughput(Throughput::Elements(1));
    let mut bench = Bench::new(100, 100, |number| single(number, false));
    group.bench_function("one of 10000 watched keys", |bencher| {
        let mut number = 0;
        bencher.iter(|| {
            number = (number + 7919) % 10_000;
            assert_eq!(bench.publish(key(number)), 1);
        });
    });
    let mut bench = Bench::new(100, 100, prefix);
    group.bench_function("one of 10000 watched prefixes", |bencher| {
        let mut number = 0;
        bencher.iter(|| {
            number = (number + 7919) % 10_000;
            assert_eq!(bench.publish(key(number)), 1);
        });
    });
    group.bench_function("none of 10000 watched prefixes", |bencher| {
        bencher.iter(|| assert_eq!(bench.publish(key(500_000)), 0));
    });
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
