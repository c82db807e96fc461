//! The judge judged: true histories pass, and every lie about them is noticed.

mod generate;
mod lies;
mod search;

use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::check;
use super::history::{self, Outcome};

const SEEDS: u64 = 60;
const OPERATIONS: usize = 600;

#[test]
fn true_histories_pass() {
    for seed in 0..SEEDS {
        let history = generate::history(seed, OPERATIONS);
        let report = check(&history);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        assert!(report.writes > 100 && report.reads > 100 && report.events_heard > 100);
        assert!(report.unknown_happened > 0 && report.unknown_happened < report.unknown);
    }
}

#[test]
fn every_lie_is_noticed() {
    for (name, lie) in lies::LIES {
        let mut told = 0;
        for seed in 0..SEEDS {
            let mut history = generate::history(seed, OPERATIONS);
            let mut random = SmallRng::seed_from_u64(seed);
            if lie(&mut history, &mut random).is_none() {
                continue;
            }
            told += 1;
            assert!(!check(&history).violations.is_empty(), "seed {seed}: unnoticed: {name}");
        }
        assert!(told > SEEDS / 2, "{name}: told {told} times only");
    }
}

/// What a client does not know is no lie: an answer may always be lost.
#[test]
fn a_forgotten_answer_is_no_lie() {
    for seed in 0..SEEDS {
        let mut history = generate::history(seed, OPERATIONS);
        for op in history.ops.iter_mut().skip(seed as usize % 7).step_by(7) {
            if matches!(op.outcome, Outcome::Answered(_)) {
                op.outcome = Outcome::Unknown;
            }
        }
        let report = check(&history);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
    }
}

#[test]
fn histories_are_read_as_they_were_written() {
    let history = generate::history(1, OPERATIONS);
    let mut text = Vec::new();
    history::write(&history, &mut text).expect("memory takes it all");
    let read = history::parse(text.as_slice()).expect("what was just written");
    assert_eq!(format!("{read:?}"), format!("{history:?}"));
    let unreadable = history::parse(&b"{\"heard\":{\"watch\":1,\"at\":1,\"revision\":1}}\n"[..]);
    assert!(unreadable.is_err(), "a watch nobody began");
}

/// How long a long history takes: `OPERATIONS`, a million unless set.
#[test]
#[ignore = "measures: how long a million operations take"]
fn a_million_operations() {
    let operations = std::env::var("OPERATIONS").ok().and_then(|text| text.parse().ok());
    let history = generate::history(1, operations.unwrap_or(1_000_000));
    let mut text = Vec::new();
    history::write(&history, &mut text).expect("memory takes it all");
    let begin = Instant::now();
    let history = history::parse(text.as_slice()).expect("what was just written");
    let read = begin.elapsed();
    let report = check(&history);
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    println!(
        "{} operations, {} MB: read in {:.1} s, judged in {:.1} s",
        report.operations,
        text.len() >> 20,
        read.as_secs_f64(),
        (begin.elapsed() - read).as_secs_f64()
    );
}
