//! Lies about what was asked and answered.

use rand::prelude::*;
use rand::rngs::SmallRng;

use super::Lie;
use crate::checker::By;
use crate::checker::history::{Answer, Event, History, Op, Outcome, Reply, Request, Row, Span};
use crate::checker::replay::{FIRST, Log, Store};

const WRITES: &[By] = &[By::Writes];
const READS: &[By] = &[By::Reads];
const LOG: &[By] = &[By::Log];
const REAL_TIME: &[By] = &[By::RealTime];

/// What clients were told, and what the log has. What contradicts no answer but the log alone is
/// none of the search's business.
pub const LIES: &[Lie] = &[
    Lie::answered("two acknowledged revisions swapped", swap_acknowledged, WRITES),
    Lie::answered("two revisions swapped against real time", swap_in_log, REAL_TIME),
    Lie::new("a revision missing in the log", drop_revision, LOG),
    Lie::new("an acknowledged write lost", lose_acknowledged, WRITES),
    Lie::new("a write made twice", twice, WRITES),
    Lie::new("a write without an answer made twice", unknown_twice, WRITES),
    Lie::new("a refused write made", refused, WRITES),
    Lie::new("a write of nobody's", stranger, WRITES),
    Lie::new("a delete of nobody's", stranger_deletes, WRITES),
    Lie::new("a value changed on the way", changed_value, WRITES),
    Lie::answered("a stale read, with its true revision", stale_read, REAL_TIME),
    Lie::answered("a stale read, with today's revision", stale_rows, READS),
    Lie::answered("a read of the future", future_read, REAL_TIME),
    Lie::answered("a read without one of its rows", missing_row, READS),
    Lie::answered("a read with a row too many", row_too_many, READS),
    Lie::answered("a wrong count", wrong_count, READS),
    Lie::answered("a read of a write that was never made", dirty_read, READS),
    Lie::new("a serializable read of what never was", dirty_old_read, READS),
    Lie::answered("a guard passed over", guard_flipped, WRITES),
    Lie::answered("a delete's count changed", wrong_deleted, WRITES),
    Lie::new("an answer beyond the log", beyond, LOG),
];

fn answered(op: &mut Op) -> Option<&mut Answer> {
    match &mut op.outcome {
        Outcome::Answered(answer) => Some(answer),
        Outcome::Refused | Outcome::Unknown => None,
    }
}

/// A random operation with some property.
fn pick(h: &History, random: &mut SmallRng, wanted: impl Fn(&Op) -> bool) -> Option<usize> {
    (0..h.ops.len()).filter(|at| wanted(&h.ops[*at])).choose(random)
}

fn is_put(op: &Op) -> bool {
    matches!(op.request, Request::Put { .. }) && op.answer().is_some()
}

fn revision_of(op: &Op) -> i64 {
    op.answer().map_or(0, |answer| answer.revision)
}

/// The state at a revision, and at all before it if wanted.
fn state(h: &History, revision: i64) -> Store {
    let (log, mut store) = (Log::new(&h.log).expect("a true log"), Store::default());
    for at in FIRST..=revision.min(log.last()) {
        store.apply(at, log.at(at)).expect("a true log");
    }
    store
}

fn last(h: &History) -> i64 {
    h.log.last().map_or(1, Event::revision)
}

/// The newest revision that had been shown before a moment.
fn shown_before(h: &History, time: u64) -> i64 {
    let ops = h.ops.iter().filter(|op| op.end.is_some_and(|end| end < time));
    ops.map(revision_of).max().unwrap_or(1)
}

/// Runs a log's revisions again in another order or number, as another store might have kept them.
fn again(groups: Vec<Vec<Event>>) -> Vec<Event> {
    let (mut store, mut log, mut revision) = (Store::default(), Vec::new(), FIRST);
    for group in groups {
        let mut made = Vec::new();
        for event in group {
            let request = match event {
                Event::Put(row) => Request::Put { key: row.key, value: row.value },
                Event::Delete { key, .. } => Request::Delete(Span { key, end: None }),
            };
            let (events, _) = store.run(revision, &request);
            store.apply(revision, &events).expect("what it made itself");
            made.extend(events);
        }
        revision += i64::from(!made.is_empty());
        log.extend(made);
    }
    log
}

