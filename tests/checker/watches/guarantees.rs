//! The nine guarantees, one function each; what breaks them first is told.

use super::{Response, Truth};
use crate::checker::history::{Event, Row, Watch};

type Verdict = Result<(), String>;

pub(super) fn filter(watch: &Watch, responses: &[Response<'_>]) -> Verdict {
    for response in responses {
        if let Some(event) = response.events().find(|event| !watch.wants(event)) {
            return Err(format!("{event:?} at {} was not asked for", response.at()));
        }
    }
    Ok(())
}

pub(super) fn ordered(responses: &[Response<'_>]) -> Verdict {
    let mut newest = 0;
    for response in responses {
        for event in response.events() {
            if event.revision() < newest {
                return Err(format!("{event:?} at {} after {newest}", response.at()));
            }
            newest = event.revision();
        }
    }
    Ok(())
}

pub(super) fn unique(responses: &[Response<'_>]) -> Verdict {
    let events = responses.iter().flat_map(|response| response.events());
    let mut heard: Vec<(i64, &str)> = events.map(|event| (event.revision(), event.key())).collect();
    // They come in order, if nothing is wrong.
    heard.sort_unstable();
    match heard.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("{:?} came twice", pair[0])),
        None => Ok(()),
    }
}

pub(super) fn atomic(responses: &[Response<'_>]) -> Verdict {
    let mut last = 0;
    for response in responses {
        let (Some(first), Some(end)) = (response.first(), response.last()) else { continue };
        if first.revision() == last {
            return Err(format!("{last} came in two pieces, the second at {}", response.at()));
        }
        last = end.revision();
    }
    Ok(())
}

pub(super) fn bookmarkable(responses: &[Response<'_>]) -> Verdict {
    let (mut progress, mut newest) = (0, 0);
    for response in responses {
        if let Some(event) = response.events().find(|event| event.revision() <= progress) {
            return Err(format!("{event:?} at {} after progress {progress}", response.at()));
        }
        newest = response.events().map(Event::revision).fold(newest, i64::max);
        if response.is_progress() {
            let before = progress.max(newest);
            progress = response.revision();
            if progress < before {
                return Err(format!("progress {progress} at {} after {before}", response.at()));
            }
        }
    }
    Ok(())
}

pub(super) fn resumable(watch: &Watch, responses: &[Response<'_>], truth: &Truth<'_>) -> Verdict {
    let Some(first) = responses.iter().find_map(|response| response.first()) else {
        return Ok(());
    };
    let start = watch.first_revision();
    let begin = truth.log.partition_point(|event| event.revision() < start);
    match truth.log[begin..].iter().find(|event| watch.wants(event)) {
        Some(due) if due == first => Ok(()),
        due => Err(format!("from {start} on {due:?} is the first, and {first:?} came")),
    }
}

pub(super) fn reliable(watch: &Watch, responses: &[Response<'_>], truth: &Truth<'_>) -> Verdict {
    let start = watch.first_revision();
    let mut next = truth.log.partition_point(|event| event.revision() < start);
    for response in responses {
        for event in response.events() {
            while truth.log.get(next).is_some_and(|event| !watch.wants(event)) {
                next += 1;
            }
            let due = truth.log.get(next);
            if due != Some(event) {
                return Err(format!("{event:?} at {}, but next is {due:?}", response.at()));
            }
            next += 1;
        }
        let complete = response.last().map_or(response.revision(), |event| event.revision());
        if let Some(event) = missed(watch, truth.log, &mut next, complete) {
            return Err(format!("told of {complete} at {} without {event:?}", response.at()));
        }
    }
    let Some(until) = watch.until else { return Ok(()) };
    match missed(watch, truth.log, &mut next, until) {
        Some(event) => Err(format!("ended at {until} and never told {event:?}")),
        None => Ok(()),
    }
}

/// Goes over what a watch is not about, up to a revision. Tells an event that should have come.
fn missed<'a>(
    watch: &Watch,
    log: &'a [Event],
    next: &mut usize,
    revision: i64,
) -> Option<&'a Event> {
    while let Some(event) = log.get(*next)
        && event.revision() <= revision
    {
        if watch.wants(event) {
            return Some(event);
        }
        *next += 1;
    }
    None
}

pub(super) fn prev_kv(watch: &Watch, responses: &[Response<'_>], truth: &Truth<'_>) -> Verdict {
    if !watch.prev_kv {
        return Ok(());
    }
    for piece in responses.iter().flat_map(|response| response.pieces) {
        if piece.previous.len() != piece.events.len() {
            let (rows, events) = (piece.previous.len(), piece.events.len());
            return Err(format!("{rows} rows before {events} events at {}", piece.at));
        }
        for (event, told) in piece.events.iter().zip(&piece.previous) {
            let before = event.revision() - 1;
            let was = truth.row(event.key(), before);
            let may_be_gone = || before < truth.compacted_by(piece.at);
            if told.as_ref() != was && !(told.is_none() && may_be_gone()) {
                return Err(format!("{event:?} came with {told:?}, but {was:?} was before"));
            }
        }
    }
    Ok(())
}

/// How many rows from before were left out, for they were compacted.
pub(super) fn gone(responses: &[Response<'_>], truth: &Truth<'_>) -> usize {
    let pieces = responses.iter().flat_map(|response| response.pieces);
    let told = pieces.flat_map(|piece| piece.events.iter().zip(&piece.previous));
    let was = |event: &Event| truth.row(event.key(), event.revision() - 1).is_some();
    told.filter(|(event, told)| told.is_none() && was(event)).count()
}

pub(super) fn is_create(responses: &[Response<'_>], truth: &Truth<'_>) -> Verdict {
    for event in responses.iter().flat_map(|response| response.events()) {
        let Event::Put(row) = event else { continue };
        let Row { create, modified, .. } = *row;
        let before = truth.row(&row.key, modified - 1);
        let creates = create == modified;
        if creates == before.is_some() && !truth.is_twice_at(&row.key, modified) {
            let how = if creates { "creates" } else { "updates" };
            return Err(format!("{event:?} {how} its key, but {before:?} was before"));
        }
    }
    Ok(())
}

impl Truth<'_> {
    /// Whether one revision changed a key more than once: deleted it and put it again.
    fn is_twice_at(&self, key: &str, revision: i64) -> bool {
        let Some(places) = self.of_key.get(key) else { return false };
        let at = places.partition_point(|place| self.log[*place].revision() < revision);
        let here = places[at..].iter().take_while(|at| self.log[**at].revision() == revision);
        here.count() > 1
    }
}
