//! The judge of histories: were all answers those of one store that did one thing after another?
//!
//! Clients write down what they asked, when, and what came back ([`history`] tells the format).
//! etcd's promise is strict serializability, and every answer names the revision it is about. So
//! the store's own history, revision by revision, is the witness: it is replayed once, and each
//! answer is held against the state it claims to be of. That takes O(n log n), where a search for
//! some order takes longer than anybody waits, and it proves more, since revisions are checked too.
//!
//! - **Log**: gap-free, and each row follows from the one before it.
//! - **Writes**: an acknowledged one happened once, at its revision, with what it was answered;
//!   one without an answer at most once; a refused one not at all; and nothing else happened.
//!   What a txn compared is compared again.
//! - **Reads**, those within a txn too, equal the state at their revision.
//! - **Real time**: whoever is called after a revision was shown to anybody, by an answer or by a
//!   watch, is answered at that one or a later one, and a write at a later one; only serializable
//!   reads may lag. Nobody is shown a revision before the call of the write that made it.
//! - **Watches** have etcd's nine guarantees, and keep to their protocol ([`watches`]).
//! - **Leases** end neither early nor late, and do not come back ([`leases`]).
//!
//! If all of it holds, the log's order is a linearization. [`search`] looks for one without the
//! log, in short histories: a second opinion.
//!
//! A recorded history is judged with
//!
//! ```text
//! HISTORY=file-or-folder cargo test --test tests checker::recorded -- --ignored --nocapture
//! ```

pub mod history;
mod leases;
mod owners;
mod realtime;
pub mod replay;
mod report;
pub mod search;
mod tests;
mod watches;

use std::path::{Path, PathBuf};
use std::time::Instant;

use history::{History, Outcome};
use realtime::RealTime;
use replay::{Log, Store};
pub use report::{By, Report};

/// Judges a history.
pub fn check(history: &History) -> Report {
    let mut report = Report { operations: history.ops.len(), ..Report::default() };
    let log = match Log::new(&history.log) {
        Ok(log) => log,
        Err(violation) => {
            report.add(By::Log, violation);
            return report;
        }
    };
    report.revisions = log.len();
    let time = RealTime::new(history, log.last());
    let owners = replay(history, &log, &time, &mut report);
    time.check(history, &owners, &mut report);
    let truth = watches::Truth::new(history);
    history.watches.iter().for_each(|watch| watches::check(watch, &truth, &mut report));
    leases::check(history, &mut report);
    report
}

/// Goes through the log and holds every answer against its state. Tells which operation made each
/// revision.
fn replay(
    history: &History,
    log: &Log,
    time: &RealTime,
    report: &mut Report,
) -> Vec<Option<usize>> {
    let mut owners = owners::Owners::new(history, report);
    let mut store = Store::default();
    let mut answered = owners::by_revision(history, log.last(), report);
    let mut made_by = Vec::with_capacity(log.len());
    for revision in replay::FIRST - 1..=log.last() {
        let events = log.at(revision);
        let mut others = Vec::new();
        let mut owner = None;
        for number in answered.take(revision) {
            let op = &history.ops[number];
            if !op.happened_at(&store, revision, events) {
                others.push(number);
            } else if let Some(first) = owner.replace(number) {
                let first = &history.ops[first];
                let what = format!("two were acknowledged at {revision}: {first}; {op}");
                report.add(By::Writes, what);
            }
        }
        if owner.is_none() && !events.is_empty() {
            match owners.find(history, &store, events, time.shown(revision)) {
                Ok(number) => {
                    owner = Some(number);
                    report.unknown_happened += 1;
                }
                Err(what) => report.add(By::Writes, format!("revision {revision}: {what}")),
            }
        }
        made_by.push(owner);
        if let Err(what) = store.apply(revision, events) {
            report.add(By::Log, format!("revision {revision}: {what}"));
        }
        for number in others {
            let op = &history.ops[number];
            let by = if op.request.may_write() { By::Writes } else { By::Reads };
            if let Err(what) = op.holds_in(&store) {
                report.add(by, format!("{op}: {what}"));
            }
        }
    }
    for op in &history.ops {
        match &op.outcome {
            Outcome::Answered(_) if op.request.may_write() => report.writes += 1,
            Outcome::Answered(_) => report.reads += 1,
            Outcome::Unknown if op.request.may_write() => report.unknown += 1,
            _ => {}
        }
    }
    made_by
}

/// Judges what `HISTORY` names: a file of lines, or a folder of such files.
#[test]
#[ignore = "judges a recorded history: HISTORY=file or folder"]
fn recorded() {
    let path = std::env::var("HISTORY").expect("HISTORY names a file or a folder");
    let files = files(Path::new(&path));
    assert!(!files.is_empty(), "no history in {path}");
    let mut broken = 0;
    for file in files {
        let begin = Instant::now();
        let history = history::read(&file).expect("a readable history");
        let mut report = check(&history);
        let opinion = search::search(&history, search::LIMITS);
        if let search::Verdict::Impossible(why) = &opinion.verdict {
            report.violations.push(format!("search: {why}"));
        }
        println!(
            "{}: {} operations: {} writes and {} reads answered, {} writes without an answer of \
             which {} happened; {} revisions, {} events heard, {} watches; {} rows before and {} \
             times progress; search: {}; {:.1} s",
            file.display(),
            report.operations,
            report.writes,
            report.reads,
            report.unknown,
            report.unknown_happened,
            report.revisions,
            report.events_heard,
            history.watches.len(),
            report.previous_heard,
            report.progress_heard,
            opinion,
            begin.elapsed().as_secs_f64()
        );
        for violation in &report.violations {
            println!("VIOLATION {violation}");
        }
        broken += usize::from(!report.violations.is_empty());
    }
    assert_eq!(broken, 0, "histories that no single store could have made");
}

fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).expect("a folder that can be read");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "history"));
    files.sort();
    files
}
