//! Leases: never too early, late within bounds, and gone once they are gone.
//!
//! A grant or renewal that is answered promises the lease for its time, from the *call* on: that
//! is when its client began to count on it. `ended` tells when its end had been decided for sure,
//! which is a little after it was.
//!
//! - **Never early**: a lease nobody revoked does not end before the last promise. So a leader that
//!   was deposed cannot end it either, when its successor has renewed it (etcd #17425).
//! - **Never again**: whoever calls after a lease has ended, unless whoever revokes it still waits,
//!   or after somebody was told that it has, is not told that it lives (etcd #20616).
//! - **Late within bounds**: when nothing fails any more, a lease that is not renewed is gone its
//!   time and [`SLACK`] after its last renewal, or after there was a leader: a new one gives each
//!   lease its full time.
//!
//! What the end of a lease deletes is not looked at here: that is a write like others, which must
//! be in the log, and which `owners` holds against who could have sent it. Absent: how much time
//! is said to be left; nobody is promised anything by that.

use std::collections::BTreeMap;

use super::history::{History, LeaseAsk, LeaseHeard, LeaseOp};
use super::report::{By, Report};

const SECOND: u64 = 1_000_000_000;
/// Deadlines are kept in whole milliseconds.
const GRAIN: u64 = 1_000_000;
/// What a lease may be late: elections, and a round of revocations.
const SLACK: u64 = 3 * SECOND;

/// By how much two clocks may differ after a time.
fn differing(time: u64, drift_ppm: u64) -> u64 {
    // A clock that is slower by a part is behind by a little more than that part.
    time / 1_000_000 * drift_ppm * 11 / 10
}

/// All that is known of one lease.
#[derive(Default)]
struct Life<'a> {
    ops: Vec<&'a LeaseOp>,
    ended: Option<u64>,
}

/// Checks all leases.
pub fn check(history: &History, report: &mut Report) {
    let mut lives: BTreeMap<i64, Life<'_>> = BTreeMap::new();
    for op in &history.leases {
        lives.entry(op.lease).or_default().ops.push(op);
    }
    for ended in &history.ended {
        lives.entry(ended.lease).or_default().ended.get_or_insert(ended.at);
    }
    let ends = history.ops.iter().filter_map(|op| op.end);
    let last = ends.chain(history.leases.iter().filter_map(|op| op.end)).max().unwrap_or(0);
    let drift = history.drift_ppm;
    for (lease, life) in &lives {
        report.leases += 1;
        report.leases_ended += usize::from(life.ended.is_some());
        for verdict in [life.is_one(), life.never_early(drift), life.never_again()] {
            if let Err(what) = verdict {
                report.add(By::Leases, format!("lease {lease}: {what}"));
            }
        }
        let late = history.calm.map_or(Ok(()), |calm| life.within_bounds(calm, last, drift));
        if let Err(what) = late {
            report.add(By::Leases, format!("lease {lease}: {what}"));
        }
    }
}

impl Life<'_> {
    /// Promises: when they were asked for, and how long they are, in nanoseconds.
    fn promises(&self) -> impl Iterator<Item = (&LeaseOp, u64)> {
        self.ops.iter().filter_map(|op| match op.heard {
            LeaseHeard::Lives(seconds) => Some((*op, seconds.max(0) as u64 * SECOND)),
            LeaseHeard::Gone | LeaseHeard::Unknown => None,
        })
    }

    fn is_one(&self) -> Result<(), String> {
        match self.ops.iter().filter(|op| op.ask == LeaseAsk::Grant).count() {
            0 | 1 => Ok(()),
            count => Err(format!("granted {count} times: that cannot be judged")),
        }
    }

    fn never_early(&self, drift: u64) -> Result<(), String> {
        let Some(ended) = self.ended else { return Ok(()) };
        let revoked = |op: &&LeaseOp| op.ask == LeaseAsk::Revoke && op.call <= ended;
        if self.ops.iter().copied().any(|op| revoked(&op)) {
            return Ok(());
        }
        match self
            .promises()
            .find(|(op, time)| op.call + time > ended + GRAIN + differing(*time, drift))
        {
            Some((op, _)) => Err(format!("ended at {ended}, against {op:?}")),
            None => Ok(()),
        }
    }

    fn never_again(&self) -> Result<(), String> {
        let told = self.ops.iter().filter(|op| op.heard == LeaseHeard::Gone);
        // While its revocation is under way, that need not have been felt yet.
        let revokes = |op: &&&LeaseOp| op.ask == LeaseAsk::Revoke;
        let ended = self.ended.filter(|ended| {
            let answered = |op: &LeaseOp| op.end.filter(|_| op.heard != LeaseHeard::Unknown);
            let span = |op: &&LeaseOp| op.call..answered(op).unwrap_or(u64::MAX);
            !self.ops.iter().filter(revokes).map(span).any(|span| span.contains(ended))
        });
        let gone = told.filter_map(|op| op.end).chain(ended).min().unwrap_or(u64::MAX);
        match self.promises().find(|(op, _)| op.call > gone) {
            Some((op, _)) => Err(format!("gone at {gone}, and lives again by {op:?}")),
            None => Ok(()),
        }
    }

    /// `last` is when the history ends.
    fn within_bounds(&self, calm: u64, last: u64, drift: u64) -> Result<(), String> {
        let Some(time) = self.promises().map(|(_, time)| time).max() else { return Ok(()) };
        // What got no answer may have been done when its client gave up.
        let renewed = self.ops.iter().filter(|op| op.heard != LeaseHeard::Gone);
        let renewed = renewed.map(|op| op.end.unwrap_or(op.call)).max().unwrap_or(0);
        let late = time + SLACK;
        let due = renewed.max(calm) + late + differing(late, drift);
        match self.ended {
            Some(ended) if ended > due => Err(format!("ended at {ended}, and was due at {due}")),
            None if last > due => Err(format!("due at {due}, and still there at {last}")),
            _ => Ok(()),
        }
    }
}
