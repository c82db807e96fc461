//! Leases as a correct cluster keeps them, from a seed: granted, renewed, lost, revoked.

use rand::prelude::*;
use rand::rngs::SmallRng;

use crate::checker::history::{Ended, History, LeaseAsk, LeaseHeard, LeaseOp};

const SECOND: u64 = 1_000_000_000;
const LEASES: i64 = 12;
/// From when on nothing fails any more, and when the last word is said.
const CALM: u64 = 60 * SECOND;
const LAST: u64 = 120 * SECOND;

/// Adds leases to a history.
pub fn lease(random: &mut SmallRng, history: &mut History) {
    history.calm = Some(CALM);
    for lease in 1..=LEASES {
        live(random, lease, history);
    }
}

fn live(random: &mut SmallRng, lease: i64, history: &mut History) {
    let ttl = random.random_range(2..7);
    let mut ask = |history: &mut History, at: u64, ask: LeaseAsk, heard: LeaseHeard| {
        let done = at + random.random_range(1..SECOND / 4);
        let end = Some(done + random.random_range(1..SECOND / 4));
        history.leases.push(LeaseOp { lease, call: at, end, ask, heard });
        (done, random.random_range(0..100))
    };
    let lives = LeaseHeard::Lives(ttl);
    let (mut done, mut luck) =
        ask(history, lease as u64 * 4 * SECOND, LeaseAsk::Grant, LeaseHeard::Lives(ttl));
    let mut expiry = done + ttl as u64 * SECOND;
    // It is renewed a while, and some answers are lost; a new leader gives it its full time.
    while luck < 75 {
        let at = done + (expiry - done) * (luck % 60 + 10) / 100;
        let heard = if luck % 5 == 0 { LeaseHeard::Unknown } else { lives };
        (done, luck) = ask(history, at.min(expiry - SECOND / 4), LeaseAsk::KeepAlive, heard);
        expiry = done + ttl as u64 * SECOND;
        if luck % 4 == 0 && expiry < CALM {
            expiry += ttl as u64 * SECOND / 2;
        }
    }
    if luck < 85 {
        (expiry, _) = ask(history, done, LeaseAsk::Revoke, LeaseHeard::Gone);
    }
    let ended = expiry + SECOND / 100 * (luck % 50);
    history.ended.push(Ended { lease, at: ended });
    ask(history, ended + SECOND, LeaseAsk::KeepAlive, LeaseHeard::Gone);
    ask(history, LAST, LeaseAsk::KeepAlive, LeaseHeard::Gone);
}
