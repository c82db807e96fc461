//! A member in miniature around a hub: store, apply queue, streams with readers, history readers.
//!
//! Everything the driver and the edges do is here in its simplest form, and may happen in any
//! order and as late as it likes: publishes lag behind the store, jobs are read and returned out of
//! turn, readers dawdle. [`exercise`] lets bytes decide what happens next, then lets everything
//! come to rest and checks that every client got all it was owed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use prost::Message;

use crate::pb;

use super::catchup::{Job, Page};
use super::change::Changes;
use super::delivery::{Body, Delivery, NO_WATCH, Output, Receipts, StreamId};
use super::hub::{Hub, Now};
use super::limits::Limits;
use super::model::{Client, Store};

/// What the apply thread tells the hub, in order.
#[derive(Debug)]
enum Told {
    Changes(Changes),
    Compacted(i64),
    Restored(Now),
}

/// One stream's queue and reader.
#[derive(Debug)]
pub struct Reader {
    pub queue: VecDeque<Delivery>,
    receipts: Receipts,
    pub clients: BTreeMap<i64, Client>,
    /// Create requests whose response has not been read yet.
    creating: VecDeque<pb::WatchCreateRequest>,
    /// Progress requests not answered yet, and the revision of the store at the last one.
    asked: usize,
    asked_at: i64,
}

/// The member.
#[derive(Debug)]
pub struct World {
    pub hub: Hub,
    pub store: Store,
    pub limits: Limits,
    pub readers: BTreeMap<StreamId, Reader>,
    told: VecDeque<Told>,
    pub jobs: Vec<Job>,
    pages: Vec<Page>,
    /// What the hub handed out, in words, if somebody listens.
    pub journal: Option<Vec<String>>,
    streams: u64,
    now_ms: u64,
}

impl World {
    /// A fresh member.
    pub fn new(limits: Limits) -> Self {
        let store = Store::default();
        Self {
            hub: Hub::new(store.now(), limits.clone()),
            store,
            limits,
            readers: BTreeMap::new(),
            told: VecDeque::new(),
            jobs: Vec::new(),
            pages: Vec::new(),
            journal: None,
            streams: 0,
            now_ms: 0,
        }
    }

    /// Opens a stream.
    pub fn open(&mut self) -> StreamId {
        self.streams += 1;
        let stream = StreamId(self.streams);
        let reader = Reader {
            queue: VecDeque::new(),
            receipts: Receipts::new(&self.limits),
            clients: BTreeMap::new(),
            creating: VecDeque::new(),
            asked: 0,
            asked_at: 0,
        };
        self.readers.insert(stream, reader);
        self.hub.open(stream, self.now_ms);
        stream
    }

    /// Closes a stream.
    pub fn close(&mut self, stream: StreamId) {
        self.readers.remove(&stream);
        self.hub.close(stream);
        self.collect();
    }

    /// Creates a watcher.
    pub fn create(&mut self, stream: StreamId, request: pb::WatchCreateRequest) {
        self.hub.create(stream, &request, self.store.now());
        self.reader(stream).creating.push_back(request);
        self.collect();
    }

    /// Refuses to create a watcher, as an edge does whose authorization says no.
    pub fn refuse(&mut self, stream: StreamId, reason: &str) {
        self.hub.refuse(stream, reason.to_owned(), self.store.now());
        self.reader(stream).creating.push_back(pb::WatchCreateRequest::default());
        self.collect();
    }

