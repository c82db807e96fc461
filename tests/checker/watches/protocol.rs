//! What a watch's responses may be and in which order, before their events are looked at.
//!
//! - `created` comes once and first, `canceled` last.
//! - Events come under a header that is not older than they are.
//! - A watch that begins in the future is silent until then: neither events nor progress are from
//!   before (etcd #20221).
//! - Pieces come only if they were asked for, in a row, up to one that is the last; together they
//!   are one response.
//! - History is said to be gone only if it is: somebody asked for that compaction, and what the
//!   watch needs next lies below. Who asks the very process that has acknowledged a compaction for
//!   what lies below is told so at once, and nothing else.
//! - Rows from before come only if they were asked for.

use super::{Response, Truth};
use crate::checker::history::{Heard, Kind, Watch};

/// Checks the order of responses, and makes whole ones of them: those of events and of progress.
pub(super) fn responses<'a>(
    watch: &'a Watch,
    truth: &Truth<'_>,
    object: &mut impl FnMut(String),
) -> Vec<Response<'a>> {
    let mut whole = Vec::new();
    let mut begin = None;
    for (number, heard) in watch.heard.iter().enumerate() {
        if let Err(what) = follows(watch, number, begin.is_some()) {
            object(format!("at {}: {what}", heard.at));
        }
        if let Err(what) = content(watch, heard) {
            object(format!("at {}: {what}", heard.at));
        }
        match heard.kind {
            Kind::Plain => {
                let first = begin.take().unwrap_or(number);
                whole.push(Response { pieces: &watch.heard[first..=number] });
            }
            Kind::Fragment => begin = begin.or(Some(number)),
            Kind::Created | Kind::Canceled | Kind::Compacted(_) => begin = None,
        }
    }
    if let Err(what) = compacted(watch, &whole, truth) {
        object(what);
    }
    whole
}

/// Whether a response may come after those before it.
fn follows(watch: &Watch, number: usize, in_pieces: bool) -> Result<(), String> {
    let Heard { kind, events, revision, .. } = &watch.heard[number];
    let Some(before) = number.checked_sub(1).map(|at| &watch.heard[at]) else { return Ok(()) };
    if *kind == Kind::Created {
        return Err("created, but not as the first thing".to_owned());
    }
    if matches!(before.kind, Kind::Canceled | Kind::Compacted(_)) {
        return Err(format!("{kind:?} after the end"));
    }
    if in_pieces && (events.is_empty() || *revision != before.revision) {
        return Err("the rest of a response in pieces is missing".to_owned());
    }
    Ok(())
}

fn content(watch: &Watch, heard: &Heard) -> Result<(), String> {
    let Heard { kind, events, revision, previous, .. } = heard;
    if !matches!(kind, Kind::Plain | Kind::Fragment) {
        return match events.is_empty() {
            true => Ok(()),
            false => Err(format!("{kind:?} with events")),
        };
    }
    if *kind == Kind::Fragment && (!watch.fragments || events.is_empty()) {
        return Err("a piece that nobody asked for, or without events".to_owned());
    }
    let oldest = events.iter().map(|event| event.revision()).min().unwrap_or(*revision);
    if oldest < watch.start {
        return Err(format!("{oldest} was told before the start at {}", watch.start));
    }
    if let Some(event) = events.iter().find(|event| event.revision() > *revision) {
        return Err(format!("{event:?} under a header of {revision}"));
    }
    if !watch.prev_kv && !previous.is_empty() {
        return Err("rows from before that nobody asked for".to_owned());
    }
    Ok(())
}

/// Checks what was said of history that is gone, and that it was said.
fn compacted(watch: &Watch, whole: &[Response<'_>], truth: &Truth<'_>) -> Result<(), String> {
    let told = watch.heard.iter().find_map(|heard| match heard.kind {
        Kind::Compacted(revision) => Some((revision, heard.at)),
        _ => None,
    });
    if let Some((revision, at)) = told {
        let done = whole.iter().map(|one| one.last().map_or(one.revision(), |e| e.revision()));
        let next = done.max().map_or(watch.first_revision(), |done| done + 1);
        if revision <= next {
            return Err(format!("{next} was said to be gone by a compaction at {revision}"));
        }
        if !truth.compactions.iter().any(|one| one.revision == revision && one.call <= at) {
            return Err(format!("nobody had compacted at {revision}"));
        }
    }
    let here = truth.compactions.iter().filter(|one| one.server == watch.server);
    let before = here.filter(|one| one.end.is_some_and(|end| end < watch.begun));
    let gone = before.map(|one| one.revision).max().unwrap_or(0);
    let asks_for_it = watch.server > 0 && watch.start > 0 && watch.start < gone;
    let was_told = told.is_some_and(|(revision, _)| revision >= gone);
    if asks_for_it && (!whole.is_empty() || !was_told && watch.until.is_some()) {
        return Err(format!("begun at {}, below the compaction at {gone}", watch.start));
    }
    Ok(())
}
