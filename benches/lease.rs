//! What does a million leases cost the leader? Renewals, ticks in which nothing is due, promotion.
//!
//! Run with `cargo bench --bench lease`. A renewal must stay well below what the network costs
//! (microseconds), a tick must not be felt, and a promotion may take a second but not several.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use kvorum::lease::{Book, Deadlines, Renewal};

const LEASES: i64 = 1_000_000;

fn book() -> Book {
    let mut book = Book::default();
    for id in 1..=LEASES {
        book.grant(id, 60 + id % 60).expect("ids are fresh");
    }
    book
}

fn million(criterion: &mut Criterion) {
    let book = book();
    let mut deadlines = Deadlines::default();
    deadlines.promote(0, 1000, book.leases());
    let mut group = criterion.benchmark_group("a million leases");
    group.throughput(Throughput::Elements(1));
    group.bench_function("renew", |bencher| {
        let mut id = 1;
        bencher.iter(|| {
            id = (id + 618_033) % LEASES + 1;
            assert!(matches!(deadlines.renewed(id, 30_000), Renewal::Renewed(_)));
        });
    });
    group.bench_function("tick with nothing due", |bencher| {
        bencher.iter(|| assert!(deadlines.expired(30_000, 500).is_empty()));
    });
    group.bench_function("remaining", |bencher| {
        bencher.iter(|| deadlines.remaining(500_000, 30_000));
    });
    group.sample_size(10);
    group.bench_function("promote", |bencher| {
        bencher.iter(|| deadlines.promote(0, 1000, book.leases()));
    });
    group.finish();
}

criterion_group!(benches, million);
criterion_main!(benches);