    /// Cancels a watcher.
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64) {
        self.hub.cancel(stream, watch_id);
        self.collect();
    }

    /// Asks a stream for progress.
    pub fn ask_progress(&mut self, stream: StreamId) {
        let revision = self.store.revision;
        let reader = self.reader(stream);
        reader.asked += 1;
        reader.asked_at = revision;
        self.hub.progress_request(stream, revision);
        self.collect();
    }

    /// Applies a write. The hub hears of it with a later [`World::tell`].
    pub fn write(&mut self, operations: &[(Bytes, Option<Bytes>)]) {
        if let Some(changes) = self.store.write(operations) {
            self.told.push_back(Told::Changes(changes));
        }
    }

    /// Compacts the store. The hub hears of it in its turn.
    pub fn compact(&mut self, revision: i64) {
        if revision > self.store.compact_revision && revision <= self.store.revision {
            self.store.compact_revision = revision;
            self.told.push_back(Told::Compacted(revision));
        }
    }

    /// Replaces the store by a snapshot that has `writes` more than was applied.
    pub fn restore(&mut self, writes: &[(Bytes, Option<Bytes>)]) {
        for write in writes {
            // Applied elsewhere: nobody tells this hub.
            self.store.write(std::slice::from_ref(write));
        }
        self.told.push_back(Told::Restored(self.store.now()));
    }

    /// Lets the hub hear the next thing applied; whether there was one.
    pub fn tell(&mut self) -> bool {
        let Some(told) = self.told.pop_front() else { return false };
        match told {
            Told::Changes(changes) => {
                let store = &self.store;
                let mut asked = Vec::new();
                let mut lookup = |change: &super::Change| {
                    assert!(!asked.contains(&change.key), "looked up once");
                    asked.push(change.key.clone());
                    Ok(store.previous(change))
                };
                self.hub.publish(changes, &mut lookup).expect("this lookup does not fail");
            }
            Told::Compacted(revision) => self.hub.compacted(revision),
            Told::Restored(now) => self.hub.restored(now),
        }
        self.collect();
        true
    }

    /// Reads history for a job; its page is returned later.
    pub fn read_history(&mut self, index: usize) -> bool {
        if self.jobs.is_empty() {
            return false;
        }
        let job = self.jobs.remove(index % self.jobs.len());
        self.pages.push(self.store.page(&job));
        true
    }

    /// Returns a page to the hub.
    pub fn return_page(&mut self, index: usize) -> bool {
        if self.pages.is_empty() {
            return false;
        }
        let page = self.pages.remove(index % self.pages.len());
        self.hub.caught_up(page);
        self.collect();
        true
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.hub.tick(self.now_ms);
        self.collect();
    }

    /// Lets a stream's reader read one response; what it read.
    pub fn read(&mut self, stream: StreamId) -> Option<Delivery> {
        let store = &self.store;
        let reader = self.readers.get_mut(&stream).expect("the stream is open");
        let delivery = reader.queue.pop_front()?;
        reader.check(&delivery, store);
        if let Some(taken) = reader.receipts.take(&delivery) {
            self.hub.room(stream, taken);
            self.collect();
        }
        Some(delivery)
    }

    /// Lets everything in motion arrive, then checks that nothing is missing anywhere.
    pub fn rest(&mut self) {
        let streams: Vec<StreamId> = self.readers.keys().copied().collect();
        for round in 0.. {
            assert!(round < 10_000, "everything comes to rest");
            let mut moved = self.tell() || self.read_history(0) || self.return_page(0);
            for stream in &streams {
                moved |= self.read(*stream).is_some();
            }
            if !moved {
                break;
            }
        }
        assert_eq!(self.hub.counts().slow, 0, "everybody catches up");
        for stream in streams {
            self.check_rest(stream);
        }
    }

    fn check_rest(&mut self, stream: StreamId) {
        let store = &self.store;
        let reader = self.readers.get_mut(&stream).expect("the stream is open");
        let live = || reader.clients.iter().filter(|(_, client)| !client.ended);
        let expected = live().count() > 0 && live().all(|(_, client)| client.has_started(store));
        for (id, client) in reader.clients.iter_mut().filter(|(_, client)| !client.ended) {
            assert!(client.is_complete(store), "reliable: watcher {id} misses events");
        }
        assert!(reader.creating.is_empty(), "every create request is answered");
        reader.asked = 0;
        self.ask_progress(stream);
        let answer = self.read(stream);
        assert_eq!(answer.is_some(), expected, "progress when all are synced and started");
    }

    /// Puts the hub's deliveries into the queues they are for.
    fn collect(&mut self) {
        for output in self.hub.work() {
            if let Some(journal) = &mut self.journal {
                journal.push(describe(&output));
            }
            match output {
                Output::CatchUp(job) => self.jobs.push(job),
                Output::Send { stream, delivery } => {
                    let reader = self.readers.get_mut(&stream).expect("only to open streams");
                    if matches!(delivery.body, Body::Events { .. }) && !reader.in_fragments() {
                        let queued: usize = reader.queue.iter().map(|queued| queued.bytes).sum();
                        assert!(reader.queue.len() < self.limits.stream_responses, "bounded");
                        assert!(queued < self.limits.stream_bytes, "bounded");
                    }
                    if matches!(delivery.body, Body::Progress) && delivery.watch_id == NO_WATCH {
                        assert!(delivery.revision >= reader.asked_at, "no older than asked for");
                    }
                    reader.queue.push_back(delivery);
                }
            }
        }
        assert!(self.hub.counts().watchers <= 1 << 16, "the test does not grow without bound");
    }

    fn reader(&mut self, stream: StreamId) -> &mut Reader {
        self.readers.get_mut(&stream).expect("the stream is open")
    }
}

