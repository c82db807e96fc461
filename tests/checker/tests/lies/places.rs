//! Places in what watches heard, for lies about them.

use rand::prelude::*;
use rand::rngs::SmallRng;

use crate::checker::history::{Event, Heard, History, Kind, Watch, within};

/// A response of some watch, with some property.
pub fn pick(
    h: &History,
    random: &mut SmallRng,
    wanted: impl Fn(&Watch, usize) -> bool,
) -> Option<(usize, usize)> {
    let watches = h.watches.iter().enumerate();
    let all = watches.flat_map(|(watch, one)| (0..one.heard.len()).map(move |at| (watch, at)));
    all.filter(|(watch, at)| wanted(&h.watches[*watch], *at)).choose(random)
}

/// An event of some watch, with some property: its watch, response and place.
pub fn pick_event(
    h: &History,
    random: &mut SmallRng,
    wanted: impl Fn(&Watch, usize, usize) -> bool,
) -> Option<(usize, usize, usize)> {
    let found = (0..h.watches.len()).flat_map(|watch| {
        let heard = h.watches[watch].heard.iter().enumerate();
        heard.flat_map(move |(at, one)| (0..one.events.len()).map(move |place| (watch, at, place)))
    });
    found.filter(|(watch, at, place)| wanted(&h.watches[*watch], *at, *place)).choose(random)
}

pub fn has_events(watch: &Watch, at: usize) -> bool {
    !watch.heard[at].events.is_empty()
}

/// Whether a response is whole: no piece, and not the last of some.
pub fn is_whole(watch: &Watch, at: usize) -> bool {
    let is_piece = |at: usize| watch.heard[at].kind == Kind::Fragment;
    !is_piece(at) && !at.checked_sub(1).is_some_and(is_piece)
}

pub fn last_revision(heard: &Heard) -> i64 {
    heard.events.last().map_or(heard.revision, Event::revision)
}

pub fn remove(heard: &mut Heard, place: usize) {
    heard.events.remove(place);
    if !heard.previous.is_empty() {
        heard.previous.remove(place);
    }
}

pub fn insert(heard: &mut Heard, place: usize, event: Event, prev_kv: bool) {
    heard.events.insert(place, event);
    if prev_kv {
        heard.previous.insert(place, None);
    }
}

pub fn progress(watch: &Watch, at: u64, revision: i64) -> Heard {
    Heard { watch: watch.id, at, revision, ..Heard::default() }
}

pub fn is_mine(watch: &Watch, event: &Event) -> bool {
    within(event.key(), &watch.key, watch.end.as_deref())
}

pub fn wants(watch: &Watch, event: &Event) -> bool {
    let filtered = match event {
        Event::Put(_) => watch.no_put,
        Event::Delete { .. } => watch.no_delete,
    };
    is_mine(watch, event) && !filtered
}

pub fn is_progress(watch: &Watch, at: usize) -> bool {
    watch.heard[at].kind == Kind::Plain && watch.heard[at].events.is_empty()
}
