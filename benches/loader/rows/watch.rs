//! One key, watched by a thousand clients with a stream each: how fast they all hear of puts.
//!
//! A put is made as soon as all but the last few have reached everybody, so that watchers keep
//! up: what is measured is delivery, not how a server digs itself out. At the end every watcher
//! must have heard of every put, once; one of them looks at each event.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kvorum::pb;
use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Experiment, Plan};
use crate::data;
use crate::figure::{self, Figure, higher, lower, neither};
use crate::grpc::Filling;
use crate::histogram::Histogram;
use crate::message;
use crate::process::{self, Moment};
use crate::server::Server;
use crate::wire::{Connection, Event, Side};

const WATCHERS: usize = 1000;
const CONNECTIONS: usize = 16;
const VALUE_BYTES: usize = 1024;
/// Puts that need not have reached everybody when the next is made.
const AHEAD_MAX: u64 = 8;
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
const SILENCE_MAX: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(1);

pub struct Watch {
    runs: u64,
}

impl Watch {
    pub fn new() -> Self {
        Self { runs: 0 }
    }
}

impl Experiment for Watch {
    fn prepare(&mut self, server: &mut Server, _: &Plan) -> Result<()> {
        let (rows, batch) = (1, 1);
        server.client()?.fill(Filling { rows, value_bytes: VALUE_BYTES, generation: 1, batch })
    }

    fn measure(&mut self, server: &mut Server, plan: &Plan) -> Result<Vec<Figure>> {
        self.runs += 1;
        let mut crowd = Crowd::gather(server, self.runs)?;
        crowd.hear(plan.warm_up)?;
        let (before, loader) = (server.usage()?, process::cpu_micros(std::process::id())?);
        let moment = Moment::now(&before)?;
        crowd.forget();
        let (start, heard) = (Instant::now(), crowd.total);
        crowd.hear(plan.measure)?;
        let seconds = start.elapsed().as_secs_f64();
        let rate = (crowd.total - heard) as f64 / seconds;
        let latencies = std::mem::replace(&mut crowd.latencies, Histogram::new());
        crowd.finish()?;
        let loader = process::cpu_micros(std::process::id())? - loader;
        let deliveries = (crowd.total - heard) as f64;
        thread::sleep(SETTLE);
        let after = server.usage()?;
        let others = Moment::now(&after)?.others_percent(&moment);
        let each = |before: f64, after: f64| (after - before) / deliveries;
        Ok(vec![
            higher(figure::RATE, rate),
            lower(figure::P50, latencies.quantile_micros(0.5)),
            lower(figure::P99, latencies.quantile_micros(0.99)),
            lower(figure::SERVER_CPU, each(before.cpu_micros, after.cpu_micros)),
            neither(figure::RESIDENT, after.memory.resident / 1e6),
            neither(figure::LOADER_CPU, loader / deliveries),
            neither(figure::OTHERS, others),
        ])
    }
}

/// All watchers, and the one who writes.
struct Crowd {
    /// The watchers' connections, and the writer's as the last.
    lines: Vec<Connection>,
    /// How many events each watcher of each line has heard.
    heard: Vec<Vec<u64>>,
    total: u64,
    created: usize,
    /// When each put was made.
    puts: Vec<Instant>,
    acknowledged: u64,
    writers_free: Vec<usize>,
    seed: u64,
    latencies: Histogram,
    witness: Witness,
}

/// Looks at the events of one watcher.
#[derive(Default)]
struct Witness {
    revision: Option<i64>,
}

impl Crowd {
    /// Connects everybody, and waits until all watchers are in place.
    fn gather(server: &Server, run: u64) -> Result<Self> {
        let (mut lines, mut heard) = (Vec::new(), Vec::new());
        let create = pb::WatchCreateRequest { key: data::key(0), prev_kv: true, ..<_>::default() };
        let request_union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
        let create = pb::WatchRequest { request_union }.encode_to_vec();
        for number in 0..CONNECTIONS {
            let watchers = (number..WATCHERS).step_by(CONNECTIONS).count();
            let path = "/etcdserverpb.Watch/Watch";
            let mut line = Connection::open(server.address, path, watchers)?;
            (0..watchers).for_each(|watcher| line.send(watcher, &create, Side::KeepOpen));
            line.flush()?;
            lines.push(line);
            heard.push(vec![0; watchers]);
        }
        lines.push(Connection::open(server.address, "/etcdserverpb.KV/Put", AHEAD_MAX as usize)?);
        let mut crowd = Self {
            lines,
            heard,
            total: 0,
            created: 0,
            puts: Vec::new(),
            acknowledged: 0,
            writers_free: (0..AHEAD_MAX as usize).collect(),
            seed: run << 48,
            latencies: Histogram::new(),
            witness: Witness::default(),
        };
        let start = Instant::now();
        while crowd.created < WATCHERS {
            crowd.turn()?;
            ensure!(start.elapsed() < SILENCE_MAX, "the watchers are not created");
        }
        Ok(crowd)
    }

