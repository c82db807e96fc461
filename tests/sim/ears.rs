//! Simulated watchers: streams of one watch or several, and the record of what they heard.
//!
//! All of it goes into the history, with what was asked for: the judge of histories knows what they
//! should have heard.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use kvorum::pb::watch_create_request::FilterType;
use kvorum::pb::{WatchCreateRequest, WatchResponse};
use kvorum::sim::{Mark, Watching, mark};
use kvorum::storage::disk::sim::Seed;

use crate::checker::history::{Heard, Kind, Watch};

use super::clients::{Record, Shared};
use super::translate;

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
    add(record, Watch { key, end, start, ..Watch::default() })
}

/// A new watch as an apiserver's: of everything since its newest list, with what was there before.
pub fn from_list(_: &mut Seed, record: &mut Record, _: u64) -> usize {
    let (key, end, start) = ("k".to_owned(), Some("l".to_owned()), record.known.listed + 1);
    add(record, Watch { key, end, start, prev_kv: true, ..Watch::default() })
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
    let watch = Watch {
        key,
        end,
        start,
        no_put: filter == 0,
        no_delete: filter == 1,
        prev_kv: seed.below(3) == 0,
        fragments: seed.coin(),
        ..Watch::default()
    };
    add(record, watch)
}

fn add(record: &mut Record, watch: Watch) -> usize {
    let watches = &mut record.history.watches;
    watches.push(Watch { id: watches.len() as u64 + 1, ..watch });
    watches.len() - 1
}

/// Listens to a stream of a process until it ends or all its watches have.
pub async fn listen(
    mut watching: Watching,
    ears: Vec<usize>,
    manner: Manner,
    server: u64,
    record: Shared,
    now_us: impl Fn() -> u64,
    ended: Rc<Cell<bool>>,
) {
    for (id, ear) in (1..).zip(&ears) {
        let watch = &mut record.borrow_mut().history.watches[*ear];
        (watch.begun, watch.server) = (now_us() * 1000, server);
        watching.create(request(watch, id, ears.len()));
    }
    let mut count = 0_u32;
    while let Some(response) = watching.next().await {
        count += 1;
        if count.is_multiple_of(7) {
            watching.progress();
        }
        if manner.cancels_after == Some(count) {
            watching.cancel(1);
        }
        let now = now_us() * 1000;
        let is_over = record.borrow_mut().hear(&ears, &response, now);
        if is_over {
            break;
        }
        if manner.pause_us > 0 && !record.borrow().is_calm {
            tokio::time::sleep(Duration::from_micros(manner.pause_us)).await;
        }
    }
    ended.set(true);
}

impl Record {
    /// Enters a response of a stream, and tells whether nothing is left on it.
    fn hear(&mut self, ears: &[usize], response: &WatchResponse, at: u64) -> bool {
        let watches = &mut self.history.watches;
        for ear in concerned(watches, ears, response) {
            hear(&mut watches[ear], response, at);
        }
        ears.iter().all(|ear| is_over(&watches[*ear]))
    }
}

fn request(watch: &Watch, watch_id: i64, watches: usize) -> WatchCreateRequest {
    let filters = [(watch.no_put, FilterType::Noput), (watch.no_delete, FilterType::Nodelete)];
    let filters = filters.into_iter().filter(|(filtered, _)| *filtered);
    WatchCreateRequest {
        key: watch.key.clone().into(),
        range_end: watch.end.clone().unwrap_or_default().into(),
        start_revision: watch.start,
        progress_notify: watches == 1,
        filters: filters.map(|(_, filter)| filter as i32).collect(),
        prev_kv: watch.prev_kv,
        fragment: watch.fragments,
        watch_id,
    }
}

/// Whose response it is. Progress of the stream is everybody's who is on it; a refusal is that of
/// the first who is not, and asked for nothing.
fn concerned(watches: &[Watch], ears: &[usize], response: &WatchResponse) -> Vec<usize> {
    let place = usize::try_from(response.watch_id - 1).ok();
    if let Some(ear) = place.and_then(|place| ears.get(place)) {
        return vec![*ear];
    }
    let is_on = |ear: &usize| !watches[*ear].heard.is_empty() && !is_over(&watches[*ear]);
    if !response.canceled {
        if ears.len() > 1 {
            mark(Mark::WatchProgressShared);
        }
        return ears.iter().copied().filter(is_on).collect();
    }
    let is_empty = |watch: &Watch| watch.end.as_ref().is_some_and(|end| *end <= watch.key);
    let refused = |ear: &&usize| watches[**ear].heard.is_empty() && is_empty(&watches[**ear]);
    ears.iter().find(refused).copied().into_iter().collect()
}

fn hear(watch: &mut Watch, response: &WatchResponse, at: u64) {
    let kind = translate::kind(response);
    let told = response.events.iter().map(translate::told);
    let (events, mut previous): (Vec<_>, Vec<_>) = told.unzip();
    if !watch.prev_kv && previous.iter().all(Option::is_none) {
        previous.clear();
    }
    let created = watch.heard.first().map_or(0, |created| created.revision);
    let marks = [
        (kind == Kind::Canceled, Mark::WatchCancelled),
        (kind == Kind::Fragment, Mark::WatchFragmented),
        (!events.is_empty() && watch.start > created + 1, Mark::WatchInFuture),
        (!events.is_empty() && (watch.no_put || watch.no_delete), Mark::WatchFiltered),
        (previous.iter().any(Option::is_some), Mark::WatchPrevious),
    ];
    marks.into_iter().filter(|(is_so, _)| *is_so).for_each(|(_, what)| mark(what));
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    watch.heard.push(Heard { watch: watch.id, at, revision, kind, events, previous });
}

/// Whether a watch was canceled.
pub fn is_over(watch: &Watch) -> bool {
    let last = watch.heard.last().map(|heard| heard.kind);
    matches!(last, Some(Kind::Canceled | Kind::Compacted(_)))
}
