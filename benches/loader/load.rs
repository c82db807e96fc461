//! The load: clients on threads that do nothing but wait for sockets and answer them.
//!
//! A lane is a number of clients that make the same call over their own connections. Clients of
//! a lane without a pace call again as soon as they are answered (a closed loop). With a pace
//! calls fall due at fixed moments, and latency counts from that moment, also when every client
//! is still waiting: a server that stands still is charged for all who would have come.
//!
//! The thread that started the load moves it through its phases, and each latency is counted in
//! the phase in which its call was answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::histogram::Histogram;
use super::operation::{Acknowledged, Client, Operation};
use super::wire::{Connection, Event, Side};

/// How long a thread may sleep before it looks whether the phase has changed.
const NAP: Duration = Duration::from_millis(20);
/// A server that answers nobody for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(90);
const PHASES: usize = 5;

/// Clients that make the same call.
#[derive(Clone)]
pub struct Lane {
    pub operation: Operation,
    pub clients: usize,
    pub connections: usize,
    /// Calls per second, all clients together; without it, as many as are answered.
    pub pace: Option<f64>,
    /// On a thread that serves nobody else, so that its latencies are not those of the loader.
    pub apart: bool,
}

/// What a run is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Measure,
    Compact,
    Defragment,
    /// No new calls; those under way are awaited.
    Tail,
}

/// Where the load is told what phase it is in.
#[derive(Clone)]
pub struct Phases(Arc<AtomicUsize>);

/// What the calls of a lane came to.
pub struct Outcome {
    histograms: Vec<Histogram>,
    /// The last write of each client.
    pub acknowledged: Vec<Acknowledged>,
}

/// Runs the lanes while `script` walks through the phases, and after that the tail. Connections go
/// to the addresses by turns.
pub fn run<R>(
    addresses: &[SocketAddr],
    lanes: &[Lane],
    threads: usize,
    script: impl FnOnce(&Phases) -> Result<R>,
) -> Result<(R, Vec<Outcome>)> {
    let phases = Phases(Arc::new(AtomicUsize::new(Phase::WarmUp as usize)));
    let mut workers = share_out(addresses, lanes, threads, &phases)?;
    let barrier = Barrier::new(workers.len() + 1);
    thread::scope(|scope| {
        let handles: Vec<_> = workers
            .drain(..)
            .map(|mut worker| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    worker.run().map(|()| worker)
                })
            })
            .collect();
        barrier.wait();
        let result = script(&phases);
        phases.enter(Phase::Tail);
        let mut outcomes: Vec<Outcome> = lanes.iter().map(|_| Outcome::new()).collect();
        for handle in handles {
            let worker = handle.join().expect("a worker returns its errors")?;
            worker.report(&mut outcomes);
        }
        Ok((result?, outcomes))
    })
}

/// Deals connections to threads like cards, and clients to the connections of their lane.
fn share_out<'a>(
    addresses: &[SocketAddr],
    lanes: &'a [Lane],
    threads: usize,
    phases: &Phases,
) -> Result<Vec<Worker<'a>>> {
    static RUN: AtomicU64 = AtomicU64::new(1);
    let seed = RUN.fetch_add(1, Ordering::Relaxed) << 56;
    let mut workers: Vec<Worker> = (0..threads).map(|_| Worker::new(phases, lanes)).collect();
    for (lane, what) in lanes.iter().enumerate() {
        if what.apart {
            workers.push(Worker::new(phases, lanes));
        }
        let apart = what.apart.then_some(workers.len() - 1);
        for card in 0..what.connections {
            let numbers: Vec<usize> = (card..what.clients).step_by(what.connections).collect();
            let worker = &mut workers[apart.unwrap_or(card % threads)];
            let address = addresses[card % addresses.len()];
            let connection = Connection::open(address, what.operation.path(), numbers.len())?;
            worker.take(lane, connection, &numbers, seed);
        }
    }
    workers.retain(|worker| !worker.lines.is_empty());
    Ok(workers)
}

impl Phases {
    /// From now on it is this phase.
    pub fn enter(&self, phase: Phase) {
        self.0.store(phase as usize, Ordering::Relaxed);
    }

    fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Outcome {
    fn new() -> Self {
        Self { histograms: vec![Histogram::new(); PHASES], acknowledged: Vec::new() }
    }

    /// Latencies of a phase.
    pub fn of(&self, phase: Phase) -> &Histogram {
        &self.histograms[phase as usize]
    }
}

struct Worker<'a> {
    lanes: &'a [Lane],
    phases: Phases,
    lines: Vec<Line>,
    /// By lane.
    outcomes: Vec<Outcome>,
    paces: Vec<Option<Pace>>,
    busy: usize,
    /// The answered seats of a turn; kept for its memory.
    done: Vec<usize>,
    request: Vec<u8>,
}

/// A connection and who sits on it.
struct Line {
    lane: usize,
    connection: Connection,
    seats: Vec<Seat>,
}

struct Seat {
    client: Client,
    started: Instant,
}

/// When calls fall due, and who is free to make them.
struct Pace {
    due: Instant,
    /// This thread's share of the lane's pace.
    per_second: f64,
    free: Vec<(usize, usize)>,
}

impl<'a> Worker<'a> {
    fn new(phases: &Phases, lanes: &'a [Lane]) -> Self {
        Self {
            lanes,
            phases: phases.clone(),
            lines: Vec::new(),
            outcomes: lanes.iter().map(|_| Outcome::new()).collect(),
            paces: lanes.iter().map(|_| None).collect(),
            busy: 0,
            done: Vec::new(),
            request: Vec::new(),
        }
    }

