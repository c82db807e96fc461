//! Lies about what watches heard, by the guarantee they break.

use rand::prelude::*;
use rand::rngs::SmallRng;

use super::Lie;
use super::places::{
    has_events, insert, is_mine, is_progress, is_whole, last_revision, pick, pick_event, progress,
    remove, wants,
};
use crate::checker::By;
use crate::checker::history::{Event, History, Kind, Row, Watch};
use crate::checker::tests::watching::row_before;

const FILTER: &[By] = &[By::Filter];
const ORDERED: &[By] = &[By::Ordered];
const UNIQUE: &[By] = &[By::Unique];
const ATOMIC: &[By] = &[By::Atomic];
const BOOKMARKABLE: &[By] = &[By::Bookmarkable];
const RESUMABLE: &[By] = &[By::Resumable];
const RELIABLE: &[By] = &[By::Reliable];
const PREV_KV: &[By] = &[By::PrevKv];
const IS_CREATE: &[By] = &[By::IsCreate];

pub const LIES: &[Lie] = &[
    Lie::new("an event of another key", of_another_key, FILTER),
    Lie::new("an event of a kind that is filtered", of_another_kind, FILTER),
    Lie::new("two events swapped", events_swapped, ORDERED),
    Lie::new("two responses swapped", responses_swapped, ORDERED),
    Lie::new("an old event again", again_later, &[By::Ordered, By::Unique]),
    Lie::new("an event twice", twice, UNIQUE),
    Lie::new("a revision in two responses", split, ATOMIC),
    Lie::new("progress ahead of events", early_progress, BOOKMARKABLE),
    Lie::new("progress of a stream with one watch behind", one_behind, BOOKMARKABLE),
    Lie::new("progress that goes back", progress_back, BOOKMARKABLE),
    Lie::new("progress below an event", progress_below, BOOKMARKABLE),
    Lie::new("the first event missed", first_missed, RESUMABLE),
    Lie::new("resumed with a gap", resumed_with_a_gap, RESUMABLE),
    Lie::new("an event missed", missed, RELIABLE),
    Lie::new("a response lost", response_lost, RELIABLE),
    Lie::new("the last events never told", end_missed, RELIABLE),
    Lie::new("a value changed", changed, RELIABLE),
    Lie::new("another row before", other_row_before, PREV_KV),
    Lie::new("no row before, and there was one", no_row_before, PREV_KV),
    Lie::new("a row before, and there was none", row_before_nothing, PREV_KV),
    Lie::new("no rows before, though asked for", no_rows_before, PREV_KV),
    Lie::new("an update said to create", update_creates, IS_CREATE),
    Lie::new("a creation said to update", creation_updates, IS_CREATE),
];

/// Adds an event behind some response that is new enough for it.
fn add(
    h: &mut History,
    random: &mut SmallRng,
    wanted: impl Fn(&Watch, &Event) -> bool,
) -> Option<()> {
    let fits = |watch: &Watch, at: usize, event: &Event| {
        let heard = &watch.heard[at];
        let revision = event.revision();
        let new = last_revision(heard) <= revision && revision <= heard.revision;
        new && has_events(watch, at) && wanted(watch, event)
    };
    let find = |watch: &Watch, at: usize| h.log.iter().find(|event| fits(watch, at, event));
    let (watch, at) = pick(h, random, |watch, at| find(watch, at).is_some())?;
    let event = find(&h.watches[watch], at)?.clone();
    let prev_kv = h.watches[watch].prev_kv;
    let heard = &mut h.watches[watch].heard[at];
    insert(heard, heard.events.len(), event, prev_kv);
    Some(())
}

fn of_another_key(h: &mut History, random: &mut SmallRng) -> Option<()> {
    add(h, random, |watch, event| !is_mine(watch, event))
}

fn of_another_kind(h: &mut History, random: &mut SmallRng) -> Option<()> {
    add(h, random, |watch, event| is_mine(watch, event) && !wants(watch, event))
}

