//! Lies about leases.

use rand::prelude::*;
use rand::rngs::SmallRng;

use super::Lie;
use crate::checker::By;
use crate::checker::history::{History, LeaseAsk, LeaseHeard, LeaseOp};

const SECOND: u64 = 1_000_000_000;
const LEASES: &[By] = &[By::Leases];

pub const LIES: &[Lie] = &[
    Lie::new("a lease ended early", ended_early, LEASES),
    Lie::new("a lease revoked by a leader that was deposed", ended_after_renewal, LEASES),
    Lie::new("a lease revived", revived, LEASES),
    Lie::new("a lease alive after somebody was told that it is gone", gone_and_alive, LEASES),
    Lie::new("a lease that never ends", never_ended, LEASES),
    Lie::new("a lease that ends late", ended_late, LEASES),
];

/// The number and end of a lease that ran out, or was revoked.
fn ended(h: &History, random: &mut SmallRng, revoked: bool) -> Option<(usize, i64, u64)> {
    let is_revoked =
        |lease: i64| h.leases.iter().any(|op| op.lease == lease && op.ask == LeaseAsk::Revoke);
    let places = (0..h.ended.len()).filter(|at| is_revoked(h.ended[*at].lease) == revoked);
    let at = places.choose(random)?;
    Some((at, h.ended[at].lease, h.ended[at].at))
}

fn renew(h: &mut History, lease: i64, call: u64, seconds: i64) {
    let (ask, heard) = (LeaseAsk::KeepAlive, LeaseHeard::Lives(seconds));
    h.leases.push(LeaseOp { lease, call, end: Some(call + SECOND / 10), ask, heard });
}

/// The last promise that a lease was given: from when on, and for how many seconds.
fn promised(h: &History, lease: i64) -> Option<(u64, i64)> {
    let promises = h.leases.iter().filter(|op| op.lease == lease).filter_map(|op| match op.heard {
        LeaseHeard::Lives(seconds) => Some((op.call, seconds)),
        LeaseHeard::Gone | LeaseHeard::Unknown => None,
    });
    promises.max()
}

fn ended_early(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (at, lease, _) = ended(h, random, false)?;
    let (call, seconds) = promised(h, lease)?;
    h.ended[at].at = call + seconds as u64 * SECOND - random.random_range(1..10) * SECOND / 10;
    Some(())
}

fn ended_after_renewal(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (_, lease, ended) = ended(h, random, false)?;
    renew(h, lease, ended - random.random_range(2..SECOND), 3);
    Some(())
}

fn revived(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let is_revoked = random.random_bool(0.5);
    let (_, lease, ended) = ended(h, random, is_revoked)?;
    renew(h, lease, ended + random.random_range(1..SECOND), 3);
    Some(())
}

fn gone_and_alive(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (at, lease, _) = ended(h, random, true)?;
    let gone = h.leases.iter().find(|op| op.lease == lease && op.heard == LeaseHeard::Gone)?;
    let told = gone.end?;
    h.ended.remove(at);
    renew(h, lease, told + 1, 3);
    Some(())
}

fn never_ended(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let at = (0..h.ended.len()).choose(random)?;
    h.ended.remove(at);
    Some(())
}

fn ended_late(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let at = (0..h.ended.len()).choose(random)?;
    let lease = h.ended[at].lease;
    let (call, seconds) = promised(h, lease)?;
    let from = h.calm?.max(call + SECOND);
    h.ended[at].at = from + (seconds as u64 + 4) * SECOND;
    Some(())
}
