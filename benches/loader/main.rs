//! The loader: every row of the performance table, against one server or several by turns.
//!
//! The question is how many times faster than etcd, on the machine at hand. Absolute times
//! drift from hour to hour, so targets take turns (A B A B ...), each row begins with fresh
//! servers, and what counts is the ratio of medians, the CPU time per operation, and the bytes.
//!
//! ```text
//! cargo bench --bench loader -- --target etcd=/path/to/etcd --target kvorum=/path/to/kvorum
//! ```
//!
//! - `--rows put256,get` picks rows; `--help` names them all. `--seconds`, `--runs` say how long
//!   and how often. `--quick` is a smoke test: its figures mean nothing.
//! - `--endpoint name=url,pid` measures a server that runs already. Rows that must restart it
//!   fail, and what one row wrote the next one finds.
//! - `--members 3` starts clusters. CPU time and bytes are those of all members together.
//! - The first target is what the others are compared with.
//!
//! How to read the table, and what biases it, is told in `docs/performance.md`.
//!
//! What it is made of, top down: `rows` (what each row does), `load` (clients in threads),
//! `operation` (calls and their answers), `wire` and `headers` (HTTP/2 by hand, since what the
//! loader spends is taken from the server), `server` and `process` (the target and its counters),
//! `grpc` (the generated clients, for filling and reading back), `figure` and `report`.

mod data;
mod figure;
mod grpc;
mod headers;
mod histogram;
mod load;
mod message;
mod operation;
mod process;
mod report;
mod rows;
mod server;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use report::Runs;
use rows::{Experiment, Plan, Row};
use server::{At, Server, Target};

/// Sizes of a smoke test are divided by this.
const QUICK_SHRINK: u64 = 20;

/// Measures etcd and whatever speaks as it does.
#[derive(Parser)]
struct Arguments {
    /// A server to start: `name=/path/to/program[,--flag...]`
    #[arg(long, value_parser = Target::program)]
    target: Vec<Target>,
    /// A server that runs: `name=http://127.0.0.1:2379,pid`
    #[arg(long, value_parser = Target::running)]
    endpoint: Vec<Target>,
    /// The rows to run, by name, or all
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Members of each target
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// Which members clients go to: once for each; all, if nothing is said
    #[arg(long, value_enum, value_delimiter = ',')]
    at: Vec<At>,
    /// How long a run measures
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How often each target has its turn
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Threads of clients
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where servers keep their data; it must be on the disk that is measured
    #[arg(long, default_value = "target/loader")]
    dir: PathBuf,
    /// One run of a second with little data
    #[arg(long)]
    quick: bool,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let targets: Vec<Target> =
        arguments.target.iter().chain(&arguments.endpoint).cloned().collect();
    if targets.is_empty() {
        // `cargo bench` without arguments runs this, too, and there is nothing to measure.
        println!("the loader needs a --target or an --endpoint; --help tells more");
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = targets.iter().map(Target::name).collect();
    if arguments.quick {
        println!("A smoke test: data is {QUICK_SHRINK} times smaller than the rows say.\n");
    }
    if arguments.members > 1 {
        println!("Clusters of {} members; a row says where its clients are.\n", arguments.members);
    }
    println!("{}", report::head(&names));
    let mut failures = 0;
    for row in arguments.rows() {
        for at in arguments.places(row) {
            let plan = arguments.plan(at);
            let (runs, failed) = run_row(row, &targets, &plan, &arguments.dir);
            let title = match arguments.members {
                1 => row.title().to_owned(),
                _ => format!("{}, {}", row.title(), at.word()),
            };
            println!("{}", report::row(&title, &runs, &row.bars()));
            failures += failed;
        }
    }
    ExitCode::from(u8::from(failures > 0))
}

impl Arguments {
    fn rows(&self) -> Vec<Row> {
        match (self.rows.is_empty(), self.members) {
            (false, _) => self.rows.clone(),
            (true, 1) => Row::usual(),
            (true, _) => Row::of_clusters(),
        }
    }

    fn places(&self, row: Row) -> Vec<At> {
        if self.at.is_empty() { row.usual_places(self.members) } else { self.at.clone() }
    }

    fn plan(&self, at: At) -> Plan {
        let measure = Duration::from_secs_f64(if self.quick { 1.0 } else { self.seconds });
        Plan {
            warm_up: (measure / 5).max(Duration::from_millis(500)),
            measure,
            runs: if self.quick { 1 } else { self.runs },
            shrink: if self.quick { QUICK_SHRINK } else { 1 },
            threads: self.threads.max(1),
            members: self.members.max(1),
            at,
        }
    }
}

/// A target that takes part in a row.
struct Contestant {
    server: Server,
    experiment: Box<dyn Experiment>,
}

/// Runs a row with all targets by turns; a target that fails is out of this row.
fn run_row(row: Row, targets: &[Target], plan: &Plan, directory: &Path) -> (Vec<Runs>, usize) {
    let mut results: Vec<Runs> = targets.iter().map(|_| Runs::new()).collect();
    let mut contestants: Vec<Option<Contestant>> = Vec::new();
    let mut failures = 0;
    let mut tell = |target: &Target, error: anyhow::Error| {
        eprintln!("{} of {}: {error:#}", row.title(), target.name());
        failures += 1;
    };
    for target in targets {
        let contestant = Contestant::new(row, target, plan, directory);
        contestants.push(contestant.map_err(|error| tell(target, error)).ok());
    }
    let repeats = contestants.iter().flatten().all(|one| one.experiment.repeats());
    for run in 1..=if repeats { plan.runs } else { 1 } {
        for (number, target) in targets.iter().enumerate() {
            let Some(one) = &mut contestants[number] else { continue };
            let led = one.server.put_leader_first();
            match led.and_then(|()| one.experiment.measure(&mut one.server, plan)) {
                Ok(figures) => {
                    eprintln!("{}, run {run}, {}: {}", row.title(), target.name(), brief(&figures));
                    results[number].push(figures);
                }
                Err(error) => {
                    tell(target, error);
                    contestants[number] = None;
                }
            }
        }
    }
    (results, failures)
}

impl Contestant {
    fn new(row: Row, target: &Target, plan: &Plan, directory: &Path) -> Result<Self> {
        let mut server = target.start(directory, plan.members)?;
        let mut experiment = row.experiment();
        experiment.prepare(&mut server, plan).context("while preparing")?;
        Ok(Self { server, experiment })
    }
}

/// The first figures, for whoever watches.
fn brief(figures: &[figure::Figure]) -> String {
    let tell = |figure: &figure::Figure| format!("{} {:.1}", figure.name, figure.value);
    figures.iter().take(4).map(tell).collect::<Vec<_>>().join(", ")
}
