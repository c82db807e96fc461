//! Lies about the protocol of watches.

use rand::prelude::*;
use rand::rngs::SmallRng;

use super::Lie;
use super::places::{has_events, insert, is_whole, last_revision, pick, progress, wants};
use crate::checker::By;
use crate::checker::history::{History, Kind, Op, Request, Watch};

const PROTOCOL: &[By] = &[By::Protocol];

pub const LIES: &[Lie] = &[
    Lie::new("an event from before the start", before_start, PROTOCOL),
    Lie::new("progress from before the start", progress_before_start, PROTOCOL),
    Lie::new("created twice", created_twice, PROTOCOL),
    Lie::new("an event before created", before_created, PROTOCOL),
    Lie::new("an event after the end", after_end, PROTOCOL),
    Lie::new("a piece that nobody asked for", unasked_piece, PROTOCOL),
    Lie::new("progress between pieces", between_pieces, PROTOCOL),
    Lie::new("a header older than its events", old_header, PROTOCOL),
    Lie::new("rows before that nobody asked for", unasked_rows, PROTOCOL),
    Lie::new("gone by a compaction that was none", no_compaction, PROTOCOL),
    Lie::new("gone what was not needed", not_needed, PROTOCOL),
    Lie::new("fed from what is compacted", fed_from_compacted, PROTOCOL),
    Lie::new("heard before it was asked for", heard_before_its_call, &[By::RealTime]),
];

fn before_start(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let early = |watch: &Watch| {
        let mut mine = h.log.iter().filter(|event| wants(watch, event));
        mine.rfind(|event| event.revision() < watch.start).cloned()
    };
    let (watch, at) = pick(h, random, |watch, at| {
        watch.heard[at].kind == Kind::Created && early(watch).is_some()
    })?;
    let event = early(&h.watches[watch])?;
    let one = &mut h.watches[watch];
    let revision = one.heard[at].revision.max(event.revision());
    let mut heard = progress(one, one.heard[at].at, revision);
    insert(&mut heard, 0, event, one.prev_kv);
    one.heard.insert(at + 1, heard);
    Some(())
}

fn progress_before_start(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| {
        watch.heard[at].kind == Kind::Created && watch.start > watch.heard[at].revision
    })?;
    let one = &mut h.watches[watch];
    let early = progress(one, one.heard[at].at, one.start - 1);
    one.heard.insert(at + 1, early);
    Some(())
}

fn created_twice(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| watch.heard[at].kind == Kind::Created)?;
    let again = h.watches[watch].heard[at].clone();
    let later = random.random_range(at + 1..=h.watches[watch].heard.len());
    h.watches[watch].heard.insert(later, again);
    Some(())
}

fn before_created(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| {
        at > 0 && watch.heard[at - 1].kind == Kind::Created && has_events(watch, at)
    })?;
    h.watches[watch].heard.swap(at - 1, at);
    Some(())
}

fn after_end(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| {
        at > 1 && matches!(watch.heard[at].kind, Kind::Canceled | Kind::Compacted(_))
    })?;
    h.watches[watch].heard.swap(at - 1, at);
    Some(())
}

fn unasked_piece(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, _) = pick(h, random, |watch, at| watch.heard[at].kind == Kind::Fragment)?;
    h.watches[watch].fragments = false;
    Some(())
}

fn between_pieces(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| watch.heard[at].kind == Kind::Fragment)?;
    let one = &mut h.watches[watch];
    let early = progress(one, one.heard[at].at, one.heard[at].revision);
    one.heard.insert(at + 1, early);
    Some(())
}

fn old_header(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| has_events(watch, at) && is_whole(watch, at))?;
    let heard = &mut h.watches[watch].heard[at];
    heard.revision = last_revision(heard) - 1;
    Some(())
}

fn unasked_rows(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, _) = pick(h, random, |watch, at| !watch.heard[at].previous.is_empty())?;
    h.watches[watch].prev_kv = false;
    Some(())
}

fn no_compaction(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let is_it = |kind: Kind| matches!(kind, Kind::Compacted(_));
    let (watch, at) = pick(h, random, |watch, at| is_it(watch.heard[at].kind))?;
    let Kind::Compacted(revision) = h.watches[watch].heard[at].kind else { return None };
    h.compactions.retain(|one| one.revision != revision);
    Some(())
}

fn not_needed(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let gone = h.compactions.last()?.revision;
    let (watch, at) = pick(h, random, |watch, at| {
        let is_end = at + 1 == watch.heard.len() && watch.until.is_some();
        is_end && last_revision(&watch.heard[at]) >= gone && watch.heard[at].kind == Kind::Plain
    })?;
    let one = &mut h.watches[watch];
    let mut end = progress(one, one.heard[at].at, 0);
    end.kind = Kind::Compacted(gone);
    (one.until, _) = (None, one.heard.push(end));
    Some(())
}

fn fed_from_compacted(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let is_gone = |watch: &Watch| {
        let before = h.compactions.iter().filter(|one| one.end < Some(watch.begun));
        before.map(|one| one.revision).max() > Some(watch.start)
    };
    let (watch, at) = pick(h, random, |watch, at| {
        let is_told = matches!(watch.heard[at].kind, Kind::Compacted(_));
        at == 1 && is_told && is_gone(watch) && watch.heard[0].revision >= watch.start
    })?;
    let one = &mut h.watches[watch];
    one.heard[at] = progress(one, one.heard[at].at, one.heard[0].revision);
    Some(())
}

fn heard_before_its_call(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let is_put = |op: &&Op| matches!(op.request, Request::Put { .. }) && op.answer().is_some();
    let put = h.ops.iter().filter(is_put).choose(random)?;
    let (revision, call) = (put.answer()?.revision, put.call);
    let everything = &mut h.watches[0].heard;
    let heard = everything
        .iter_mut()
        .find(|heard| heard.events.iter().any(|event| event.revision() == revision))?;
    heard.at = call.checked_sub(1)?;
    Some(())
}
