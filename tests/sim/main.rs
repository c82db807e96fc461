//! Whole clusters under simulation: the production member, without threads, in worlds of seeds.
//!
//! Driver, log, applier, checkpointer, watches, leases, duties, snapshots and recovery are those
//! that are released; disk, network, time and chance are the world's. What clients heard is judged
//! by `tests/checker`, against the log that the members committed.
//!
//! ```text
//! cargo test --test sim                    the first seeds, for 25 s, on all processors
//! FIRST=$(date +%s)000000 SECONDS=28800 cargo test --test sim     a night of new ones
//! SEED=7 cargo test --test sim             one seed again
//! SEED=7 LOUD=1 cargo test --test sim      and everything that happens in it
//! cargo test --test sim planted -- --ignored --nocapture     which planted mistakes are found
//! cargo test --test sim marks -- --ignored --nocapture       whether 2000 seeds meet every mark
//! ```

#![cfg(debug_assertions)]

#[path = "../checker/mod.rs"]
mod checker;

mod asking;
mod clients;
mod ears;
mod havoc;
mod journal;
mod kube;
mod loads;
mod looks;
mod marks;
mod network;
mod panics;
mod profile;
mod replace;
mod rest;
mod rolls;
mod rot;
mod routes;
mod seat;
mod tasks;
mod translate;
mod witness;
mod world;

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use kvorum::sim::Mistake;
use kvorum::storage::disk::sim::Crash;
use marks::Tally;
use panics::End;
use parking_lot::Mutex;
use world::World;

/// How long seeds are tried if nobody says otherwise. They are the same every time: what is new in
/// a change should fail it, and not what was there before. Nights look for that.
const SECONDS: u64 = 25;
/// And how many of them at the most.
const SEEDS: u64 = 500;
/// How much of a line is told of what went wrong; states may be long.
const LINE: usize = 700;
/// Of so many seeds, one is run twice.
const TWICE_ONE_OF: u64 = 50;

/// What nights have found. Each is planted again, and must be found again, for whatever changes in
/// the simulation makes other worlds of the seeds that found it once.
const REGRESSIONS: [(Mistake, &str); 5] = [
    (Mistake::RenewUnasked, "one that had led renewed a lease after its successor took over"),
    (Mistake::PastReignTaken, "one that had led had a lease revoked that its successor renewed"),
    (Mistake::CommitBehindGivenUp, "a checkpoint was made behind one there was no space for"),
    (Mistake::LastLeaderAwaited, "a new leader waited for what it had asked the last one"),
    (Mistake::LearnerUnseen, "reads beside a learner were answered without a question"),
];
/// Worlds of nights whose mistakes are too seldom met to be planted. They are run as they were,
/// for as long as they are the same worlds.
const WORLDS: [u64; 6] =
    [9_600_001_249, 9_711_000_037, 9_711_000_138, 9_730_400_156, 9_740_200_231, 9_740_600_277];
/// Why a run fails that had such a world, and was not to have one.
const HELD: &str = "a world that is held is not judged";
/// Within how many seeds.
const FOUND_WITHIN: u64 = 200;

/// What became of a seed.
#[derive(Default)]
struct Outcome {
    hash: u64,
    counts: BTreeMap<&'static str, u64>,
    virtual_us: u64,
    marks: u128,
    failure: Option<String>,
}

/// Runs a seed with a mistake planted, or none; how it failed, if it did.
fn judge(seed: u64, mistake: Option<Mistake>, loud: bool) -> Outcome {
    let ran = panics::within(move || {
        kvorum::sim::plant(mistake);
        let outcome = run(seed, loud);
        Outcome { marks: kvorum::sim::take_marks(), ..outcome }
    });
    ran.unwrap_or_else(|end| match end {
        End::Died(why) => Outcome { failure: Some(why), ..Outcome::default() },
        End::Held => {
            println!("seed {seed} is held: a damaged engine panicked, and again while it unwound");
            Outcome { counts: [("held", 1)].into(), ..Outcome::default() }
        }
    })
}

fn run(seed: u64, loud: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    // Nothing is shared with other tasks, so nobody waits for this one.
    runtime.block_on(tokio::task::unconstrained(async {
        let mut world = World::new(seed, loud);
        let failure = live(&mut world).await.err();
        let told = |why: String| {
            let why: Vec<&str> = why.lines().map(|line| cut(line, LINE)).collect();
            format!("{:?}\n{}\n{}", world.profile, world.journal.tail(), why.join("\n"))
        };
        let failure = failure.map(told);
        // An engine whose disk has rotted may not even end in order.
        world.seats.iter_mut().for_each(|seat| seat.die(Crash::KeepAll));
        world.tasks.drop_all();
        let (counts, hash) = (std::mem::take(&mut world.counts), world.journal.hash());
        Outcome { hash, counts, virtual_us: world.now_us, marks: 0, failure }
    }))
}

/// Lets a world live. If something panics, what happened before is not lost.
async fn live(world: &mut World) -> Result<(), String> {
    let mut living = pin!(world.live());
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| living.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(panics::words(&*panic).why)))
    })
    .await
}