fn events_swapped(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        let events = &watch.heard[at].events;
        events.get(place + 1).is_some_and(|next| next.revision() > events[place].revision())
    })?;
    let heard = &mut h.watches[watch].heard[at];
    heard.events.swap(place, place + 1);
    if !heard.previous.is_empty() {
        heard.previous.swap(place, place + 1);
    }
    Some(())
}

fn responses_swapped(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| {
        let is_one = |at: usize| is_whole(watch, at) && has_events(watch, at);
        at + 1 < watch.heard.len() && is_one(at) && is_one(at + 1)
    })?;
    h.watches[watch].heard.swap(at, at + 1);
    Some(())
}

fn again_later(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let later = |watch: &Watch, at: usize, event: &Event| {
        (at + 1..watch.heard.len()).find(|later| {
            has_events(watch, *later) && last_revision(&watch.heard[*later]) > event.revision()
        })
    };
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        later(watch, at, &watch.heard[at].events[place]).is_some()
    })?;
    let one = &h.watches[watch];
    let event = one.heard[at].events[place].clone();
    let (later, prev_kv) = (later(one, at, &event)?, one.prev_kv);
    let heard = &mut h.watches[watch].heard[later];
    insert(heard, heard.events.len(), event, prev_kv);
    Some(())
}

fn twice(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at, place) = pick_event(h, random, |_, _, _| true)?;
    let prev_kv = h.watches[watch].prev_kv;
    let heard = &mut h.watches[watch].heard[at];
    insert(heard, place, heard.events[place].clone(), prev_kv);
    Some(())
}

fn split(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        let events = &watch.heard[at].events;
        let same = events.get(place + 1).map(Event::revision) == Some(events[place].revision());
        same && watch.heard[at].kind == Kind::Plain
    })?;
    let first = &mut h.watches[watch].heard[at];
    let mut second = first.clone();
    second.events = first.events.split_off(place + 1);
    second.previous = first.previous.split_off((place + 1).min(first.previous.len()));
    h.watches[watch].heard.insert(at + 1, second);
    Some(())
}

fn early_progress(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| has_events(watch, at) && is_whole(watch, at))?;
    let one = &h.watches[watch];
    let early = progress(one, one.heard[at].at, one.heard[at].events[0].revision());
    h.watches[watch].heard.insert(at, early);
    Some(())
}

fn one_behind(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| {
        let is_told = is_progress(watch, at);
        let shared = h.watches.iter().any(|other| {
            other.id != watch.id && other.heard.iter().any(|one| one.at == watch.heard[at].at)
        });
        at > 0 && is_told && shared && has_events(watch, at - 1) && is_whole(watch, at - 1)
    })?;
    h.watches[watch].heard.swap(at - 1, at);
    Some(())
}

fn progress_back(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| {
        is_progress(watch, at) && watch.heard[at].revision > watch.start.max(1)
    })?;
    let one = &h.watches[watch];
    let back = progress(one, one.heard[at].at, one.heard[at].revision - 1);
    h.watches[watch].heard.insert(at + 1, back);
    Some(())
}

fn progress_below(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| {
        let one = &watch.heard[at];
        has_events(watch, at) && one.kind == Kind::Plain && last_revision(one) > watch.start.max(1)
    })?;
    let one = &h.watches[watch];
    let below = progress(one, one.heard[at].at, last_revision(&one.heard[at]) - 1);
    h.watches[watch].heard.insert(at + 1, below);
    Some(())
}

/// Takes away the first event of a watch that heard more.
fn forget_first(h: &mut History, random: &mut SmallRng, of: impl Fn(&Watch) -> bool) -> Option<()> {
    let is_first = |watch: &Watch, at: usize, place: usize| {
        place == 0 && !watch.heard[..at].iter().any(|before| !before.events.is_empty())
    };
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        let count: usize = watch.heard.iter().map(|heard| heard.events.len()).sum();
        of(watch) && count > 1 && is_first(watch, at, place)
    })?;
    remove(&mut h.watches[watch].heard[at], place);
    Some(())
}

