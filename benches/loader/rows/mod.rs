//! The rows of the table: what each measures, and what is asked of it.
//!
//! A row is an experiment with each target: `prepare` brings a fresh server to where the row
//! begins, then `measure` runs as often as asked, with the targets taking turns.

mod growth;
mod list;
mod memory;
mod restart;
mod steady;
mod upkeep;
mod watch;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::figure::{self, Bar, Figure, below, times};
use super::server::{At, Server};

/// How long, how often, how big.
#[derive(Clone, Copy)]
pub struct Plan {
    pub warm_up: Duration,
    pub measure: Duration,
    pub runs: usize,
    /// Data sizes are divided by this: 1, but for a smoke test.
    pub shrink: u64,
    pub threads: usize,
    /// Of each target's cluster.
    pub members: usize,
    /// Which members the clients go to.
    pub at: At,
}

/// What a row does with a target.
pub trait Experiment {
    /// Brings a fresh server to where the row begins.
    fn prepare(&mut self, server: &mut Server, plan: &Plan) -> Result<()>;
    /// One run.
    fn measure(&mut self, server: &mut Server, plan: &Plan) -> Result<Vec<Figure>>;
    /// Whether a second run would tell anything.
    fn repeats(&self) -> bool {
        true
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Row {
    /// Put, 1 client.
    Put1,
    /// Put, 32 clients on 4 connections.
    Put32,
    /// Put, 256 clients on 16 connections.
    Put256,
    /// Put, 1000 clients on 64 connections.
    Put1000,
    /// Guarded update as Kubernetes does it, 1 KB, 256 clients.
    Txn,
    /// Linearizable get, 256 clients.
    Get,
    /// Serializable get, 256 clients.
    GetSerial,
    /// Linearizable get, 500 per second, while 100 clients put.
    GetAmidPuts,
    /// Linearizable get, 500 per second, while 100 clients put 5000 per second.
    GetAmidPaced,
    /// Page of 500 x 1 KB, 16 clients on 4 connections.
    Page,
    /// List of 100 k x 100 B.
    List,
    /// One key watched by 1000, 1 KB, with the previous value.
    Watch,
    /// Lease keepalive, a stream for every call, 256 clients.
    KeepAliveCall,
    /// Lease keepalive, a lasting stream for every client, 256 clients.
    KeepAlive,
    /// Restart with 1 GB of data.
    Restart,
    /// Memory for 1 M keys.
    Memory,
    /// Compaction and defragmentation of 1 GB under 500 puts per second.
    Upkeep,
    /// Puts and pages at 10 k, 100 k and 1 M keys.
    Growth,
    /// Puts and pages at 10 k, 100 k, 1 M and 10 M keys; only if asked for by name.
    Growth10m,
}

impl Row {
    /// All rows that are run unless some are named.
    pub fn usual() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|row| *row != Self::Growth10m).collect()
    }

    /// The rows that say most of a cluster.
    pub fn of_clusters() -> Vec<Self> {
        vec![
            Self::Put1,
            Self::Put256,
            Self::Put1000,
            Self::Txn,
            Self::Get,
            Self::GetAmidPuts,
            Self::GetAmidPaced,
        ]
    }

    /// Which members its clients go to, unless that is said.
    pub fn usual_places(self, members: usize) -> Vec<At> {
        match self {
            _ if members == 1 => vec![At::Leader],
            Self::Get => vec![At::All, At::Leader, At::Followers],
            _ => vec![At::All],
        }
    }