    /// Puts, and listens, for so long.
    fn hear(&mut self, time: Duration) -> Result<()> {
        let (start, mut total, mut news) = (Instant::now(), self.total, Instant::now());
        while start.elapsed() < time {
            let everywhere = self.total / WATCHERS as u64;
            while (self.puts.len() as u64) < everywhere + AHEAD_MAX
                && let Some(writer) = self.writers_free.pop()
            {
                self.put(writer)?;
            }
            self.turn()?;
            if self.total > total {
                (total, news) = (self.total, Instant::now());
            }
            ensure!(news.elapsed() < SILENCE_MAX, "the watchers hear nothing");
        }
        Ok(())
    }

    /// Listens until everybody has heard everything.
    fn finish(&mut self) -> Result<()> {
        let puts = self.puts.len() as u64;
        let start = Instant::now();
        while self.total < puts * WATCHERS as u64 || self.acknowledged < puts {
            self.turn()?;
            ensure!(start.elapsed() < SILENCE_MAX, "some watchers do not hear everything");
        }
        let alike = self.heard.iter().flatten().all(|heard| *heard == puts);
        ensure!(alike, "some watchers heard more than there was");
        Ok(())
    }

    fn forget(&mut self) {
        self.latencies = Histogram::new();
    }

    fn put(&mut self, writer: usize) -> Result<()> {
        self.seed += 1;
        let (key, value) = (data::key(0), data::value(self.seed, VALUE_BYTES));
        let put = pb::PutRequest { key, value, ..Default::default() }.encode_to_vec();
        let line = &mut self.lines[CONNECTIONS];
        line.send(writer, &put, Side::Close);
        self.puts.push(Instant::now());
        line.flush()
    }

    /// Reads whatever has arrived.
    fn turn(&mut self) -> Result<()> {
        let watch = |line: &Connection| {
            if line.wants_to_write() { PollFlags::OUT } else { PollFlags::empty() }
        };
        let polled = |line| (line, PollFlags::IN | watch(line));
        let mut polled: Vec<PollFd> = self
            .lines
            .iter()
            .map(polled)
            .map(|(line, flags)| PollFd::from_borrowed_fd(line.descriptor(), flags))
            .collect();
        match poll(&mut polled, Some(&NAP)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for sockets"),
        }
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        for (line, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            if line == CONNECTIONS {
                self.hear_writers()?
            } else {
                self.hear_watchers(line)?
            }
            self.lines[line].flush()?;
        }
        Ok(())
    }

    fn hear_writers(&mut self) -> Result<()> {
        let (free, acknowledged) = (&mut self.writers_free, &mut self.acknowledged);
        self.lines[CONNECTIONS].receive(&mut |writer, event| {
            match event {
                Event::Message(_) => *acknowledged += 1,
                Event::End { answered } => {
                    ensure!(answered, "the server refused a put");
                    free.push(writer);
                }
            }
            Ok(())
        })
    }

    fn hear_watchers(&mut self, line: usize) -> Result<()> {
        let (heard, puts) = (&mut self.heard[line], &self.puts);
        let (total, created) = (&mut self.total, &mut self.created);
        let (latencies, witness) = (&mut self.latencies, &mut self.witness);
        let now = Instant::now();
        self.lines[line].receive(&mut |watcher, event| {
            let Event::Message(answer) = event else {
                anyhow::bail!("the server ended a watch");
            };
            let events = message::count(answer, 11) as u64;
            if events == 0 {
                ensure!(message::number(answer, 4) == 0, "the server canceled a watch");
                *created += message::number(answer, 3) as usize;
            }
            for _ in 0..events {
                let put = puts.get(heard[watcher] as usize).context("an event without a put")?;
                latencies.record(now - *put);
                heard[watcher] += 1;
            }
            *total += events;
            if line == 0 && watcher == 0 { witness.look(answer) } else { Ok(()) }
        })
    }
}

impl Witness {
    /// Each event is newer than the one before, and tells what that one said.
    fn look(&mut self, answer: &[u8]) -> Result<()> {
        for event in pb::WatchResponse::decode(answer)?.events {
            let event = pb::Event::decode(event)?;
            let row = pb::KeyValue::decode(event.kv.context("an event without a row")?)?;
            let previous = pb::KeyValue::decode(event.prev_kv.context("no previous row")?)?;
            ensure!(previous.mod_revision < row.mod_revision, "the previous row is no older");
            if let Some(last) = self.revision.replace(row.mod_revision) {
                ensure!(previous.mod_revision == last, "an event is missing or out of order");
            }
            ensure!(row.value.len() == VALUE_BYTES, "an event without its value");
            ensure!(previous.value.len() == VALUE_BYTES, "a previous row without its value");
        }
        Ok(())
    }
}
