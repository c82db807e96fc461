//! The feeding of watchers that are behind: from what is recent, or from history.
//!
//! ```text
//!                  ┌────────────── publish finds no room ─────────────┐
//!                  ▼                                                   │
//!   ┌─────────► parked ── room ──► settle ──► recent covers it ──► live
//!   │ no room                        │                              ▲
//!   └────────────────────────────────┤                              │ page reaches the hub
//!                                    └──► ready ──► loading ────────┘ (else settle again)
//! ```
//!
//! A watcher is in one of these states, and its `next` says from where it wants events, so nothing
//! is sent twice or left out whatever the order of things. Many watchers are fed in one pass over
//! the revisions, through groups of their own, so that the cost is that of the revisions.

use std::sync::Arc;

use bytes::Bytes;

use super::batch::{Batch, Selection};
use super::catchup::{Interest, Job, JobId, Outcome, Page};
use super::delivery::Output;
use super::hub::Hub;
use super::recent::Recent;
use super::watcher::State;

/// What one watcher gets of a pass, between its responses.
#[derive(Debug, Default)]
struct Tray {
    events: Vec<Bytes>,
    bytes: usize,
    revisions: usize,
    /// The first revision on the tray.
    first: i64,
    stop: Option<Stop>,
}

/// Why a watcher got no further. It stands in the way of all later events of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Its stream is full.
    Full,
    /// It wants a previous row that only history has.
    History,
    /// It is not fed by this pass at all.
    Gone,
}

impl Hub {
    /// Takes a finished job's page. Every job must come back; one from before a restore, or whose
    /// watchers are gone, changes nothing.
    pub fn caught_up(&mut self, page: Page) {
        let Some((keys, interest)) = self.jobs.remove(&page.job) else { return };
        let state = State::Loading(page.job);
        let is_loading =
            |hub: &Self, key: usize| hub.watchers.get(key).is_some_and(|w| w.state == state);
        match page.outcome {
            Outcome::Compacted(revision) => {
                self.compact_revision = self.compact_revision.max(revision);
                let keys: Vec<usize> =
                    keys.into_iter().filter(|key| is_loading(self, *key)).collect();
                keys.iter().for_each(|key| self.unqueue(*key));
                self.settle(&keys);
            }
            Outcome::Through(through) => {
                let mut trays: Vec<Tray> = Vec::with_capacity(keys.len());
                for key in &keys {
                    let stop = (!is_loading(self, *key)).then_some(Stop::Gone);
                    trays.push(Tray { stop, ..Tray::default() });
                }
                let mut batches = page.batches;
                let fed = self.feed(&keys, trays, &interest, batches.iter_mut(), through);
                self.settle(&fed);
            }
        }
        self.run_jobs();
    }

    /// Finds a place for watchers that have none: live, parked, ready, or canceled.
    ///
    /// The ones that what is recent covers are fed from it on the spot.
    pub(super) fn settle(&mut self, keys: &[usize]) {
        let mut feedable = Vec::new();
        for &key in keys {
            let watcher = &mut self.watchers[key];
            let next = watcher.next;
            if next > self.revision {
                watcher.state = State::Live;
            } else if self.recent.covers(next) {
                feedable.push(key);
            } else if next < self.compact_revision {
                self.cancel_compacted(key);
            } else if self.streams[watcher.stream].has_room(&self.limits) {
                self.make_ready(key);
            } else {
                self.park(key);
            }
        }
        if !feedable.is_empty() {
            self.feed_recent(&feedable);
        }
    }

    /// Feeds watchers all of whose events are recent.
    fn feed_recent(&mut self, keys: &[usize]) {
        let mut interest = Interest::default();
        let mut from = self.revision;
        for key in keys {
            interest.add(&self.watchers[*key]);
            from = from.min(self.watchers[*key].next);
        }
        let trays = keys.iter().map(|_| Tray::default()).collect();
        // Nothing below looks at what is recent, so it can be borrowed apart from the hub.
        let mut recent = std::mem::replace(&mut self.recent, Recent::after(self.revision));
        let fed = self.feed(keys, trays, &interest, recent.from(from), self.revision);
        self.recent = recent;
        for key in fed {
            self.watchers[key].state = State::Live;
        }
    }

