//! The naive oracle: a store that keeps everything, and a client that believes nothing.
//!
//! [`Store`] is a list of all changes ever made. [`Client`] is one watcher's reader: it works out
//! from that list what it must be sent, event by event, and panics at the first response that
//! breaks one of etcd's watch guarantees. Scripts, property tests and the fuzz target share both.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::mvcc::Revision;
use crate::pb;
use crate::span::Span;

use super::catchup::{Job, Page, Visit};
use super::change::{Change, Changes, Kind};
use super::delivery::{Body, Delivery};
use super::hub::Now;
use super::watcher::{Wants, requested_span};

/// One change, with the row it replaced.
#[derive(Clone, Debug)]
pub struct Past {
    pub revision: i64,
    pub change: Change,
    pub previous: Option<Bytes>,
}

/// A store that forgets nothing and searches everything.
#[derive(Debug)]
pub struct Store {
    pub revision: i64,
    pub compact_revision: i64,
    pub history: Vec<Past>,
    rows: BTreeMap<Bytes, pb::KeyValue>,
}

impl Default for Store {
    fn default() -> Self {
        Self { revision: 1, compact_revision: -1, history: Vec::new(), rows: BTreeMap::new() }
    }
}

impl Store {
    /// What the store says of itself.
    pub fn now(&self) -> Now {
        Now { revision: self.revision, compact_revision: self.compact_revision }
    }

    /// Puts (`Some`) and deletes (`None`) under one revision; nothing if nothing changed.
    pub fn write(&mut self, operations: &[(Bytes, Option<Bytes>)]) -> Option<Changes> {
        let revision = self.revision + 1;
        let mut events = Vec::new();
        for (key, value) in operations {
            let old = self.rows.get(key).cloned();
            let Some(row) = self.next_row(key, value.as_ref(), old.as_ref(), revision) else {
                continue;
            };
            let sub = u32::try_from(events.len()).expect("few events");
            let change = Change {
                revision: Revision::new(revision, sub),
                key: key.clone(),
                row: row.encode_to_vec().into(),
                kind: if value.is_some() { Kind::Put } else { Kind::Delete },
                created: old.is_none(),
            };
            let previous = old.map(|old| old.encode_to_vec().into());
            self.history.push(Past { revision, change: change.clone(), previous });
            events.push(change);
        }
        if events.is_empty() {
            return None;
        }
        self.revision = revision;
        Some(Changes { revision, events })
    }

    fn next_row(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        old: Option<&pb::KeyValue>,
        revision: i64,
    ) -> Option<pb::KeyValue> {
        let Some(value) = value else {
            self.rows.remove(key)?;
            let (key, mod_revision) = (key.clone(), revision);
            return Some(pb::KeyValue { key, mod_revision, ..Default::default() });
        };
        let row = pb::KeyValue {
            key: key.clone(),
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(0, |old| old.version) + 1,
            value: value.clone(),
            lease: 0,
        };
        self.rows.insert(key.clone(), row.clone());
        Some(row)
    }

    /// The row a change replaced, unless the revision before it is compacted.
    pub fn previous(&self, change: &Change) -> Option<Bytes> {
        assert!(!change.created, "asked only for what can exist");
        let past = self.history.iter().rev().find(|past| past.change == *change);
        let past = past.expect("asked only for changes of this store");
        past.previous.clone().filter(|_| past.revision > self.compact_revision)
    }

    /// Does a catch-up job.
    pub fn page(&self, job: &Job) -> Page {
        let mut page = job.page();
        if job.from < self.compact_revision {
            return page.compacted(self.compact_revision);
        }
        for past in self.history.iter().filter(|past| past.revision >= job.from) {
            match page.visit(past.revision, &past.change.key, past.change.kind) {
                Visit::Skip => {}
                Visit::Stop => break,
                Visit::Take => page
                    .take(past.change.clone(), &mut |change| Ok(self.previous(change)))
                    .expect("this lookup does not fail"),
            }
        }
        page.finish(self.revision)
    }
}

/// An event a client must get, encoded with and without its previous row.
#[derive(Debug)]
struct Due {
    revision: i64,
    full: Bytes,
    bare: Bytes,
}

/// The reader of one watcher.
#[derive(Debug)]
pub struct Client {
    span: Span,
    wants: Wants,
    /// The first revision it is owed.
    start: i64,
    /// The least revision of a progress response.
    progress_from: i64,
    /// How much of the history `due` was made from.
    read: usize,
    due: Vec<Due>,
    /// How many of `due` have come.
    got: usize,
    /// Whether the last response was a fragment with more to follow.
    partial: bool,
    /// The newest revision any header or progress carried.
    newest: i64,
    /// The newest revision of a progress response.
    progressed: i64,
    pub ended: bool,
}

