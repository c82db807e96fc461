//! Simulated watchers: streams of one watch or several, what they heard, and what they should have.
//!
//! The judge of histories hears what plain watches hear. Those that leave something out, or want
//! the rows that were replaced, are judged here, against the same log.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use kvorum::pb::watch_create_request::FilterType;
use kvorum::pb::{WatchCreateRequest, WatchResponse};
use kvorum::sim::{Mark, Watching, mark};
use kvorum::storage::disk::sim::Seed;

use crate::checker::history::{Event, Heard, Row, Watch, within};

use super::clients::{Record, Shared};
use super::translate;

/// A watch as it was asked for, and what it heard.
pub struct Ear {
    pub key: String,
    pub end: Option<String>,
    pub start: i64,
    puts: bool,
    deletes: bool,
    previous: bool,
    fragment: bool,
    /// Whether it began ahead of what anybody had been shown.
    ahead: bool,
    /// Its place in the history, if it is plain.
    number: Option<usize>,
    heard: Vec<(i64, Vec<Told>)>,
    /// The pieces of a response that has not come to its end.
    pieces: Vec<Told>,
    closed: bool,
    /// The revision up to which it should have heard everything.
    pub until: Option<i64>,
}

/// An event, and the row that it replaced.
type Told = (Event, Option<Row>);

/// How a stream is listened to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// The pause after each response.
    pause_us: u64,
    /// After how many responses its first watch is cancelled.
    cancels_after: Option<u32>,
}

impl Manner {
    pub fn draw(seed: &mut Seed) -> Self {
        let pause_us = if seed.below(3) == 0 { seed.below(800_000) } else { 0 };
        let cancels_after = (seed.below(6) == 0).then(|| seed.below(20) as u32);
        Self { pause_us, cancels_after }
    }
}

/// A new watch of somebody who was away since the compaction: it is fed from history.
pub fn from_compaction(_: &mut Seed, record: &mut Record, _: u64) -> usize {
    let (key, end, start) = ("k".to_owned(), Some("l".to_owned()), record.compacted);
    add(record, Ear { start, ..plain(key, end) })
}

/// A new watch.
pub fn any(seed: &mut Seed, record: &mut Record, keys: u64) -> usize {
    let all = seed.below(3) == 0;
    let key = if all { "k".to_owned() } else { format!("k{:02}", seed.below(keys)) };
    let end = match (all, seed.coin()) {
        (true, _) => Some("l".to_owned()),
        (false, true) => Some(format!("k{:02}", seed.below(keys))),
        (false, false) => None,
    };
    let start = match seed.below(5) {
        0 => 0,
        // The oldest that can be had: what compaction kept for those who come back.
        3 => record.compacted,
        1 => (record.revision - seed.below(40) as i64).max(1),
        // Of those that were compacted in the meantime, one is told so.
        4 => (record.compacted - seed.below(3) as i64).max(1),
        _ => record.revision + 1 + seed.below(10) as i64,
    };
    let filter = seed.below(8);
    let ear = Ear {
        start,
        ahead: start > record.revision + 1,
        puts: filter != 0,
        deletes: filter != 1,
        previous: seed.below(3) == 0,
        fragment: seed.coin(),
        ..plain(key, end)
    };
    add(record, ear)
}

fn plain(key: String, end: Option<String>) -> Ear {
    Ear {
        key,
        end,
        start: 0,
        puts: true,
        deletes: true,
        previous: false,
        fragment: false,
        ahead: false,
        number: None,
        heard: Vec::new(),
        pieces: Vec::new(),
        closed: false,
        until: None,
    }
}

fn add(record: &mut Record, mut ear: Ear) -> usize {
    if ear.puts && ear.deletes {
        let watches = &mut record.history.watches;
        ear.number = Some(watches.len());
        let (key, end, start) = (ear.key.clone(), ear.end.clone(), ear.start);
        let (id, heard) = (watches.len() as u64 + 1, Vec::new());
        watches.push(Watch { id, key, end, start, heard, until: None });
    }
    record.ears.push(ear);
    record.ears.len() - 1
}

/// Listens to a stream until it ends or all its watches are cancelled.
pub async fn listen(
    mut watching: Watching,
    ears: Vec<usize>,
    manner: Manner,
    record: Shared,
    now_us: impl Fn() -> u64,
    ended: Rc<Cell<bool>>,
) {
    for (id, ear) in (1..).zip(&ears) {
        watching.create(record.borrow().ears[*ear].request(id, ears.len()));
    }
    let (mut count, mut open) = (0_u32, ears.len());
    while let Some(response) = watching.next().await {
        count += 1;
        if count.is_multiple_of(7) {
            watching.progress();
        }
        if manner.cancels_after == Some(count) {
            watching.cancel(1);
        }
        let now = now_us() * 1000;
        if response.watch_id == -1 {
            if ears.len() > 1 {
                mark(Mark::WatchProgressShared);
            }
            ears.iter().for_each(|ear| record.borrow_mut().hear(*ear, &response, now));
        } else if let Some(ear) = ears.get(response.watch_id as usize - 1) {
            record.borrow_mut().hear(*ear, &response, now);
        }
        open -= usize::from(response.canceled);
        if open == 0 {
            break;
        }
        if manner.pause_us > 0 && !record.borrow().is_calm {
            tokio::time::sleep(Duration::from_micros(manner.pause_us)).await;
        }
    }
    ended.set(true);
}

