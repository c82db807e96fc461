//! A list of everything: how long one takes, and how much memory it takes besides.

use anyhow::Result;
use rustix::process::Signal;

use super::steady::{self, Measured};
use super::{Experiment, Plan};
use crate::figure::{Figure, lower, neither};
use crate::grpc::{FILL_BATCH, Filling};
use crate::load::{Lane, Phase};
use crate::operation::Operation;
use crate::server::Server;

pub const WALL: &str = "wall ms";
pub const EXTRA: &str = "extra peak RSS MB";
const ROWS: u64 = 100_000;
const VALUE_BYTES: usize = 100;

pub struct List {
    lanes: Vec<Lane>,
    /// Memory before anybody listed anything.
    resident: f64,
}

impl List {
    pub fn new() -> Self {
        Self { lanes: Vec::new(), resident: 0.0 }
    }
}

impl Experiment for List {
    fn prepare(&mut self, server: &mut Server, plan: &Plan) -> Result<()> {
        let rows = ROWS / plan.shrink;
        let filling = Filling { rows, value_bytes: VALUE_BYTES, generation: 1, batch: FILL_BATCH };
        server.client()?.fill(filling)?;
        self.lanes = vec![steady::lane(Operation::List { rows: rows as usize }, 1, 1)];
        // Memory that is left from filling would hide what listing takes.
        if server.is_ours() {
            server.restart(Signal::TERM)?;
        }
        self.resident = server.memory()?.resident;
        Ok(())
    }

    fn measure(&mut self, server: &mut Server, plan: &Plan) -> Result<Vec<Figure>> {
        server.forget_peak()?;
        let measured: Measured = steady::measure(server, plan, &self.lanes)?;
        let extra = (server.memory()?.peak - self.resident).max(0.0);
        let walls = measured.outcomes[0].of(Phase::Measure);
        let mut figures = vec![
            lower(WALL, walls.quantile_micros(0.5) / 1e3),
            lower(EXTRA, extra / 1e6),
            neither("RSS before MB", self.resident / 1e6),
        ];
        figures.extend(measured.of_each_operation());
        Ok(figures)
    }
}