impl Reader {
    /// Whether the last response queued has fragments to follow.
    fn in_fragments(&self) -> bool {
        matches!(
            self.queue.back(),
            Some(Delivery { body: Body::Events { fragment: true, .. }, .. })
        )
    }

    fn check(&mut self, delivery: &Delivery, store: &Store) {
        match &delivery.body {
            Body::Created => {
                let request = self.creating.pop_front().expect("created was asked for");
                let client = Client::new(&request, delivery.revision);
                let old = self.clients.insert(delivery.watch_id, client);
                assert!(old.is_none_or(|old| old.ended), "ids are not shared");
            }
            Body::Refused(_) => {
                assert_eq!(delivery.watch_id, NO_WATCH);
                self.creating.pop_front().expect("created was asked for");
            }
            Body::Progress if delivery.watch_id == NO_WATCH => {
                self.asked = self.asked.checked_sub(1).expect("progress was asked for");
                for client in self.clients.values_mut().filter(|client| !client.ended) {
                    client.progress(delivery.revision);
                }
            }
            Body::Progress | Body::Canceled | Body::Compacted { .. } | Body::Events { .. } => {
                let client = self.clients.get_mut(&delivery.watch_id);
                client.expect("created comes first").receive(delivery, store);
            }
        }
    }
}

/// An output in words.
fn describe(output: &Output) -> String {
    let (stream, delivery) = match output {
        Output::CatchUp(job) => {
            let Job { from, to, .. } = job;
            return format!("job {from}..{to} for {} watchers", job.watchers());
        }
        Output::Send { stream, delivery } => (stream.0, delivery),
    };
    let response = delivery.response(pb::ResponseHeader::default());
    let revision = response.header.expect("it was just put on").revision;
    let mut line = format!("s{stream}/w{} @{revision}", response.watch_id);
    if response.created {
        line += " created";
    }
    if response.canceled {
        line += " canceled";
    }
    if response.compact_revision != 0 {
        line += &format!(" compact_revision={}", response.compact_revision);
    }
    if !response.cancel_reason.is_empty() {
        line += &format!(" \"{}\"", response.cancel_reason);
    }
    if matches!(delivery.body, Body::Progress) {
        line += " progress";
    }
    for event in &response.events {
        line += &describe_event(event);
    }
    if response.fragment {
        line += " …";
    }
    line
}

fn describe_event(event: &[u8]) -> String {
    let row = |row: Bytes| pb::KeyValue::decode(row).expect("this store encoded it");
    let event = pb::Event::decode(event).expect("the hub encoded it");
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let kv = row(event.kv.clone().expect("every event has its row"));
    let mut words = match event.r#type() {
        pb::EventType::Put => format!(" put {}={}", text(&kv.key), text(&kv.value)),
        pb::EventType::Delete => format!(" delete {}", text(&kv.key)),
    };
    words += &format!("#{}", kv.mod_revision);
    if let Some(previous) = event.prev_kv.map(row) {
        words += &format!(" (was {}#{})", text(&previous.value), previous.mod_revision);
    }
    words
}

