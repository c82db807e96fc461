//! The judge judged: true histories pass, and every lie about them is noticed.

mod generate;
mod leasing;
mod lies;
mod search;
mod watching;

use std::collections::BTreeMap;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::history::{self, History, Outcome};
use super::search::{LIMITS, Verdict, search};
use super::{By, check};
use lies::Lie;

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

/// Each by everybody who is responsible for it, every time.
#[test]
fn every_lie_is_noticed() {
    let mut figures: BTreeMap<By, (usize, usize)> = BTreeMap::new();
    let mut told_of_all = 0;
    let histories: Vec<History> =
        (0..SEEDS).map(|seed| generate::history(seed, OPERATIONS)).collect();
    for lie in lies::lies() {
        let (mut told, mut noticed_by) = (0, BTreeMap::<By, usize>::new());
        for (seed, history) in (0..).zip(&histories) {
            let Some(history) = lied(lie, history, seed) else { continue };
            told += 1;
            let report = check(&history);
            assert!(!report.violations.is_empty(), "seed {seed}: unnoticed: {}", lie.name);
            report.by.keys().for_each(|by| *noticed_by.entry(*by).or_default() += 1);
        }
        assert!(told > SEEDS as usize / 2, "{}: told {told} times only", lie.name);
        told_of_all += told;
        println!("{:<55} {told:>3}  {noticed_by:?}", lie.name);
        for by in lie.by {
            let noticed = noticed_by.get(by).copied().unwrap_or(0);
            let figure = figures.entry(*by).or_default();
            *figure = (figure.0 + noticed, figure.1 + told);
        }
    }
    let kinds = lies::lies().count();
    println!("{told_of_all} mutants of {kinds} kinds, all killed; by those who are responsible:");
    for (by, (noticed, told)) in &figures {
        println!("{:<15} {noticed:>5} of {told:>5}", by.to_string());
    }
    for (by, (noticed, told)) in &figures {
        assert_eq!(noticed, told, "{by} missed some");
    }
}

/// A history with a lie in it, if there is a place for it.
fn lied(lie: &Lie, history: &History, seed: u64) -> Option<History> {
    let mut history = history.clone();
    (lie.tell)(&mut history, &mut SmallRng::seed_from_u64(seed))?;
    Some(history)
}

/// If every client hears of its request, a lie about an answer leaves no order. If not, what was
/// lost may explain it after all, or so many things could that the search gives up.
#[test]
fn the_search_notices_lies_about_answers() {
    let opinions = |make: fn(u64, usize) -> History| {
        let mut opinions = [("killed", 0), ("inconclusive", 0), ("true after all", 0)];
        for seed in 0..SEEDS {
            let history = make(seed, OPERATIONS);
            for lie in lies::lies().filter(|lie| lie.is_answered) {
                let Some(history) = lied(lie, &history, seed) else { continue };
                opinions[match search(&history, LIMITS).verdict {
                    Verdict::Impossible(_) => 0,
                    Verdict::Inconclusive => 1,
                    Verdict::Linearizable => 2,
                }]
                .1 += 1;
            }
        }
        opinions
    };
    let (answered, lost) = (opinions(generate::answered_history), opinions(generate::history));
    println!("mutants judged by search: {answered:?}; with answers lost: {lost:?}");
    assert!(answered[0].1 > 500 && answered[1].1 + answered[2].1 == 0, "{answered:?}");
    assert!(lost[0].1 > 500 && (lost[1].1 + lost[2].1) * 20 < lost[0].1, "{lost:?}");
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
        "{} operations and {} events heard, {} MB: read in {:.1} s, judged in {:.1} s",
        report.operations,
        report.events_heard,
        text.len() >> 20,
        read.as_secs_f64(),
        (begin.elapsed() - read).as_secs_f64()
    );
}
