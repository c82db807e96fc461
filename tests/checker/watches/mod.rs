//! What watches heard, against etcd's guarantees. Each is a check of its own and named in what it
//! says, as in etcd's `tests/robustness/validate/watch.go`:
//!
//! | guarantee | check |
//! |---|---|
//! | filter | every event is of the range and of the kinds that were asked for |
//! | ordered | revisions of events never go down |
//! | unique | no key twice at one revision |
//! | atomic | no response begins with the revision that the one before ended with |
//! | bookmarkable | after progress at R no event up to R; progress never goes down, nor is it below an event |
//! | resumable | the first event is the first one that is due from the start on |
//! | reliable | the events, up to the last one, progress or the end, are exactly those of the log |
//! | prev_kv | the row that came with an event is that of the revision before; none came only if there was none, or it was compacted |
//! | is_create | an event creates its key if the key was not there |
//!
//! Before them, the protocol ([`protocol`]) makes whole responses out of what was heard.
//!
//! Progress of a stream with several watches is entered for each of them, and is true only if it
//! is for each: that it waits until all are level is their being bookmarkable and reliable.
//!
//! Absent: that a stream without a leader ends in time, which is not about what was heard; and
//! that progress comes at all, which nobody promises.

mod guarantees;
mod protocol;

use std::collections::HashMap;

use super::history::{Compaction, Event, Heard, History, Row, Watch, within};
use super::report::{By, Report};

/// What is true of all watches: the log, and what was compacted.
pub struct Truth<'a> {
    log: &'a [Event],
    /// Where the log has each key, if any watch needs that.
    of_key: HashMap<&'a str, Vec<usize>>,
    compactions: &'a [Compaction],
}

/// A response, of as many pieces as it came in.
#[derive(Clone, Copy)]
struct Response<'a> {
    pieces: &'a [Heard],
}

impl<'a> Truth<'a> {
    pub fn new(history: &'a History) -> Self {
        let mut of_key: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, event) in history.log.iter().enumerate() {
            of_key.entry(event.key()).or_default().push(place);
        }
        Self { log: &history.log, of_key, compactions: &history.compactions }
    }

    /// The row of a key as of a revision.
    fn row(&self, key: &str, revision: i64) -> Option<&'a Row> {
        let places = self.of_key.get(key)?;
        let at = places.partition_point(|place| self.log[*place].revision() <= revision);
        match &self.log[places[at.checked_sub(1)?]] {
            Event::Put(row) => Some(row),
            Event::Delete { .. } => None,
        }
    }

    /// The newest compaction that had been asked for by a moment; 0 if none had.
    fn compacted_by(&self, time: u64) -> i64 {
        let asked = self.compactions.iter().filter(|one| one.call <= time);
        asked.map(|one| one.revision).max().unwrap_or(0)
    }
}

impl<'a> Response<'a> {
    fn at(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.at)
    }

    /// The header's revision.
    fn revision(&self) -> i64 {
        self.pieces.last().map_or(0, |piece| piece.revision)
    }

    fn events(self) -> impl Iterator<Item = &'a Event> {
        self.pieces.iter().flat_map(|piece| &piece.events)
    }

    fn first(self) -> Option<&'a Event> {
        self.pieces.first()?.events.first()
    }

    fn last(self) -> Option<&'a Event> {
        self.pieces.last()?.events.last()
    }

    fn is_progress(&self) -> bool {
        self.first().is_none()
    }
}

impl Watch {
    /// Whether an event is one of those that were asked for.
    fn wants(&self, event: &Event) -> bool {
        let kind = match event {
            Event::Put(_) => !self.no_put,
            Event::Delete { .. } => !self.no_delete,
        };
        kind && within(event.key(), &self.key, self.end.as_deref())
    }

    /// The first revision that it is about, as far as is known.
    fn first_revision(&self) -> i64 {
        match self.start {
            0 => self.heard.first().map_or(i64::MAX, |heard| heard.revision + 1),
            start => start,
        }
    }
}

/// Checks one watch.
pub fn check(watch: &Watch, truth: &Truth<'_>, report: &mut Report) {
    let mut object = |by: By, what: String| report.add(by, format!("watch {}: {what}", watch.id));
    let responses = protocol::responses(watch, truth, &mut |what| object(By::Protocol, what));
    let checks = [
        (By::Filter, guarantees::filter(watch, &responses)),
        (By::Ordered, guarantees::ordered(&responses)),
        (By::Unique, guarantees::unique(&responses)),
        (By::Atomic, guarantees::atomic(&responses)),
        (By::Bookmarkable, guarantees::bookmarkable(&responses)),
        (By::Resumable, guarantees::resumable(watch, &responses, truth)),
        (By::Reliable, guarantees::reliable(watch, &responses, truth)),
        (By::PrevKv, guarantees::prev_kv(watch, &responses, truth)),
        (By::IsCreate, guarantees::is_create(&responses, truth)),
    ];
    for (by, verdict) in checks {
        if let Err(what) = verdict {
            object(by, what);
        }
    }
    let pieces = || responses.iter().flat_map(|response| response.pieces);
    report.events_heard += pieces().map(|piece| piece.events.len()).sum::<usize>();
    report.previous_heard += pieces().flat_map(|piece| &piece.previous).flatten().count();
    report.previous_gone += guarantees::gone(&responses, truth);
    report.progress_heard += responses.iter().filter(|response| response.is_progress()).count();
}