    /// Its heading in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Put1 => "put 1/1",
            Self::Put32 => "put 32/4",
            Self::Put256 => "put 256/16",
            Self::Put1000 => "put 1000/64",
            Self::Txn => "guarded update 1 KB 256/16",
            Self::Get => "get linearizable 256/16",
            Self::GetSerial => "get serializable 256/16",
            Self::GetAmidPuts => "get amid 100 writers",
            Self::GetAmidPaced => "get amid 5000 puts/s",
            Self::Page => "page 500 x 1 KB 16/4",
            Self::List => "list 100 k x 100 B",
            Self::Watch => "watch 1 key, 1000 watchers",
            Self::KeepAliveCall => "keepalive, stream per call",
            Self::KeepAlive => "keepalive, lasting stream",
            Self::Restart => "restart with 1 GB",
            Self::Memory => "memory, 1 M keys",
            Self::Upkeep => "compact + defrag 1 GB",
            Self::Growth | Self::Growth10m => "growth",
        }
    }

    /// What it asks of a figure.
    pub fn bars(self) -> Vec<Bar> {
        use figure::{P50, RATE, SERVER_CPU, WRITTEN};
        match self {
            Self::Put1 => {
                vec![times(P50, 1.1, 1.5), times(SERVER_CPU, 2.0, 3.0), times(WRITTEN, 1.0, 1.3)]
            }
            Self::Put32 | Self::Txn => vec![times(SERVER_CPU, 2.0, 3.0)],
            Self::Put256 => vec![times(RATE, 1.5, 2.0), times(SERVER_CPU, 2.0, 3.0)],
            Self::Put1000 => {
                vec![times(RATE, 1.5, 2.0), times(SERVER_CPU, 2.0, 3.0), times(WRITTEN, 1.0, 1.3)]
            }
            Self::Get => vec![times(RATE, 1.5, 2.0), times(SERVER_CPU, 2.0, 3.5)],
            Self::GetSerial => vec![times(RATE, 1.6, 2.5), times(SERVER_CPU, 2.0, 4.0)],
            Self::GetAmidPuts | Self::GetAmidPaced => vec![times(steady::READ_P99, 5.0, 20.0)],
            Self::Page => vec![times(RATE, 3.0, 6.0)],
            Self::List => vec![times(list::WALL, 1.5, 2.5), times(list::EXTRA, 5.0, 20.0)],
            Self::Watch => vec![times(RATE, 1.5, 2.5), times(SERVER_CPU, 2.0, 4.0)],
            Self::KeepAliveCall => vec![times(RATE, 1.3, 1.6)],
            Self::KeepAlive => vec![times(RATE, 1.5, 2.5)],
            Self::Restart => {
                vec![times(restart::ENDED, 5.0, 20.0), times(restart::KILLED, 5.0, 20.0)]
            }
            Self::Memory => vec![times(memory::FILLED, 2.5, 5.0), times(memory::AGAIN, 2.5, 5.0)],
            Self::Upkeep => vec![below(upkeep::PAUSE, 100.0, 10.0)],
            Self::Growth | Self::Growth10m => growth::bars(),
        }
    }

    /// Its experiment, made once for every target.
    pub fn experiment(self) -> Box<dyn Experiment> {
        match self {
            Self::Put1 => steady::put(1, 1),
            Self::Put32 => steady::put(32, 4),
            Self::Put256 => steady::put(256, 16),
            Self::Put1000 => steady::put(1000, 64),
            Self::Txn => steady::update(256, 16),
            Self::Get => steady::get(256, 16, false),
            Self::GetSerial => steady::get(256, 16, true),
            Self::GetAmidPuts => steady::get_amid_puts(None),
            Self::GetAmidPaced => steady::get_amid_puts(Some(steady::WRITES_PER_SECOND)),
            Self::Page => steady::page(16, 4),
            Self::List => Box::new(list::List::new()),
            Self::Watch => Box::new(watch::Watch::new()),
            Self::KeepAliveCall => steady::keep_alive(256, 16, false),
            Self::KeepAlive => steady::keep_alive(256, 16, true),
            Self::Restart => Box::new(restart::Restart::new()),
            Self::Memory => Box::new(memory::Memory),
            Self::Upkeep => Box::new(upkeep::Upkeep::new()),
            Self::Growth => Box::new(growth::Growth::up_to(1_000_000)),
            Self::Growth10m => Box::new(growth::Growth::up_to(10_000_000)),
        }
    }
}