impl Client {
    /// The reader of a watcher created by `request` with `revision` in the response's header.
    pub fn new(request: &pb::WatchCreateRequest, revision: i64) -> Self {
        let asked = request.start_revision;
        Self {
            span: requested_span(request),
            wants: Wants::of(request),
            start: if asked == 0 { revision + 1 } else { asked },
            progress_from: asked,
            read: 0,
            due: Vec::new(),
            got: 0,
            partial: false,
            newest: 0,
            progressed: 0,
            ended: false,
        }
    }

    /// Checks a response against everything that was promised. `Created` is not for here.
    pub fn receive(&mut self, delivery: &Delivery, store: &Store) {
        assert!(!self.ended, "silence after the end");
        self.extend(store);
        match &delivery.body {
            Body::Created | Body::Refused(_) => panic!("created is the first response, and once"),
            Body::Canceled => self.ended = true,
            Body::Compacted { compact_revision } => self.compacted(*compact_revision, delivery),
            Body::Progress => {
                assert!(self.wants.progress, "progress only for who wants it");
                self.progress(delivery.revision);
            }
            Body::Events { events, fragment } => self.events(events, *fragment, delivery, store),
        }
    }

    /// Checks a progress response, its own or its stream's.
    pub fn progress(&mut self, revision: i64) {
        assert!(!self.partial, "fragments of a response come in a row");
        assert!(revision >= self.progress_from, "no progress before the start (#20221)");
        assert!(revision >= self.newest, "bookmarkable: progress never goes back");
        let missing = self.due.get(self.got).filter(|due| due.revision <= revision);
        assert!(missing.is_none(), "bookmarkable: {missing:?} is missing at {revision}");
        self.newest = revision;
        self.progressed = revision;
    }

    /// Whether everything owed has come.
    pub fn is_complete(&mut self, store: &Store) -> bool {
        self.extend(store);
        self.got == self.due.len() && !self.partial
    }

    /// Whether the store has reached the start.
    pub fn has_started(&self, store: &Store) -> bool {
        store.revision >= self.progress_from
    }

    fn events(&mut self, events: &[Bytes], fragment: bool, delivery: &Delivery, store: &Store) {
        assert!(!fragment || self.wants.fragment, "fragments only for who wants them");
        let mut last = 0;
        for event in events {
            let due = self.due.get(self.got).expect("unique, filtered: only what is owed");
            let full = self.wants.previous && *event == due.full;
            // Without its previous row only when compaction took that.
            let lost = due.revision <= store.compact_revision;
            let bare = (!self.wants.previous || lost) && *event == due.bare;
            assert!(full || bare, "ordered, reliable, resumable: {event:?} but owed {due:?}");
            self.got += 1;
            last = due.revision;
        }
        let next = self.due.get(self.got).map(|due| due.revision);
        assert!(fragment || next != Some(last), "atomic: revision {last} split");
        assert!(delivery.revision >= last, "the header is not behind its events");
        assert!(delivery.revision >= self.newest, "headers do not go back");
        assert!(delivery.revision <= store.revision, "the header is not ahead of the store");
        self.newest = delivery.revision;
        self.partial = fragment;
    }

    fn compacted(&mut self, compact_revision: i64, delivery: &Delivery) {
        assert_eq!(delivery.revision, 0, "a cancel by compaction has no header revision");
        assert!(self.start < compact_revision, "canceled with its start intact");
        let last = if self.got == 0 { 0 } else { self.due[self.got - 1].revision };
        assert!(last + 1 < compact_revision, "canceled with its events intact");
        assert!(
            self.progressed + 1 < compact_revision,
            "canceled although progress said all is in"
        );
        self.ended = true;
    }

    /// Works out what more is owed.
    fn extend(&mut self, store: &Store) {
        for past in &store.history[self.read..] {
            let change = &past.change;
            let wanted = past.revision >= self.start
                && self.span.contains(&change.key)
                && self.wants.accepts(change.kind);
            if !wanted {
                continue;
            }
            let kind = match change.kind {
                Kind::Put => pb::EventType::Put,
                Kind::Delete => pb::EventType::Delete,
            };
            let event = |prev_kv| {
                let row = Some(change.row.clone());
                pb::Event { r#type: kind.into(), kv: row, prev_kv }.encode_to_vec().into()
            };
            let (bare, full) = (event(None), event(past.previous.clone()));
            self.due.push(Due { revision: past.revision, full, bare });
        }
        self.read = store.history.len();
    }
}
