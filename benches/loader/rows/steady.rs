//! Rows of one kind of call, made for some seconds by as many clients as the row has.
//!
//! CPU time and written bytes are counted until the server has had a second to finish what it
//! put off: work that is done later is still work.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Experiment, Plan};
use crate::data::Keys;
use crate::figure::{self, Figure, higher, lower, neither};
use crate::grpc::{FILL_BATCH, Filling};
use crate::load::{self, Lane, Outcome, Phase, Phases};
use crate::operation::Operation;
use crate::process::{self, Moment, Usage};
use crate::server::Server;
use crate::wire::Side;

pub const READ_P99: &str = "read p99 µs";
/// What a server may put off, it has done by then: etcd commits every 100 ms.
const SETTLE: Duration = Duration::from_secs(1);
const WRITERS: usize = 100;
const READS_PER_SECOND: f64 = 500.0;
/// What the slower of two clusters on two cores can take, so that both do the same work.
pub const WRITES_PER_SECOND: f64 = 5000.0;

/// What is in the store before the first run.
#[derive(Clone, Copy)]
struct Store {
    /// Keys that are written or read.
    keys: u64,
    value_bytes: usize,
    /// Whether they exist from the start.
    filled: bool,
}

type Make = Box<dyn Fn(&Arc<Keys>) -> Vec<Lane>>;

/// A row of this kind.
struct Steady {
    store: Store,
    make: Make,
    report: fn(&Measured) -> Vec<Figure>,
    lanes: Vec<Lane>,
}

/// What a run came to.
pub struct Measured {
    pub outcomes: Vec<Outcome>,
    seconds: f64,
    server: (Usage, Usage),
    /// Of each member, the leader first.
    residents: Vec<f64>,
    loader_micros: f64,
    others_percent: f64,
}

pub fn put(clients: usize, connections: usize) -> Box<dyn Experiment> {
    let store = Store { keys: 100_000, value_bytes: 256, filled: false };
    steady(store, move |keys| vec![put_lane(keys, store.value_bytes, clients, connections)])
}

pub fn update(clients: usize, connections: usize) -> Box<dyn Experiment> {
    let store = Store { keys: 0, value_bytes: 1024, filled: false };
    steady(store, move |_| {
        let operation = Operation::Update { value_bytes: store.value_bytes };
        vec![lane(operation, clients, connections)]
    })
}

pub fn get(clients: usize, connections: usize, serializable: bool) -> Box<dyn Experiment> {
    let store = Store { keys: 10_000, value_bytes: 256, filled: true };
    steady(store, move |keys| {
        let operation = Operation::Get { keys: keys.clone(), serializable };
        vec![lane(operation, clients, connections)]
    })
}

pub fn page(clients: usize, connections: usize) -> Box<dyn Experiment> {
    let store = Store { keys: 10_000, value_bytes: 1024, filled: true };
    steady(store, move |keys| vec![page_lane(keys, clients, connections)])
}

pub fn keep_alive(clients: usize, connections: usize, lasting: bool) -> Box<dyn Experiment> {
    let side = if lasting { Side::KeepOpen } else { Side::Close };
    let lanes =
        move |leases| vec![lane(Operation::KeepAlive { leases, side }, clients, connections)];
    Box::new(KeepAlive { clients, make: Box::new(lanes), lanes: Vec::new() })
}

/// Reads at a fixed pace among writers that write as fast as they can, or so often per second.
pub fn get_amid_puts(pace: Option<f64>) -> Box<dyn Experiment> {
    let store = Store { keys: 10_000, value_bytes: 256, filled: true };
    let make = move |keys: &Arc<Keys>| {
        let read = Operation::Get { keys: keys.clone(), serializable: false };
        let reads = Lane { pace: Some(READS_PER_SECOND), apart: true, ..lane(read, 64, 4) };
        vec![reads, Lane { pace, ..put_lane(keys, store.value_bytes, WRITERS, 8) }]
    };
    let report = |measured: &Measured| {
        let reads = measured.outcomes[0].of(Phase::Measure);
        let writes = measured.outcomes[1].of(Phase::Measure);
        vec![
            lower("read p50 µs", reads.quantile_micros(0.5)),
            lower(READ_P99, reads.quantile_micros(0.99)),
            higher("reads/s", reads.count() as f64 / measured.seconds),
            higher("writes/s", writes.count() as f64 / measured.seconds),
        ]
        .into_iter()
        .chain(measured.of_each_operation())
        .collect()
    };
    Box::new(Steady { store, make: Box::new(make), report, lanes: Vec::new() })
}

pub fn put_lane(keys: &Arc<Keys>, value_bytes: usize, clients: usize, connections: usize) -> Lane {
    lane(Operation::Put { keys: keys.clone(), value_bytes }, clients, connections)
}

pub fn page_lane(keys: &Arc<Keys>, clients: usize, connections: usize) -> Lane {
    lane(Operation::Page { keys: keys.clone(), limit: 500 }, clients, connections)
}

