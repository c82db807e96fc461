//! The hub: who watches what, and every way in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::vec::Drain;

use slab::Slab;

use crate::error::Fault;
use crate::marks::{Mark, mark};
use crate::pb;

use super::batch::{Batch, Selection};
use super::catchup::{Interest, JobId};
use super::change::{Changes, Lookup};
use super::delivery::{Body, Delivery, NO_WATCH, Output, Refusal, StreamId, Taken, event_cost};
use super::fragment;
use super::groups::Groups;
use super::limits::Limits;
use super::recent::Recent;
use super::stream::Stream;
use super::watcher::{State, Wants, Watcher, requested_span};

/// What the published store says of itself when a request is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub revision: i64,
    /// Below this revision history is gone; −1 if nothing was ever compacted.
    pub compact_revision: i64,
}

/// How much there is of everything, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub streams: usize,
    pub watchers: usize,
    /// Watchers that are behind, whatever the reason.
    pub slow: usize,
    /// Responses believed to be queued.
    pub queued: u64,
}

/// All watch streams of a member. See the module's chapter.
#[derive(Debug)]
pub struct Hub {
    pub(super) limits: Limits,
    /// Everything up to this revision was published here.
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    pub(super) streams: Slab<Stream>,
    stream_numbers: BTreeMap<StreamId, usize>,
    pub(super) watchers: Slab<Watcher>,
    groups: Groups,
    pub(super) recent: Recent,
    /// Places handed out in the queues below.
    pub(super) places: u64,
    /// Watchers that wait for a job, in the order they came.
    pub(super) ready: BTreeMap<u64, usize>,
    /// Every parked or ready watcher by its next revision.
    pub(super) behind: BTreeSet<(i64, usize)>,
    /// Jobs under way: their watchers in the job's own numbering, and what they want.
    pub(super) jobs: BTreeMap<JobId, (Vec<usize>, Arc<Interest>)>,
    pub(super) jobs_made: u64,
    /// How many watchers are loading.
    pub(super) loading: usize,
    /// Manual progress requests that came before the revision they must carry.
    due: BTreeSet<(i64, usize)>,
    /// When each stream's periodic progress is due.
    ticks: BTreeSet<(u64, usize)>,
    outputs: Vec<Output>,
    /// Kept between calls for its capacity: watchers met by a revision, and by which of its events.
    met: Vec<(u32, u32)>,
}

impl Hub {
    /// A hub without streams over a store in the state `now`.
    pub fn new(now: Now, limits: Limits) -> Self {
        Self {
            limits,
            revision: now.revision,
            compact_revision: now.compact_revision,
            streams: Slab::new(),
            stream_numbers: BTreeMap::new(),
            watchers: Slab::new(),
            groups: Groups::default(),
            recent: Recent::after(now.revision),
            places: 0,
            ready: BTreeMap::new(),
            behind: BTreeSet::new(),
            jobs: BTreeMap::new(),
            jobs_made: 0,
            loading: 0,
            due: BTreeSet::new(),
            ticks: BTreeSet::new(),
            outputs: Vec::new(),
            met: Vec::new(),
        }
    }