    fn take(&mut self, lane: usize, connection: Connection, clients: &[usize], seed: u64) {
        let now = Instant::now();
        if let Some(per_second) = self.lanes[lane].pace {
            let idle = Pace { due: now, per_second: 0.0, free: Vec::new() };
            let pace = self.paces[lane].get_or_insert(idle);
            pace.per_second += per_second / self.lanes[lane].connections as f64;
            pace.free.extend((0..clients.len()).map(|seat| (self.lines.len(), seat)));
        }
        let seat = |&number| Seat { client: Client::new(number, seed), started: now };
        self.lines.push(Line { lane, connection, seats: clients.iter().map(seat).collect() });
    }

    fn run(&mut self) -> Result<()> {
        let start = Instant::now();
        self.paces.iter_mut().flatten().for_each(|pace| pace.due = start);
        for line in 0..self.lines.len() {
            if self.lanes[self.lines[line].lane].pace.is_none() {
                (0..self.lines[line].seats.len()).for_each(|seat| self.call(line, seat, start));
            }
            self.lines[line].connection.flush()?;
        }
        let mut heard = start;
        while self.busy > 0 || self.phases.now() != Phase::Tail as usize {
            let nap = self.call_due()?;
            let ready = self.wait(nap)?;
            for (line, flags) in ready.iter().enumerate() {
                if !flags.is_empty() {
                    heard = Instant::now();
                    self.turn(line)?;
                }
            }
            ensure!(self.busy == 0 || heard.elapsed() < SILENCE_MAX, "the server is silent");
        }
        Ok(())
    }

    /// Makes the calls that are due, and tells how long the next one has time.
    fn call_due(&mut self) -> Result<Duration> {
        let mut nap = NAP;
        if self.phases.now() == Phase::Tail as usize {
            return Ok(nap);
        }
        let now = Instant::now();
        for lane in 0..self.lanes.len() {
            while let Some(pace) = &mut self.paces[lane]
                && pace.due <= now
                && let Some((line, seat)) = pace.free.pop()
            {
                let due = pace.due;
                pace.due += Duration::from_secs_f64(1.0 / pace.per_second);
                self.call(line, seat, due);
                self.lines[line].connection.flush()?;
            }
            if let Some(pace) = &self.paces[lane] {
                nap = nap.min(pace.due.saturating_duration_since(now));
            }
        }
        Ok(nap)
    }

    fn wait(&self, nap: Duration) -> Result<Vec<PollFlags>> {
        let watched = |line: &'_ Line| {
            let write =
                if line.connection.wants_to_write() { PollFlags::OUT } else { PollFlags::empty() };
            PollFlags::IN | write
        };
        let mut polled: Vec<PollFd> = self
            .lines
            .iter()
            .map(|line| PollFd::from_borrowed_fd(line.connection.descriptor(), watched(line)))
            .collect();
        let nap = Timespec::try_from(nap).context("a short time")?;
        match poll(&mut polled, Some(&nap)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for sockets"),
        }
        Ok(polled.iter().map(PollFd::revents).collect())
    }

    /// Reads what a connection has for its clients; whoever is answered calls again.
    fn turn(&mut self, number: usize) -> Result<()> {
        let line = &mut self.lines[number];
        let operation = &self.lanes[line.lane].operation;
        let (seats, done) = (&mut line.seats, &mut self.done);
        done.clear();
        line.connection.receive(&mut |seat, event| {
            match event {
                Event::Message(answer) => {
                    seats[seat].client.check(operation, answer)?;
                    if operation.side() == Side::KeepOpen {
                        done.push(seat);
                    }
                }
                Event::End { answered } => {
                    ensure!(answered, "the server refused a call of {}", operation.path());
                    ensure!(operation.side() == Side::Close, "the server ended a stream");
                    done.push(seat);
                }
            }
            Ok(())
        })?;
        let now = Instant::now();
        let phase = self.phases.now();
        let lane = line.lane;
        for index in 0..self.done.len() {
            let seat = self.done[index];
            let started = self.lines[number].seats[seat].started;
            self.outcomes[lane].histograms[phase].record(now - started);
            self.busy -= 1;
            if let Some(pace) = &mut self.paces[lane] {
                pace.free.push((number, seat));
            } else if phase != Phase::Tail as usize {
                self.call(number, seat, now);
            }
        }
        self.lines[number].connection.flush()
    }

    fn call(&mut self, line: usize, number: usize, started: Instant) {
        let line = &mut self.lines[line];
        let operation = &self.lanes[line.lane].operation;
        let seat = &mut line.seats[number];
        seat.client.ask(operation, &mut self.request);
        seat.started = started;
        line.connection.send(number, &self.request, operation.side());
        self.busy += 1;
    }

    /// Adds what this thread counted to what others did.
    fn report(self, outcomes: &mut [Outcome]) {
        for (total, mine) in outcomes.iter_mut().zip(&self.outcomes) {
            for (total, mine) in total.histograms.iter_mut().zip(&mine.histograms) {
                total.add(mine);
            }
        }
        for line in self.lines {
            let last = line.seats.into_iter().filter_map(|seat| seat.client.last);
            outcomes[line.lane].acknowledged.extend(last);
        }
    }
}