pub fn lane(operation: Operation, clients: usize, connections: usize) -> Lane {
    Lane { operation, clients, connections, pace: None, apart: false }
}

fn steady(store: Store, make: impl Fn(&Arc<Keys>) -> Vec<Lane> + 'static) -> Box<dyn Experiment> {
    Box::new(Steady { store, make: Box::new(make), report: Measured::usual, lanes: Vec::new() })
}

impl Experiment for Steady {
    fn prepare(&mut self, server: &mut Server, plan: &Plan) -> Result<()> {
        let Store { keys, value_bytes, filled } = self.store;
        let rows = if keys > 0 { (keys / plan.shrink).max(1000) } else { 0 };
        self.lanes = (self.make)(&Arc::new(Keys::new(rows)));
        if filled {
            let filling = Filling { rows, value_bytes, generation: 1, batch: FILL_BATCH };
            server.client()?.fill(filling)?;
        }
        Ok(())
    }

    fn measure(&mut self, server: &mut Server, plan: &Plan) -> Result<Vec<Figure>> {
        Ok((self.report)(&measure(server, plan, &self.lanes)?))
    }
}

/// As `Steady`, but what exists from the start is leases.
struct KeepAlive {
    clients: usize,
    make: Box<dyn Fn(Arc<Vec<i64>>) -> Vec<Lane>>,
    lanes: Vec<Lane>,
}

impl Experiment for KeepAlive {
    fn prepare(&mut self, server: &mut Server, _: &Plan) -> Result<()> {
        self.lanes = (self.make)(Arc::new(server.client()?.grant(self.clients)?));
        Ok(())
    }

    fn measure(&mut self, server: &mut Server, plan: &Plan) -> Result<Vec<Figure>> {
        Ok(measure(server, plan, &self.lanes)?.usual())
    }
}

/// Runs the lanes, and reads again what was written.
pub fn measure(server: &Server, plan: &Plan, lanes: &[Lane]) -> Result<Measured> {
    let script = |phases: &Phases| {
        thread::sleep(plan.warm_up);
        let before = server.usage()?;
        let moment = Moment::now(&before)?;
        let before = (before, process::cpu_micros(std::process::id())?, moment);
        phases.enter(Phase::Measure);
        let start = Instant::now();
        thread::sleep(plan.measure);
        phases.enter(Phase::Tail);
        Ok((before, start.elapsed().as_secs_f64()))
    };
    let addresses = server.addresses(plan.at);
    let ((before, seconds), outcomes) = load::run(&addresses, lanes, plan.threads, script)?;
    let loader_micros = process::cpu_micros(std::process::id())? - before.1;
    thread::sleep(SETTLE);
    let after = server.usage()?;
    let others_percent = Moment::now(&after)?.others_percent(&before.2);
    let client = server.client()?;
    for outcome in &outcomes {
        client.verify(&outcome.acknowledged)?;
    }
    // What is left to be written is nobody's burden but this server's.
    rustix::fs::sync();
    let (residents, server) = (server.residents()?, (before.0, after));
    Ok(Measured { outcomes, seconds, server, residents, loader_micros, others_percent })
}

impl Measured {
    /// Calls answered since the counters were read, also those of the tail.
    fn operations(&self) -> f64 {
        let count = |outcome: &Outcome| {
            outcome.of(Phase::Measure).count() + outcome.of(Phase::Tail).count()
        };
        self.outcomes.iter().map(count).sum::<u64>() as f64
    }

    /// The figures of a row with one lane.
    pub fn usual(&self) -> Vec<Figure> {
        let latencies = self.outcomes[0].of(Phase::Measure);
        let mut figures = vec![
            higher(figure::RATE, latencies.count() as f64 / self.seconds),
            lower(figure::P50, latencies.quantile_micros(0.5)),
            lower(figure::P99, latencies.quantile_micros(0.99)),
        ];
        figures.extend(self.of_each_operation());
        figures
    }

    /// What an operation costs, and what the server has grown to.
    pub fn of_each_operation(&self) -> Vec<Figure> {
        let (before, after) = self.server;
        let operations = self.operations();
        let each = |before: f64, after: f64| (after - before) / operations;
        vec![
            lower(figure::SERVER_CPU, each(before.cpu_micros, after.cpu_micros)),
            lower(figure::WRITTEN, each(before.written_bytes, after.written_bytes)),
            neither(figure::LOADER_CPU, self.loader_micros / operations),
            neither(figure::OTHERS, self.others_percent),
        ]
        .into_iter()
        .chain(self.of_memory())
        .collect()
    }

    /// What is resident now, in each process.
    fn of_memory(&self) -> Vec<Figure> {
        let names = [figure::RESIDENT, figure::FOLLOWER_RESIDENT, figure::FOLLOWER_RESIDENT_TOO];
        let figures = names.iter().zip(&self.residents);
        figures.map(|(name, bytes)| neither(name, bytes / 1e6)).collect()
    }
}
