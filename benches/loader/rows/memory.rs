//! Resident memory of an idle server with many keys: as filling left it, and after a restart.
//!
//! Pages of a mapped database are resident, too, so what is not of a file is told apart.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{Experiment, Plan};
use crate::figure::{Figure, lower, neither};
use crate::grpc::{FILL_BATCH, Filling};
use crate::server::Server;

pub const FILLED: &str = "RSS MB after filling";
pub const AGAIN: &str = "RSS MB after restart";
const ROWS: u64 = 1_000_000;
const VALUE_BYTES: usize = 256;
/// Time for a collector to give memory back, and for deferred work to be done.
const IDLE: Duration = Duration::from_secs(15);

pub struct Memory;

impl Experiment for Memory {
    fn prepare(&mut self, server: &mut Server, plan: &Plan) -> Result<()> {
        let rows = ROWS / plan.shrink;
        let filling = Filling { rows, value_bytes: VALUE_BYTES, generation: 1, batch: FILL_BATCH };
        server.client()?.fill(filling)
    }

    fn measure(&mut self, server: &mut Server, plan: &Plan) -> Result<Vec<Figure>> {
        let idle = if plan.shrink > 1 { plan.measure } else { IDLE };
        thread::sleep(idle);
        let filled = server.memory()?;
        server.restart(Signal::TERM)?;
        thread::sleep(idle);
        let again = server.memory()?;
        let mut figures = vec![
            lower(FILLED, filled.resident / 1e6),
            lower("of it anonymous MB", filled.anonymous / 1e6),
            lower(AGAIN, again.resident / 1e6),
            lower("of that anonymous MB", again.anonymous / 1e6),
        ];
        figures.extend(server.disk_bytes().map(|bytes| neither("disk MB", bytes / 1e6)));
        Ok(figures)
    }

    fn repeats(&self) -> bool {
        false
    }
}