fn first_missed(h: &mut History, random: &mut SmallRng) -> Option<()> {
    forget_first(h, random, |_| true)
}

fn resumed_with_a_gap(h: &mut History, random: &mut SmallRng) -> Option<()> {
    forget_first(h, random, |watch| watch.start > 1)
}

fn missed(h: &mut History, random: &mut SmallRng) -> Option<()> {
    // Something after it has to tell that it was missed.
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        let heard = &watch.heard;
        place + 1 < heard[at].events.len() || (at + 1..heard.len()).any(|at| has_events(watch, at))
    })?;
    remove(&mut h.watches[watch].heard[at], place);
    Some(())
}

fn response_lost(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| {
        let after = at + 1..watch.heard.len();
        let is_noticed = after.clone().any(|at| has_events(watch, at) || is_progress(watch, at));
        has_events(watch, at) && is_noticed
    })?;
    h.watches[watch].heard.remove(at);
    Some(())
}

fn end_missed(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| watch.until.is_some() && has_events(watch, at))?;
    h.watches[watch].heard.truncate(at);
    Some(())
}

fn row(event: &mut Event) -> Option<&mut Row> {
    match event {
        Event::Put(row) => Some(row),
        Event::Delete { .. } => None,
    }
}

fn is_put(watch: &Watch, at: usize, place: usize) -> bool {
    matches!(watch.heard[at].events[place], Event::Put(_))
}

fn changed(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at, place) = pick_event(h, random, is_put)?;
    row(&mut h.watches[watch].heard[at].events[place])?.value.push('x');
    Some(())
}

fn other_row_before(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        watch.heard[at].previous.get(place).is_some_and(Option::is_some)
    })?;
    let row = h.watches[watch].heard[at].previous[place].as_mut()?;
    match random.random_range(0..4) {
        0 => row.value.push('x'),
        1 => row.version += 1,
        2 => row.create -= 1,
        _ => row.modified -= 1,
    }
    Some(())
}

fn no_row_before(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        let heard = &watch.heard[at];
        let asked = h.compactions.iter().filter(|one| one.call <= heard.at);
        let compacted = asked.map(|one| one.revision).max().unwrap_or(0);
        let is_there = heard.previous.get(place).is_some_and(Option::is_some);
        is_there && heard.events[place].revision() > compacted
    })?;
    h.watches[watch].heard[at].previous[place] = None;
    Some(())
}

fn row_before_nothing(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        let heard = &watch.heard[at];
        let none = heard.previous.get(place).is_some_and(Option::is_none);
        none && row_before(&h.log, &heard.events[place], 0).is_none()
    })?;
    let heard = &mut h.watches[watch].heard[at];
    let (key, modified) = (heard.events[place].key().to_owned(), heard.events[place].revision());
    let (value, create) = ("v1".to_owned(), modified - 1);
    let row = Row { key, value, create, modified: modified - 1, version: 1 };
    heard.previous[place] = Some(row);
    Some(())
}

fn no_rows_before(h: &mut History, random: &mut SmallRng) -> Option<()> {
    let (watch, at) = pick(h, random, |watch, at| !watch.heard[at].previous.is_empty())?;
    h.watches[watch].heard[at].previous.clear();
    Some(())
}

fn update_creates(h: &mut History, random: &mut SmallRng) -> Option<()> {
    change_create(h, random, false)
}

fn creation_updates(h: &mut History, random: &mut SmallRng) -> Option<()> {
    change_create(h, random, true)
}

fn change_create(h: &mut History, random: &mut SmallRng, creates: bool) -> Option<()> {
    let (watch, at, place) = pick_event(h, random, |watch, at, place| {
        matches!(&watch.heard[at].events[place],
            Event::Put(row) if (row.create == row.modified) == creates)
    })?;
    let row = row(&mut h.watches[watch].heard[at].events[place])?;
    row.create = if creates { row.modified - 1 } else { row.modified };
    row.version = if creates { 2 } else { 1 };
    Some(())
}