impl Record {
    fn hear(&mut self, number: usize, response: &WatchResponse, at: u64) {
        let ear = &mut self.ears[number];
        if response.canceled {
            ear.closed = true;
            if response.compact_revision == 0 {
                mark(Mark::WatchCancelled);
            }
        }
        if ear.closed || response.created && ear.start > 0 {
            return;
        }
        ear.pieces.extend(response.events.iter().map(translate::told));
        if response.fragment {
            mark(Mark::WatchFragmented);
            return;
        }
        let told = std::mem::take(&mut ear.pieces);
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if let Some(number) = ear.number {
            let watch = &mut self.history.watches[number];
            let events = told.iter().map(|(event, _)| event.clone()).collect();
            watch.heard.push(Heard { watch: watch.id, at, revision, events });
        }
        if !told.is_empty() && ear.ahead {
            mark(Mark::WatchInFuture);
        }
        if !told.is_empty() && ear.number.is_none() {
            mark(Mark::WatchFiltered);
        }
        ear.heard.push((revision, told));
    }

    /// Those that are still open should have heard everything up to a revision.
    pub fn heard_until(&mut self, ear: usize, revision: i64) {
        let ear = &mut self.ears[ear];
        if !ear.closed {
            ear.until = Some(revision);
            if let Some(number) = ear.number {
                self.history.watches[number].until = Some(revision);
            }
        }
    }
}

impl Ear {
    fn request(&self, watch_id: i64, ears: usize) -> WatchCreateRequest {
        let filters = [(self.puts, FilterType::Noput), (self.deletes, FilterType::Nodelete)];
        let filters = filters.into_iter().filter(|(wanted, _)| !wanted);
        WatchCreateRequest {
            key: self.key.clone().into(),
            range_end: self.end.clone().unwrap_or_default().into(),
            start_revision: self.start,
            progress_notify: ears == 1,
            filters: filters.map(|(_, filter)| filter as i32).collect(),
            prev_kv: self.previous,
            fragment: self.fragment,
            watch_id,
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = match event {
            Event::Put(_) => self.puts,
            Event::Delete { .. } => self.deletes,
        };
        kind && within(event.key(), &self.key, self.end.as_deref())
    }

    /// Holds what was heard against the log. `before` has the rows that its events replaced, and
    /// `compacted` is the newest compaction that was asked for.
    pub fn judge(
        &self,
        log: &[Event],
        before: &[Option<Row>],
        compacted: i64,
    ) -> Result<(), String> {
        let now = self.heard.first().map_or(i64::MAX, |(revision, _)| revision + 1);
        let start = if self.start > 0 { self.start } else { now };
        let mut next = log.partition_point(|event| event.revision() < start);
        for (revision, told) in &self.heard {
            for (event, previous) in told {
                while log.get(next).is_some_and(|event| !self.wants(event)) {
                    next += 1;
                }
                if log.get(next) != Some(event) {
                    return Err(format!("heard {event:?}, but next is {:?}", log.get(next)));
                }
                let is_gone = event.revision() - 1 < compacted;
                self.judge_previous(previous.as_ref(), before[next].as_ref(), is_gone)
                    .map_err(|wrong| format!("{event:?} came {wrong}"))?;
                next += 1;
            }
            let complete = told.last().map_or(*revision, |(event, _)| event.revision());
            self.missed(log, &mut next, complete)?;
        }
        self.until.map_or(Ok(()), |until| self.missed(log, &mut next, until))
    }

    fn judge_previous(
        &self,
        told: Option<&Row>,
        was: Option<&Row>,
        is_gone: bool,
    ) -> Result<(), String> {
        match (told, was) {
            (None, Some(_)) if self.previous && is_gone => mark(Mark::WatchPreviousCompacted),
            (None, Some(was)) if self.previous => return Err(format!("without {was:?}")),
            (None, _) => {}
            (Some(told), was) if !self.previous || Some(told) != was => {
                return Err(format!("with {told:?}, where {was:?} was"));
            }
            (Some(_), _) => mark(Mark::WatchPrevious),
        }
        Ok(())
    }

    /// Goes over what it is not about, up to a revision; tells what should have come.
    fn missed(&self, log: &[Event], next: &mut usize, revision: i64) -> Result<(), String> {
        while let Some(event) = log.get(*next)
            && event.revision() <= revision
        {
            if self.wants(event) {
                return Err(format!("heard of {revision} without {event:?}"));
            }
            *next += 1;
        }
        Ok(())
    }
}

/// The row that each event of a log replaced.
pub fn replaced(log: &[Event]) -> Vec<Option<Row>> {
    let mut rows = std::collections::BTreeMap::new();
    let replace = |event: &Event| match event {
        Event::Put(row) => rows.insert(row.key.clone(), row.clone()),
        Event::Delete { key, .. } => rows.remove(key),
    };
    log.iter().map(replace).collect()
}
