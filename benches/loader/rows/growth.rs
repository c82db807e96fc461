//! Puts and pages as the store grows: what they are at each size, and how much they change.

use std::sync::Arc;

use anyhow::Result;

use super::steady::{self, page_lane, put_lane};
use super::{Experiment, Plan};
use crate::data::Keys;
use crate::figure::{self, Bar, Figure, below, higher, lower, neither};
use crate::grpc::{FILL_BATCH, Filling};
use crate::load::Phase;
use crate::server::Server;

const VALUE_BYTES: usize = 256;
/// Keys of the store that are written and paged through.
const SAMPLE: u64 = 100_000;
const PUTS_CHANGE: &str = "puts/s: lost %";
const PAGES_CHANGE: &str = "page p99: longer by %";

/// A size, and what is measured at it.
const SIZES: [(u64, &str, &str); 4] = [
    (10_000, "puts/s at 10 k", "page p99 µs at 10 k"),
    (100_000, "puts/s at 100 k", "page p99 µs at 100 k"),
    (1_000_000, "puts/s at 1 M", "page p99 µs at 1 M"),
    (10_000_000, "puts/s at 10 M", "page p99 µs at 10 M"),
];

pub fn bars() -> Vec<Bar> {
    vec![below(PUTS_CHANGE, 20.0, 10.0), below(PAGES_CHANGE, 20.0, 10.0)]
}

pub struct Growth {
    rows_max: u64,
}

impl Growth {
    pub fn up_to(rows_max: u64) -> Self {
        Self { rows_max }
    }
}

impl Experiment for Growth {
    fn prepare(&mut self, _: &mut Server, _: &Plan) -> Result<()> {
        Ok(())
    }

    fn measure(&mut self, server: &mut Server, plan: &Plan) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let (mut puts, mut pages) = (Vec::new(), Vec::new());
        for (rows, puts_name, pages_name) in SIZES {
            if rows > self.rows_max {
                break;
            }
            let rows = (rows / plan.shrink).max(1000);
            let (value_bytes, generation) = (VALUE_BYTES, rows);
            let filling = Filling { rows, value_bytes, generation, batch: FILL_BATCH };
            server.client()?.fill(filling)?;
            let keys = Arc::new(Keys::new(rows.min(SAMPLE)));
            let put = steady::measure(server, plan, &[put_lane(&keys, VALUE_BYTES, 256, 16)])?;
            let page = steady::measure(server, plan, &[page_lane(&keys, 16, 4)])?;
            let rate = put.usual().into_iter().find(|figure| figure.name == figure::RATE);
            puts.push(rate.map_or(0.0, |rate| rate.value));
            pages.push(page.outcomes[0].of(Phase::Measure).quantile_micros(0.99));
            figures.push(higher(puts_name, puts[puts.len() - 1]));
            figures.push(lower(pages_name, pages[pages.len() - 1]));
        }
        let last = puts.len() - 1;
        figures.push(neither(PUTS_CHANGE, (1.0 - puts[last] / puts[0]) * 100.0));
        figures.push(neither(PAGES_CHANGE, (pages[last] / pages[0] - 1.0) * 100.0));
        Ok(figures)
    }

    fn repeats(&self) -> bool {
        false
    }
}