fn groups(h: &History) -> Vec<Vec<Event>> {
    let log = Log::new(&h.log).expect("a true log");
    (FIRST..=log.last()).map(|revision| log.at(revision).to_vec()).collect()
}

fn swap_acknowledged(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let a = pick(h, random, is_put)?;
    let b = pick(h, random, |op| is_put(op) && revision_of(op) != revision_of(&h.ops[a]))?;
    let (first, second) = (revision_of(&h.ops[a]), revision_of(&h.ops[b]));
    answered(&mut h.ops[a])?.revision = second;
    answered(&mut h.ops[b])?.revision = first;
    Some(())
}

/// Only the order is wrong: rows, answers and watches are true to the new one.
fn swap_in_log(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let mut only_puts = h.clone();
    only_puts.ops.retain(|op| is_put(op) && op.end.is_some());
    only_puts.watches.clear();
    only_puts.ops.sort_by_key(|op| op.call);
    let mut kept: Vec<Vec<Event>> = Vec::new();
    for op in &mut only_puts.ops {
        let revision = FIRST + kept.len() as i64;
        let Request::Put { key, value } = &op.request else { unreachable!("only puts are left") };
        let (key, value) = (key.clone(), value.clone());
        kept.push(vec![Event::Put(Row { key, value, create: 0, modified: 0, version: 0 })]);
        answered(op)?.revision = revision;
    }
    let at = random.random_range(1..kept.len());
    let behind =
        (0..at).rev().find(|one| only_puts.ops[*one].end < Some(only_puts.ops[at].call))?;
    kept.swap(at, behind);
    let (one, other) = (FIRST + at as i64, FIRST + behind as i64);
    answered(&mut only_puts.ops[at])?.revision = other;
    answered(&mut only_puts.ops[behind])?.revision = one;
    only_puts.log = again(kept);
    *h = only_puts;
    Some(())
}

fn drop_revision(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let gone = random.random_range(FIRST..last(h));
    h.log.retain(|event| event.revision() != gone);
    Some(())
}

fn lose_acknowledged(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let lost = revision_of(&h.ops[pick(h, random, is_put)?]);
    let mut groups = groups(h);
    groups.remove((lost - FIRST) as usize);
    h.log = again(groups);
    Some(())
}

fn append(h: &mut History, events: Vec<Event>) {
    let mut groups = groups(h);
    groups.push(events);
    h.log = again(groups);
    h.watches.clear();
}

fn twice(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let revision = revision_of(&h.ops[pick(h, random, is_put)?]);
    let events = Log::new(&h.log).expect("a true log").at(revision).to_vec();
    append(h, events);
    Some(())
}

fn unknown_twice(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let put = pick(h, random, is_put)?;
    let revision = revision_of(&h.ops[put]);
    h.ops[put].outcome = Outcome::Unknown;
    let events = Log::new(&h.log).expect("a true log").at(revision).to_vec();
    append(h, events);
    Some(())
}

fn refused(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let put = pick(h, random, is_put)?;
    h.ops[put].outcome = Outcome::Refused;
    Some(())
}

fn stranger(h: &mut History, _: &mut SmallRng) -> Option<()> {
    let (key, value) = ("k1".to_owned(), "a stranger's".to_owned());
    append(h, vec![Event::Put(Row { key, value, create: 0, modified: 0, version: 0 })]);
    Some(())
}

fn stranger_deletes(h: &mut History, _: &mut SmallRng) -> Option<()> {
    // Those who might have done it are not there.
    h.ops.retain(|op| {
        let mut changes = Vec::new();
        op.request.changes(&mut changes);
        op.answer().is_some() || changes.iter().all(|one| matches!(one, Request::Put { .. }))
    });
    let everything = Request::Delete(Span { key: String::new(), end: Some("\0".to_owned()) });
    let (mut events, _) = state(h, last(h)).run(last(h) + 1, &everything);
    events.truncate(1);
    let is_there = !events.is_empty();
    append(h, events);
    is_there.then_some(())
}

fn changed_value(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let put = pick(h, random, is_put)?;
    let Request::Put { value, .. } = &mut h.ops[put].request else { return None };
    value.push('x');
    Some(())
}

