//! Restart with a full store: the time from starting the process to the first linearizable read.
//!
//! Once the server ended as it wanted to, once it was killed; before each end some keys are
//! written, so that neither start finds the store as the one before left it.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::{Experiment, Plan};
use crate::data;
use crate::figure::{Figure, lower, neither};
use crate::grpc::{FILL_BATCH, Filling};
use crate::server::Server;

pub const ENDED: &str = "after SIGTERM ms";
pub const KILLED: &str = "after SIGKILL ms";
const ROWS: u64 = 1_000_000;
const VALUE_BYTES: usize = 1024;
/// Single puts after the filling: the log ends with entries of the usual size, of which etcd
/// takes a snapshot every 10 000, and not with a gigabyte of transactions to read again.
const LAST_PUTS: u64 = 12_000;
/// Single puts before each restart.
const PUTS: u64 = 2_000;

pub struct Restart {
    generation: u64,
}

impl Restart {
    pub fn new() -> Self {
        Self { generation: 1 }
    }

    /// Ends the server right after a write, starts it, and looks for that write.
    fn once(&mut self, server: &mut Server, signal: Signal) -> Result<f64> {
        self.generation += 1;
        let (generation, value_bytes) = (self.generation, VALUE_BYTES);
        let filling = Filling { rows: PUTS, value_bytes, generation, batch: 1 };
        server.client()?.fill(filling)?;
        let took = server.restart(signal)?;
        let row = server.client()?.get(data::key(PUTS - 1), 0)?.1;
        let found = row.is_some_and(|row| row.value == filling.value(PUTS - 1));
        ensure!(found, "an acknowledged write is gone after a restart");
        Ok(took.as_secs_f64() * 1e3)
    }
}

impl Experiment for Restart {
    fn prepare(&mut self, server: &mut Server, plan: &Plan) -> Result<()> {
        let client = server.client()?;
        let rows = ROWS / plan.shrink;
        let mut filling = Filling { rows, value_bytes: VALUE_BYTES, generation: 1, batch: 1 };
        filling.batch = FILL_BATCH;
        client.fill(filling)?;
        client.fill(Filling { rows: LAST_PUTS.min(rows), batch: 1, ..filling })
    }

    fn measure(&mut self, server: &mut Server, _: &Plan) -> Result<Vec<Figure>> {
        let ended = self.once(server, Signal::TERM)?;
        let killed = self.once(server, Signal::KILL)?;
        let mut figures = vec![lower(ENDED, ended), lower(KILLED, killed)];
        figures.push(neither("RSS MB", server.memory()?.resident / 1e6));
        figures.extend(server.disk_bytes().map(|bytes| neither("disk MB", bytes / 1e6)));
        Ok(figures)
    }
}