/// Limits so small that every bound is met within a few steps.
pub fn tiny_limits() -> Limits {
    Limits {
        stream_responses: 4,
        stream_bytes: 2000,
        page_revisions: 3,
        page_bytes: 600,
        scan_rows: 8,
        recent_revisions: 4,
        recent_bytes: 4000,
        jobs: 2,
        job_watchers: 3,
        fragment_bytes: 250,
        progress_interval_ms: 100,
    }
}

/// The fuzz body: lets `bytes` decide what happens, four to a step, and panics on a broken promise.
pub fn exercise(bytes: &[u8]) {
    let mut world = World::new(tiny_limits());
    world.open();
    for step in bytes.chunks_exact(4) {
        step_world(&mut world, step[0], step[1], step[2], step[3]);
    }
    world.rest();
}

fn step_world(world: &mut World, what: u8, a: u8, b: u8, c: u8) {
    let open: Vec<StreamId> = world.readers.keys().copied().collect();
    let stream = open.get(usize::from(a) % open.len().max(1)).copied();
    match (what % 16, stream) {
        (0..=2, _) => world.write(&operations(a, b, c)),
        (3..=5, _) => {
            world.tell();
        }
        (6, _) => {
            world.read_history(a.into());
        }
        (7, _) => {
            world.return_page(a.into());
        }
        (8 | 9, Some(stream)) => {
            for _ in 0..=b % 8 {
                world.read(stream);
            }
        }
        (10 | 11, Some(stream)) => world.create(stream, request(&world.store, b, c)),
        (12, Some(stream)) if b < 128 => world.cancel(stream, (b % 8).into()),
        (12, Some(stream)) => world.ask_progress(stream),
        (13, _) => world.pass(u64::from(a) / 4),
        (14, _) if a < 64 => world.compact(world.store.revision - i64::from(b % 8)),
        (14, _) if a < 80 => world.restore(&operations(b, c, a)),
        (14, Some(stream)) if a < 96 => world.close(stream),
        (15, _) if open.len() < 4 => {
            world.open();
        }
        // Half of everything left is a write heard at once, the usual case.
        _ => {
            world.write(&operations(a, b, c));
            world.tell();
        }
    }
}

/// One to four puts and deletes of different keys out of eight.
fn operations(a: u8, b: u8, c: u8) -> Vec<(Bytes, Option<Bytes>)> {
    let count = 1 + (a >> 6);
    let key = |index: u8| Bytes::from(vec![b'a' + (b.wrapping_add(index * 3) & 7)]);
    let value = |index: u8| {
        let is_put = c.rotate_right(index.into()) & 3 != 0;
        is_put.then(|| Bytes::from(vec![b'v'; usize::from(c >> 2) * 2]))
    };
    (0..count).map(|index| (key(index), value(index))).collect()
}

/// A create request: any span of the eight keys, any flags, a start around the present.
fn request(store: &Store, b: u8, c: u8) -> pb::WatchCreateRequest {
    let key = vec![b'a' + (b & 7)];
    let range_end = match b >> 6 {
        0 => vec![],
        1 => vec![0],
        2 => vec![b'a' + (b >> 3 & 7)],
        _ => vec![key[0] + 1 + (b >> 4 & 3)],
    };
    let mut filters = Vec::new();
    if c & 7 == 7 {
        filters.push(pb::watch_create_request::FilterType::Noput.into());
    }
    if c & 0x38 == 0x38 {
        filters.push(pb::watch_create_request::FilterType::Nodelete.into());
    }
    let start_revision = match c >> 4 {
        0..=3 => 0,
        4 => -1,
        5 => store.revision + i64::from(c & 3),
        back => (store.revision - i64::from(back) + 5).max(0),
    };
    pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision,
        progress_notify: b & 8 != 0,
        filters,
        prev_kv: c & 1 != 0,
        watch_id: if b & 0x30 == 0x30 { i64::from(c & 7) } else { 0 },
        fragment: c & 2 != 0,
    }
}
