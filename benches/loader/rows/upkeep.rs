//! Compaction and defragmentation of a full store while puts come at a fixed pace.
//!
//! Half of the store is history that compaction removes. Puts fall due 500 times a second, and
//! each is late by as long as the server stands still: the longest wait is the pause.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::steady::put_lane;
use super::{Experiment, Plan};
use crate::data::Keys;
use crate::figure::{Figure, lower, neither};
use crate::grpc::{FILL_BATCH, Filling};
use crate::load::{self, Lane, Phase, Phases};
use crate::server::Server;

pub const PAUSE: &str = "longest pause ms";
const ROWS: u64 = 500_000;
const VALUE_BYTES: usize = 1024;
const PUTS_PER_SECOND: f64 = 500.0;
/// Those who wait while the server stands still; the others come late, and are counted so.
const CLIENTS: usize = 512;
/// The end of a phase, in which whoever was held up is answered.
const AFTERMATH: Duration = Duration::from_secs(1);

pub struct Upkeep {
    keys: Arc<Keys>,
    generation: u64,
}

impl Upkeep {
    pub fn new() -> Self {
        Self { keys: Arc::new(Keys::new(0)), generation: 0 }
    }

    fn fill(&mut self, server: &Server, plan: &Plan) -> Result<()> {
        self.generation += 1;
        let (rows, generation) = (ROWS / plan.shrink, self.generation);
        let filling = Filling { rows, value_bytes: VALUE_BYTES, generation, batch: FILL_BATCH };
        server.client()?.fill(filling)
    }
}

impl Experiment for Upkeep {
    fn prepare(&mut self, server: &mut Server, plan: &Plan) -> Result<()> {
        self.keys = Arc::new(Keys::new(ROWS / plan.shrink));
        self.fill(server, plan)
    }

    fn measure(&mut self, server: &mut Server, plan: &Plan) -> Result<Vec<Figure>> {
        self.fill(server, plan)?;
        let client = server.client()?;
        let revision = client.revision()?;
        let puts = put_lane(&self.keys, 256, CLIENTS, 8);
        let lanes = [Lane { pace: Some(PUTS_PER_SECOND), ..puts }];
        let timed = |phases: &Phases, phase: Phase, work: &dyn Fn() -> Result<()>| {
            phases.enter(phase);
            let start = Instant::now();
            work()?;
            let took = start.elapsed();
            thread::sleep(AFTERMATH);
            Ok::<f64, anyhow::Error>(took.as_secs_f64())
        };
        let script = |phases: &Phases| {
            thread::sleep(plan.warm_up);
            phases.enter(Phase::Measure);
            thread::sleep(plan.measure);
            let compact = timed(phases, Phase::Compact, &|| client.compact(revision))?;
            let defragment = timed(phases, Phase::Defragment, &|| client.defragment())?;
            Ok((compact, defragment))
        };
        // One thread is plenty for this pace, and no other is in its way.
        let ((compact, defragment), outcomes) = load::run(&[server.address], &lanes, 1, script)?;
        client.verify(&outcomes[0].acknowledged)?;
        let longest = |phase| outcomes[0].of(phase).max_micros() / 1e3;
        let (compacting, defragmenting) = (longest(Phase::Compact), longest(Phase::Defragment));
        let mut figures = vec![
            lower(PAUSE, compacting.max(defragmenting)),
            lower("longest in compaction ms", compacting),
            lower("longest in defrag ms", defragmenting),
            neither("longest undisturbed ms", longest(Phase::Measure)),
            lower("compaction s", compact),
            lower("defrag s", defragment),
        ];
        figures.extend(server.disk_bytes().map(|bytes| neither("disk MB after", bytes / 1e6)));
        Ok(figures)
    }
}
