//! What a watch heard, against what it should have heard.

use super::history::{Event, Watch, within};

/// Checks one watch against the log.
pub fn check(watch: &Watch, log: &[Event]) -> Result<(), String> {
    let mine = |event: &Event| within(event.key(), &watch.key, watch.end.as_deref());
    let mut next = begin(watch, log);
    for heard in &watch.heard {
        for event in &heard.events {
            while log.get(next).is_some_and(|event| !mine(event)) {
                next += 1;
            }
            let due = log.get(next);
            if due != Some(event) {
                return Err(format!("heard {event:?} at {}, but next is {due:?}", heard.at));
            }
            next += 1;
        }
        let complete = match heard.events.last() {
            Some(event) => event.revision(),
            None => heard.revision,
        };
        if let Some(event) = missed(log, &mut next, complete, mine) {
            return Err(format!("heard of {complete} at {}, without {event:?}", heard.at));
        }
    }
    match watch.until.map(|until| (until, missed(log, &mut next, until, mine))) {
        Some((until, Some(event))) => Err(format!("ended at {until} and never heard {event:?}")),
        _ => Ok(()),
    }
}

/// Where in the log it begins.
fn begin(watch: &Watch, log: &[Event]) -> usize {
    let now = watch.heard.first().map_or(i64::MAX, |heard| heard.revision + 1);
    let start = if watch.start > 0 { watch.start } else { now };
    log.partition_point(|event| event.revision() < start)
}

/// Goes over what the watch is not about, up to a revision. Tells an event that should have come.
fn missed<'a>(
    log: &'a [Event],
    next: &mut usize,
    revision: i64,
    mine: impl Fn(&Event) -> bool,
) -> Option<&'a Event> {
    while let Some(event) = log.get(*next)
        && event.revision() <= revision
    {
        if mine(event) {
            return Some(event);
        }
        *next += 1;
    }
    None
}