fn is_linearizable_get(op: &Op) -> bool {
    matches!(&op.request, Request::Range(_)) && !op.request.may_lag() && op.answer().is_some()
}

/// The true answer of an older state.
fn stale_read(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let get = pick(h, random, |op| is_linearizable_get(op) && op.call > h.ops[0].call)?;
    let shown = shown_before(h, h.ops[get].call);
    let revision = shown - random.random_range(1..5);
    if revision < 1 {
        return None;
    }
    let (_, reply) = state(h, revision).run(0, &h.ops[get].request);
    *answered(&mut h.ops[get])? = Answer { revision, reply };
    Some(())
}

fn stale_rows(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let get = pick(h, random, is_linearizable_get)?;
    let now = h.ops[get].answer()?.clone();
    let older = (1..now.revision).rev().map(|at| state(h, at).run(0, &h.ops[get].request).1);
    let reply = older.take(50).find(|reply| *reply != now.reply)?;
    answered(&mut h.ops[get])?.reply = reply;
    Some(())
}

fn future_read(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let get = pick(h, random, is_linearizable_get)?;
    let end = h.ops[get].end?;
    let later = h.ops.iter().filter(|op| is_put(op) && op.call > end).map(revision_of);
    let revision = later.min()?;
    let (_, reply) = state(h, revision).run(0, &h.ops[get].request);
    *answered(&mut h.ops[get])? = Answer { revision, reply };
    Some(())
}

/// A read with rows, to change its rows and its count.
fn change_rows(
    h: &mut History,
    random: &mut SmallRng,
    may_lag: bool,
    change: impl Fn(&mut usize, &mut Vec<Row>),
) -> Option<()> {
    let has_rows = |op: &Op| {
        let reply = op.answer().map(|answer| &answer.reply);
        let rows = matches!(reply, Some(Reply::Range { rows, .. }) if !rows.is_empty());
        rows && op.request.may_lag() == may_lag
    };
    let get = pick(h, random, has_rows)?;
    let Reply::Range { count, rows } = &mut answered(&mut h.ops[get])?.reply else { return None };
    change(count, rows);
    Some(())
}

fn missing_row(h: &mut History, random: &mut SmallRng) -> Option<()> {
    change_rows(h, random, false, |count, rows| {
        rows.pop();
        *count -= 1;
    })
}

fn row_too_many(h: &mut History, random: &mut SmallRng) -> Option<()> {
    change_rows(h, random, false, |_, rows| rows.push(rows[0].clone()))
}

fn wrong_count(h: &mut History, random: &mut SmallRng) -> Option<()> {
    change_rows(h, random, false, |count, _| *count += 1)
}

fn dirty_read(h: &mut History, random: &mut SmallRng) -> Option<()> {
    change_rows(h, random, false, |_, rows| rows[0].value = "never written".to_owned())
}

fn dirty_old_read(h: &mut History, random: &mut SmallRng) -> Option<()> {
    change_rows(h, random, true, |_, rows| rows[0].value = "never written".to_owned())
}

fn guard_flipped(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let is_txn = |op: &Op| matches!(op.request, Request::Txn(_)) && op.answer().is_some();
    let txn = pick(h, random, is_txn)?;
    let Reply::Txn { succeeded, .. } = &mut answered(&mut h.ops[txn])?.reply else { return None };
    *succeeded = !*succeeded;
    Some(())
}

fn wrong_deleted(h: &mut History, random: &mut SmallRng) -> Option<()> {
    // One that says it did nothing could have done what another did.
    let did = |op: &Op| {
        let reply = op.answer().map(|answer| &answer.reply);
        matches!(reply, Some(Reply::Delete { deleted }) if *deleted > 0)
    };
    let delete = pick(h, random, did)?;
    let Reply::Delete { deleted } = &mut answered(&mut h.ops[delete])?.reply else { return None };
    *deleted += 1;
    Some(())
}

fn beyond(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let get = pick(h, random, |op| matches!(op.request, Request::Range(_)) && op.end.is_some())?;
    let revision = last(h) + 1;
    answered(&mut h.ops[get])?.revision = revision;
    Some(())
}