    /// Everything up to this revision was published here.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What there is to do since the last call, in order.
    pub fn work(&mut self) -> Drain<'_, Output> {
        self.outputs.drain(..)
    }

    /// How much there is of everything.
    pub fn counts(&self) -> Counts {
        Counts {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            slow: self.behind.len() + self.loading,
            queued: self.streams.iter().map(|(_, stream)| stream.responses()).sum(),
        }
    }

    /// Opens a stream. Requests for a stream that is not open are ignored.
    pub fn open(&mut self, stream: StreamId, now_ms: u64) {
        let opened = Stream::new(stream, now_ms, &self.limits);
        let tick_at = opened.tick_at_ms;
        let number = self.streams.insert(opened);
        self.ticks.insert((tick_at, number));
        let known = self.stream_numbers.insert(stream, number);
        assert!(known.is_none(), "a stream id is used once");
    }

    /// Closes a stream and forgets its watchers.
    pub fn close(&mut self, stream: StreamId) {
        let Some(number) = self.stream_numbers.remove(&stream) else { return };
        let ids: Vec<i64> = self.streams[number].watchers.keys().copied().collect();
        for id in ids {
            self.remove(number, id);
        }
        let closed = self.streams.remove(number);
        assert!(closed.parked.is_empty(), "a stream without watchers has none parked");
        self.ticks.remove(&(closed.tick_at_ms, number));
        if let Some(revision) = closed.progress_due {
            self.due.remove(&(revision, number));
        }
        self.run_jobs();
    }

    /// Creates a watcher, or refuses to.
    pub fn create(&mut self, stream: StreamId, request: &pb::WatchCreateRequest, now: Now) {
        let Some(&number) = self.stream_numbers.get(&stream) else { return };
        self.compact_revision = self.compact_revision.max(now.compact_revision);
        let span = requested_span(request);
        let start = request.start_revision;
        let stream = &mut self.streams[number];
        if start < 0 {
            return self.refuse_at(number, Refusal::NegativeStart, now);
        }
        if span.is_empty() {
            return self.refuse_at(number, Refusal::EmptyRange, now);
        }
        if request.watch_id != 0 && stream.watchers.contains_key(&request.watch_id) {
            return self.refuse_at(number, Refusal::DuplicateId, now);
        }
        let id = match request.watch_id {
            0 => stream.automatic_id(),
            requested => requested,
        };
        let watcher = Watcher {
            stream: number,
            id,
            span,
            wants: Wants::of(request),
            next: if start == 0 { now.revision + 1 } else { start },
            progress_from: if start == 0 { now.revision } else { start },
            state: State::Live,
            quiet: true,
        };
        let key = self.watchers.insert(watcher);
        self.streams[number].watchers.insert(id, key);
        self.groups.insert(&self.watchers[key].span, member(key));
        self.send(number, Delivery::bare(id, now.revision, Body::Created));
        if start > 0 && start < self.compact_revision {
            mark(Mark::WatchBelowCompaction);
            return self.cancel_compacted(key);
        }
        self.settle(&[key]);
        self.run_jobs();
    }

    /// Answers a create request the edge's authorization refused.
    pub fn refuse(&mut self, stream: StreamId, reason: String, now: Now) {
        let Some(&number) = self.stream_numbers.get(&stream) else { return };
        self.refuse_at(number, Refusal::Denied(reason), now);
    }

    fn refuse_at(&mut self, number: usize, refusal: Refusal, now: Now) {
        self.send(number, Delivery::bare(NO_WATCH, now.revision, Body::Refused(refusal)));
    }

    /// Cancels a watcher; silence if there is none of that id.
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64) {
        let Some(&number) = self.stream_numbers.get(&stream) else { return };
        if self.streams[number].watchers.contains_key(&watch_id) {
            self.remove(number, watch_id);
            self.send(number, Delivery::bare(watch_id, self.revision, Body::Canceled));
            self.run_jobs();
        }
    }

    /// Answers a manual progress request, now or when the hub has seen what the store has.
    ///
    /// `revision` is the published store's: a client that read it and asks how far its watchers
    /// are must be told of at least that.
    pub fn progress_request(&mut self, stream: StreamId, revision: i64) {
        let Some(&number) = self.stream_numbers.get(&stream) else { return };
        if revision <= self.revision {
            return self.answer_progress(number);
        }
        mark(Mark::WatchProgressLater);
        let due = &mut self.streams[number].progress_due;
        // One answer serves all who ask meanwhile, at the newest revision asked for.
        if let Some(earlier) = due.replace(revision) {
            self.due.remove(&(earlier, number));
        }
        self.due.insert((revision, number));
    }

    /// Hands the changes of the next revision to everybody they concern.
    ///
    /// `lookup` finds the row a change replaced; it is called at most once per event, and only if
    /// somebody wants it. A command that changed nothing made no revision and is ignored.
    pub fn publish(&mut self, changes: Changes, lookup: &mut Lookup<'_>) -> Result<(), Fault> {
        if changes.events.is_empty() {
            return Ok(());
        }
        assert!(changes.revision > self.revision, "revisions ascend");
        self.revision = changes.revision;
        let mut batch = Batch::new(changes);
        let mut met = std::mem::take(&mut self.met);
        for (index, change) in (0u32..).zip(batch.changes()) {
            self.groups.matching(&change.key, &mut |member| {
                if self.watchers[member as usize].accepts(batch.revision, change.kind) {
                    met.push((member, index));
                }
            });
        }
        if batch.len() > 1 {
            met.sort_unstable();
        }
        let mut indices = Vec::with_capacity(batch.len());
        for of_one in met.chunk_by(|a, b| a.0 == b.0) {
            indices.clear();
            indices.extend(of_one.iter().map(|(_, index)| *index));
            self.offer(of_one[0].0 as usize, &mut batch, &indices, lookup)?;
        }
        met.clear();
        self.met = met;
        self.recent.push(batch, &self.limits);
        self.answer_due_progress();
        Ok(())
    }

    /// Offers events of a revision just published to a watcher that accepts them.
    fn offer(
        &mut self,
        key: usize,
        batch: &mut Batch,
        indices: &[u32],
        lookup: &mut Lookup<'_>,
    ) -> Result<(), Fault> {
        let watcher = &self.watchers[key];
        if watcher.wants.previous {
            // Also for one that is behind: it may be fed from what is recent.
            for index in indices {
                batch.ask(*index as usize, lookup)?;
            }
        }
        if watcher.state != State::Live {
            return Ok(());
        }
        if !self.streams[watcher.stream].has_room(&self.limits) {
            mark(Mark::WatchParked);
            self.watchers[key].next = batch.revision;
            self.park(key);
            return Ok(());
        }
        let selection = batch
            .select(indices, watcher.wants.previous)
            .expect("previous rows were looked up just now");
        self.send_events(key, selection, batch.revision);
        self.watchers[key].next = batch.revision + 1;
        Ok(())
    }

    /// Learns that history before `revision` is gone.
    pub fn compacted(&mut self, revision: i64) {
        self.compact_revision = self.compact_revision.max(revision);
        let gone: Vec<usize> = self
            .behind
            .range(..(self.compact_revision, 0))
            .filter(|(next, _)| !self.recent.covers(*next))
            .map(|(_, key)| *key)
            .collect();
        for key in gone {
            mark(Mark::WatchBehindCompaction);
            self.cancel_compacted(key);
        }
        self.run_jobs();
    }

    /// Learns what a stream's edge has taken from its queue, and fills up the room.
    pub fn room(&mut self, stream: StreamId, taken: Taken) {
        let Some(&number) = self.stream_numbers.get(&stream) else { return };
        self.streams[number].took(taken);
        // One that turns out to want nothing takes no room, so go on until there is none, or
        // nobody: no later report may come.
        while self.streams[number].has_room(&self.limits) {
            let parked = self.streams[number].parked.values();
            let parked: Vec<usize> = parked.take(self.limits.stream_responses).copied().collect();
            if parked.is_empty() {
                break;
            }
            for key in &parked {
                self.unqueue(*key);
            }
            self.settle(&parked);
        }
        self.run_jobs();
    }

    /// Sends the periodic progress that is due.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some(&(at, number)) = self.ticks.first().filter(|(at, _)| *at <= now_ms) {
            self.ticks.remove(&(at, number));
            let stream = &mut self.streams[number];
            stream.tick_at_ms = now_ms.saturating_add(stream.tick_every_ms);
            self.ticks.insert((stream.tick_at_ms, number));
            let keys: Vec<usize> = stream.watchers.values().copied().collect();
            for key in keys {
                self.tick_watcher(key);
            }
        }
    }

    /// When [`Hub::tick`] next has something to do.
    pub fn next_tick_ms(&self) -> Option<u64> {
        self.ticks.first().map(|(at, _)| *at)
    }

    fn tick_watcher(&mut self, key: usize) {
        let watcher = &mut self.watchers[key];
        if !watcher.wants.progress {
            return;
        }
        let quiet = std::mem::replace(&mut watcher.quiet, true);
        let (number, id) = (watcher.stream, watcher.id);
        let room = self.streams[number].has_room(&self.limits);
        if quiet && room && self.has_progress(key) {
            self.send(number, Delivery::bare(id, self.revision, Body::Progress));
        }
    }

    /// Starts over on a store now in the state `now`, whose changes since the hub's revision were
    /// not published here: a snapshot took its place, or there was no stream to tell of them.
    pub fn restored(&mut self, now: Now) {
        assert!(now.revision >= self.revision, "a store does not go back");
        // Jobs under way come back in vain: none of their watchers is loading any more.
        self.ready.clear();
        self.behind.clear();
        self.loading = 0;
        for (_, stream) in &mut self.streams {
            stream.parked.clear();
        }
        let mut keys = Vec::with_capacity(self.watchers.len());
        for (key, watcher) in &mut self.watchers {
            if watcher.state == State::Live {
                watcher.next = watcher.next.max(self.revision + 1);
            }
            watcher.state = State::Live;
            keys.push(key);
        }
        self.revision = now.revision;
        self.compact_revision = self.compact_revision.max(now.compact_revision);
        self.recent = Recent::after(now.revision);
        self.settle(&keys);
        self.run_jobs();
        self.answer_due_progress();
    }

    /// Whether a progress response for this watcher would be true and wanted.
    fn has_progress(&self, key: usize) -> bool {
        let watcher = &self.watchers[key];
        watcher.state == State::Live && watcher.progress_from <= self.revision
    }

    fn answer_progress(&mut self, number: usize) {
        let stream = &self.streams[number];
        let watchers = &stream.watchers;
        let synced = !watchers.is_empty() && watchers.values().all(|key| self.has_progress(*key));
        if synced && stream.has_room(&self.limits) {
            self.send(number, Delivery::bare(NO_WATCH, self.revision, Body::Progress));
        }
    }

    fn answer_due_progress(&mut self) {
        while let Some(&(at, number)) = self.due.first().filter(|(at, _)| *at <= self.revision) {
            self.due.remove(&(at, number));
            self.streams[number].progress_due = None;
            self.answer_progress(number);
        }
    }

    /// Queues events for a watcher, in fragments if it wants them and they are large.
    pub(super) fn send_events(&mut self, key: usize, selection: Selection, revision: i64) {
        let watcher = &mut self.watchers[key];
        watcher.quiet = false;
        let (number, id) = (watcher.stream, watcher.id);
        let Selection { events, bytes } = selection;
        if !watcher.wants.fragment {
            return self.send(number, Delivery::events(id, revision, bytes, events, false));
        }
        let mut pieces = fragment::split(id, events, self.limits.fragment_bytes).into_iter();
        let mut piece = pieces.next();
        while let Some(events) = piece {
            piece = pieces.next();
            let bytes = events.iter().map(event_cost).sum();
            self.send(number, Delivery::events(id, revision, bytes, events, piece.is_some()));
        }
    }

    fn send(&mut self, number: usize, delivery: Delivery) {
        let stream = &mut self.streams[number];
        stream.queued(delivery.bytes);
        self.outputs.push(Output::Send { stream: stream.id, delivery });
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Cancels a watcher whose history is gone.
    pub(super) fn cancel_compacted(&mut self, key: usize) {
        let (number, id) = (self.watchers[key].stream, self.watchers[key].id);
        self.remove(number, id);
        let compact_revision = self.compact_revision;
        self.send(number, Delivery::bare(id, 0, Body::Compacted { compact_revision }));
    }

    /// Forgets a watcher.
    fn remove(&mut self, number: usize, id: i64) {
        let key = self.streams[number].watchers.remove(&id).expect("the caller knows it exists");
        self.unqueue(key);
        let watcher = self.watchers.remove(key);
        self.groups.remove(&watcher.span, member(key));
    }
}

/// A watcher's number as the groups keep it.
fn member(key: usize) -> u32 {
    u32::try_from(key).expect("watchers are fewer than 2^32")
}