    /// Feeds watchers from consecutive revisions that end with `through`.
    ///
    /// Those that got everything are returned, with `next` beyond `through` and in no queue; the
    /// others are parked or ready.
    fn feed<'a>(
        &mut self,
        keys: &[usize],
        mut trays: Vec<Tray>,
        interest: &Interest,
        batches: impl Iterator<Item = &'a mut Batch>,
        through: i64,
    ) -> Vec<usize> {
        // A response to one who is behind carries the newest revision known, as etcd's does.
        let revision = self.revision.max(through);
        let mut met: Vec<(u32, u32)> = Vec::new();
        let mut indices: Vec<u32> = Vec::new();
        for batch in batches {
            met.clear();
            for (index, change) in (0u32..).zip(batch.changes()) {
                interest.groups.matching(&change.key, &mut |member| {
                    let member_index = member as usize;
                    if trays[member_index].stop.is_none()
                        && self.watchers[keys[member_index]].accepts(batch.revision, change.kind)
                    {
                        met.push((member, index));
                    }
                });
            }
            met.sort_unstable();
            for of_one in met.chunk_by(|a, b| a.0 == b.0) {
                let member = of_one[0].0 as usize;
                indices.clear();
                indices.extend(of_one.iter().map(|(_, index)| *index));
                self.serve(keys[member], &mut trays[member], batch, &indices, revision);
            }
        }
        let mut fed = Vec::with_capacity(keys.len());
        for (&key, mut tray) in keys.iter().zip(trays) {
            if tray.stop.is_none() {
                self.hand_over(key, &mut tray, revision);
            }
            if tray.stop != Some(Stop::Gone) {
                self.unqueue(key);
            }
            match tray.stop {
                None => {
                    let watcher = &mut self.watchers[key];
                    watcher.next = watcher.next.max(through + 1);
                    fed.push(key);
                }
                // What is ahead of the hub will be published yet.
                Some(Stop::Full) if self.watchers[key].next > self.revision => {}
                Some(Stop::Full) => self.park(key),
                Some(Stop::History) if self.watchers[key].next < self.compact_revision => {
                    self.cancel_compacted(key);
                }
                Some(Stop::History) => self.make_ready(key),
                Some(Stop::Gone) => {}
            }
        }
        fed
    }

    /// Puts one revision's events on a watcher's tray, and hands the tray over when it is full.
    fn serve(
        &mut self,
        key: usize,
        tray: &mut Tray,
        batch: &mut Batch,
        indices: &[u32],
        revision: i64,
    ) {
        let previous = self.watchers[key].wants.previous;
        let Ok(bytes) = batch.collect(indices, previous, &mut tray.events) else {
            // What is on the tray goes back: history has all of it, and it belongs in one response.
            let first = if tray.revisions == 0 { batch.revision } else { tray.first };
            self.watchers[key].next = first;
            *tray = Tray { stop: Some(Stop::History), ..Tray::default() };
            return;
        };
        if tray.revisions == 0 {
            tray.first = batch.revision;
        }
        tray.bytes += bytes;
        tray.revisions += 1;
        if tray.revisions >= self.limits.page_revisions || tray.bytes >= self.limits.page_bytes {
            self.hand_over(key, tray, revision);
            if tray.stop.is_none() {
                self.watchers[key].next = batch.revision + 1;
            }
        }
    }

    /// Sends what is on a tray, or stops its watcher there.
    fn hand_over(&mut self, key: usize, tray: &mut Tray, revision: i64) {
        if tray.events.is_empty() {
            return;
        }
        let events = std::mem::take(&mut tray.events);
        if !self.streams[self.watchers[key].stream].has_room(&self.limits) {
            self.watchers[key].next = tray.first;
            tray.stop = Some(Stop::Full);
            return;
        }
        let selection = Selection { events: events.into(), bytes: tray.bytes };
        tray.bytes = 0;
        tray.revisions = 0;
        // A page may be ahead of the hub; no later progress may be behind this response.
        let watcher = &mut self.watchers[key];
        watcher.progress_from = watcher.progress_from.max(revision);
        self.send_events(key, selection, revision);
    }

    /// Starts jobs for watchers that are ready, the longest waiting first.
    ///
    /// The first one says where a job starts; others that start within a page of it come along.
    /// After a page each goes to the end of the queue, so one far behind does not hold up the rest.
    pub(super) fn run_jobs(&mut self) {
        while self.jobs.len() < self.limits.jobs {
            let Some((_, &first)) = self.ready.first_key_value() else { return };
            if !self.streams[self.watchers[first].stream].has_room(&self.limits) {
                self.unqueue(first);
                self.park(first);
                continue;
            }
            let from = self.watchers[first].next;
            let page = i64::try_from(self.limits.page_revisions).expect("a page is small");
            let mut keys = vec![first];
            let close = self.behind.range((from, 0)..(from.saturating_add(page), 0));
            let close = close.map(|(_, key)| *key).filter(|key| {
                let watcher = &self.watchers[*key];
                *key != first
                    && matches!(watcher.state, State::Ready(_))
                    && self.streams[watcher.stream].has_room(&self.limits)
            });
            keys.extend(close.take(self.limits.job_watchers.saturating_sub(1)));
            self.jobs_made += 1;
            let id = JobId(self.jobs_made);
            let mut interest = Interest::default();
            for &key in &keys {
                self.unqueue(key);
                interest.add(&self.watchers[key]);
                self.watchers[key].state = State::Loading(id);
                self.loading += 1;
            }
            let interest = Arc::new(interest);
            let job = Job::new(id, from, self.revision, interest.clone(), &self.limits);
            self.jobs.insert(id, (keys, interest));
            self.push(Output::CatchUp(job));
        }
    }

    /// Puts a watcher that is in no queue behind its stream's other parked ones.
    pub(super) fn park(&mut self, key: usize) {
        self.places += 1;
        let watcher = &mut self.watchers[key];
        assert!(watcher.next <= self.revision, "only one that is behind waits");
        watcher.state = State::Parked(self.places);
        self.streams[watcher.stream].parked.insert(self.places, key);
        self.behind.insert((watcher.next, key));
    }

    /// Puts a watcher that is in no queue at the end of the queue for jobs.
    fn make_ready(&mut self, key: usize) {
        self.places += 1;
        let watcher = &mut self.watchers[key];
        assert!(watcher.next <= self.revision, "only one that is behind waits");
        watcher.state = State::Ready(self.places);
        self.ready.insert(self.places, key);
        self.behind.insert((watcher.next, key));
    }

    /// Takes a watcher out of whatever queue it is in, leaving it live.
    ///
    /// The caller finds it a place at once: its `next` may have been moved by feeding, so `behind`
    /// must have forgotten it before.
    pub(super) fn unqueue(&mut self, key: usize) {
        let watcher = &mut self.watchers[key];
        match std::mem::replace(&mut watcher.state, State::Live) {
            State::Live => return,
            State::Loading(_) => {
                self.loading -= 1;
                return;
            }
            State::Parked(place) => {
                self.streams[watcher.stream].parked.remove(&place);
            }
            State::Ready(place) => {
                self.ready.remove(&place);
            }
        }
        let known = self.behind.remove(&(watcher.next, key));
        assert!(known, "one that waits is known to be behind");
    }
}