/// The beginning of a line.
fn cut(line: &str, bytes: usize) -> &str {
    line.get(..bytes).unwrap_or(line)
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

fn commit() -> String {
    let head = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    head.map(|head| String::from_utf8_lossy(&head.stdout).trim().to_owned()).unwrap_or_default()
}

fn fail(seed: u64, failure: &str) -> ! {
    let (commit, again) = (commit(), format!("SEED={seed} cargo test --test sim"));
    let told = format!("seed {seed} at commit {commit} fails:\n{failure}\n{again}");
    panics::leave(Some(&told));
    panic!("{told}");
}

#[test]
fn seeds() {
    if let Some(seed) = variable("SEED") {
        let outcome = judge(seed, None, std::env::var_os("LOUD").is_some());
        println!("{:?} trace {:016x}", outcome.counts, outcome.hash);
        if let Some(failure) = outcome.failure {
            fail(seed, &failure);
        }
        panics::leave(Some(HELD));
        return;
    }
    let night = variable("FIRST");
    let (first, count) = night.map_or((1, SEEDS), |first| (first, u64::MAX));
    let budget = Duration::from_secs(variable("SECONDS").unwrap_or(SECONDS));
    explore(first, budget, variable("SEEDS").unwrap_or(count));
    // A night may lose a world; what everybody runs may not.
    panics::leave(if night.is_some() { None } else { Some(HELD) });
}

/// Whether so many seeds come by every mark.
#[test]
#[ignore = "it takes some minutes"]
fn marks_are_met() {
    let (first, seeds) = (variable("FIRST").unwrap_or(1), variable("SEEDS").unwrap_or(2000));
    let tally = explore(first, Duration::MAX, seeds);
    let missed = tally.missed();
    let failure = format!("not met within {seeds} seeds: {missed:?}");
    panics::leave(Some(failure.as_str()).filter(|_| !missed.is_empty()));
    assert!(missed.is_empty(), "{failure}");
}

/// How many of the planted mistakes are found, and how soon. What is missed is told, not failed.
#[test]
#[ignore = "it takes some minutes"]
fn planted_mistakes() {
    let first = variable("FIRST").unwrap_or(1);
    let wanted = std::env::var("MISTAKE").unwrap_or_default();
    let seeds = variable("SEEDS").unwrap_or(300);
    let (next, found) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(mistake) =
            Mistake::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize).copied()
        {
            let name = format!("{mistake:?}");
            if !wanted.split(',').any(|wanted| name.contains(wanted)) {
                continue;
            }
            let hit = (first..first + seeds).find_map(|seed| {
                let failure = judge(seed, Some(mistake), false).failure?;
                Some((seed - first + 1, failure.lines().last().unwrap_or_default().to_owned()))
            });
            found.lock().insert(name, hit);
        }
    };
    everywhere(work);
    let found = found.into_inner();
    let mut after: Vec<u64> = found.values().flatten().map(|(after, _)| *after).collect();
    after.sort_unstable();
    for (mistake, hit) in &found {
        let (after, how) = hit.clone().map_or(("-".to_owned(), String::new()), |(after, how)| {
            (after.to_string(), how.chars().take(110).collect())
        });
        println!("{mistake:<22} {after:>4}  {how}");
    }
    println!(
        "{} of {} planted mistakes found, within {seeds} seeds each; after {} (median), {} (most)",
        after.len(),
        found.len(),
        after.get(after.len() / 2).unwrap_or(&0),
        after.last().unwrap_or(&0),
    );
    panics::leave(None);
}

/// Works on all processors at once.
fn everywhere(work: impl Fn() + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

#[test]
fn regressions() {
    for seed in WORLDS {
        if let Some(failure) = judge(seed, None, false).failure {
            fail(seed, &failure);
        }
    }
    for (mistake, what) in REGRESSIONS {
        let fails = |seed: &u64| judge(*seed, Some(mistake), false).failure.is_some();
        let found = (1..=FOUND_WITHIN).find(fails);
        let Some(seed) = found else { panic!("it is not found any more that {what}") };
        println!("{mistake:?} is found by seed {seed}");
        if let Some(failure) = judge(seed, None, false).failure {
            fail(seed, &failure);
        }
    }
    panics::leave(Some(HELD));
}

/// Tries one seed after the other on all processors, until the time is up or one fails.
/// Tells of what marks it has come by.
fn explore(first: u64, budget: Duration, count: u64) -> Tally {
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let sums: Mutex<(BTreeMap<&'static str, u64>, u64, u64, Tally)> = Mutex::default();
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    let began = Instant::now();
    let work = || {
        while began.elapsed() < budget && !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - first >= count {
                return;
            }
            let mut outcome = judge(seed, None, false);
            if outcome.failure.is_none() && seed.is_multiple_of(TWICE_ONE_OF) {
                let again = judge(seed, None, false);
                if again.hash != outcome.hash {
                    outcome.failure = Some("it ran otherwise the second time".to_owned());
                }
            }
            let mut sums = sums.lock();
            for (what, count) in outcome.counts {
                *sums.0.entry(what).or_default() += count;
            }
            sums.1 += 1;
            sums.2 += outcome.virtual_us;
            sums.3.add(outcome.marks);
            drop(sums);
            if let Some(failure) = outcome.failure {
                failures.lock().push((seed, failure));
                failed.store(std::env::var_os("GO_ON").is_none(), Ordering::Relaxed);
            }
        }
    };
    everywhere(work);
    let (counts, seeds, virtual_us, tally) = sums.into_inner();
    println!(
        "{seeds} seeds from {first} in {:.1} s, {:.1} virtual hours: {counts:?}",
        began.elapsed().as_secs_f64(),
        virtual_us as f64 / 3.6e9
    );
    println!("{tally}");
    let failures = failures.into_inner();
    for (seed, failure) in failures.iter().skip(1) {
        let last = failure.lines().last().unwrap_or_default();
        println!("seed {seed} fails: {}", cut(last, LINE));
    }
    if let Some((seed, failure)) = failures.first() {
        fail(*seed, failure);
    }
    tally
}
