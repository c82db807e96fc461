//! Watches as a correct server feeds them: late, in pieces, from history, until it is gone.

use rand::prelude::*;
use rand::rngs::SmallRng;

use crate::checker::history::{Compaction, Event, Heard, Kind, Row, Watch, within};

/// The process that feeds all of them.
const SERVER: u64 = 1;
/// How many are open at a time, beside those that stay to the end.
const OPEN_MAX: usize = 6;

/// A watch, and how much of the log was sent or is not for it.
struct Watcher {
    watch: Watch,
    sent: usize,
    stays: bool,
    is_over: bool,
}

/// All watches of a server.
#[derive(Default)]
pub struct Watching {
    all: Vec<Watcher>,
    /// Places of those that are open.
    open: Vec<usize>,
    pub compactions: Vec<Compaction>,
}

/// The server at a moment.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub now: u64,
    pub revision: i64,
    pub log: &'a [Event],
}

impl Watching {
    /// Watches that begin with the history and end with it.
    pub fn steady() -> Self {
        let mut watching = Self::default();
        let spans = [("", Some("\0")), ("k2", None), ("k3", Some("k7"))];
        for (key, end) in spans {
            let (key, end) = (key.to_owned(), end.map(str::to_owned));
            let prev_kv = watching.all.len() == 1;
            watching.add(Watch { key, end, start: 1, prev_kv, ..Watch::default() }, 0, true);
        }
        watching
    }

    fn add(&mut self, mut watch: Watch, sent: usize, stays: bool) -> usize {
        watch.id = self.all.len() as u64 + 1;
        self.open.push(self.all.len());
        self.all.push(Watcher { watch, sent, stays, is_over: false });
        self.all.len() - 1
    }

    fn compacted(&self) -> i64 {
        self.compactions.last().map_or(0, |one| one.revision)
    }

    /// One thing happens to watches.
    pub fn step(&mut self, random: &mut SmallRng, moment: Moment<'_>) {
        self.open.retain(|place| !self.all[*place].is_over);
        match random.random_range(0..20) {
            0 => self.compact(random, moment),
            1..4 if self.open.len() < 3 + OPEN_MAX => self.begin(random, moment),
            4..6 => self.tell_all_of_progress(random, moment),
            _ => {
                let place = *self.open.choose(random).expect("some stay");
                let compacted = self.compacted();
                self.all[place].go_on(random, moment, compacted);
            }
        }
    }

    /// What watches that stay have not heard is kept.
    fn compact(&mut self, random: &mut SmallRng, moment: Moment<'_>) {
        let waits = self.all.iter().filter(|one| one.stays).map(|one| one.next(moment));
        let most = waits.min().unwrap_or(1).min(moment.revision);
        if most > self.compacted() {
            let revision = random.random_range(self.compacted() + 1..=most);
            let (call, end, server) = (moment.now, Some(moment.now), SERVER);
            self.compactions.push(Compaction { revision, call, end, server });
        }
    }

    fn begin(&mut self, random: &mut SmallRng, moment: Moment<'_>) {
        let Moment { now, revision, log } = moment;
        let (key, end) = [
            ("", Some("\0".to_owned())),
            ("k1", None),
            ("k0", Some("k5".to_owned())),
            ("k4", Some("\0".to_owned())),
        ][random.random_range(0..4)]
        .clone();
        let start = match random.random_range(0..4) {
            0 => 0,
            1 => revision + random.random_range(2..9),
            2 => (self.compacted() - 1).max(1),
            _ => random.random_range(self.compacted().max(1)..=revision),
        };
        let filter = random.random_range(0..5);
        let watch = Watch {
            key: key.to_owned(),
            end,
            start,
            no_put: filter == 0,
            no_delete: filter == 1,
            prev_kv: random.random_bool(0.6),
            fragments: random.random_bool(0.6),
            begun: now,
            server: SERVER,
            ..Watch::default()
        };
        let sent = match start {
            0 => log.len(),
            start => log.partition_point(|event| event.revision() < start),
        };
        let place = self.add(watch, sent, false);
        let compacted = self.compacted();
        let watcher = &mut self.all[place];
        watcher.hear(now, revision, Kind::Created, Vec::new(), Vec::new());
        if start > 0 && start < compacted {
            watcher.end(now, 0, Kind::Compacted(compacted));
        }
    }

    /// All watches are on one stream, as it were: they are told when all have heard everything.
    fn tell_all_of_progress(&mut self, random: &mut SmallRng, moment: Moment<'_>) {
        let compacted = self.compacted();
        for place in self.open.clone() {
            let watcher = &mut self.all[place];
            while watcher.sent < moment.log.len() && !watcher.is_over {
                watcher.send(random, moment, compacted);
            }
        }
        self.open.retain(|place| !self.all[*place].is_over);
        let may_hear = |place: &usize| self.all[*place].watch.start <= moment.revision;
        if self.open.iter().all(may_hear) {
            for place in self.open.clone() {
                let (now, revision) = (moment.now, moment.revision);
                self.all[place].hear(now, revision, Kind::Plain, Vec::new(), Vec::new());
            }
        }
    }

    /// Those that are open hear the rest.
    pub fn end(
        mut self,
        random: &mut SmallRng,
        moment: Moment<'_>,
    ) -> (Vec<Watch>, Vec<Compaction>) {
        let compacted = self.compacted();
        for watcher in self.all.iter_mut().filter(|watcher| !watcher.is_over) {
            while watcher.sent < moment.log.len() && !watcher.is_over {
                watcher.send(random, moment, compacted);
            }
            watcher.watch.until = (!watcher.is_over).then_some(moment.revision);
        }
        (self.all.into_iter().map(|watcher| watcher.watch).collect(), self.compactions)
    }
}

impl Watcher {
    /// The first revision it was not sent.
    fn next(&self, moment: Moment<'_>) -> i64 {
        let next = moment.log.get(self.sent).map_or(moment.revision + 1, Event::revision);
        next.max(self.watch.start)
    }

    fn go_on(&mut self, random: &mut SmallRng, moment: Moment<'_>, compacted: i64) {
        match random.random_range(0..40) {
            0 if !self.stays => self.end(moment.now, moment.revision, Kind::Canceled),
            // Its client went away.
            1 if !self.stays => self.is_over = true,
            _ => self.send(random, moment, compacted),
        }
    }

    /// It is sent a few revisions, or told that it has them.
    fn send(&mut self, random: &mut SmallRng, moment: Moment<'_>, compacted: i64) {
        let Moment { now, revision, log } = moment;
        if self.next(moment) < compacted {
            return self.end(now, 0, Kind::Compacted(compacted));
        }
        let mut until = (random.random_range(0..=6) + self.sent).min(log.len());
        while until > 0 && until < log.len() && log[until - 1].revision() == log[until].revision() {
            until += 1;
        }
        let watch = &self.watch;
        let wanted = |event: &&Event| {
            let kind = if matches!(event, Event::Put(_)) { watch.no_put } else { watch.no_delete };
            let mine = within(event.key(), &watch.key, watch.end.as_deref());
            mine && !kind && event.revision() >= watch.start
        };
        let events: Vec<Event> = log[self.sent..until].iter().filter(wanted).cloned().collect();
        let before = |event: &Event| row_before(log, event, compacted);
        let previous = if watch.prev_kv { events.iter().map(before).collect() } else { vec![] };
        self.sent = until;
        if events.is_empty() {
            let told = if until == 0 { 1 } else { log[until - 1].revision() };
            if told >= self.watch.start {
                self.hear(now, told, Kind::Plain, events, previous);
            }
            return;
        }
        self.hear_in_pieces(random, now, revision, events, previous);
    }

    fn hear_in_pieces(
        &mut self,
        random: &mut SmallRng,
        now: u64,
        revision: i64,
        mut events: Vec<Event>,
        mut previous: Vec<Option<Row>>,
    ) {
        while self.watch.fragments && events.len() > 1 && random.random_bool(0.7) {
            let at = random.random_range(1..events.len());
            let rest = events.split_off(at);
            let rest_previous = previous.split_off(at.min(previous.len()));
            self.hear(now, revision, Kind::Fragment, events, previous);
            (events, previous) = (rest, rest_previous);
        }
        self.hear(now, revision, Kind::Plain, events, previous);
    }

    fn hear(
        &mut self,
        at: u64,
        revision: i64,
        kind: Kind,
        events: Vec<Event>,
        previous: Vec<Option<Row>>,
    ) {
        let watch = self.watch.id;
        self.watch.heard.push(Heard { watch, at, revision, kind, events, previous });
    }

    fn end(&mut self, now: u64, revision: i64, kind: Kind) {
        self.hear(now, revision, kind, Vec::new(), Vec::new());
        self.is_over = true;
    }
}

/// The row of an event's key at the revision before it, if that can still be read.
pub fn row_before(log: &[Event], event: &Event, compacted: i64) -> Option<Row> {
    let revision = event.revision();
    let end = log.partition_point(|event| event.revision() < revision);
    let last = log[..end].iter().rev().find(|other| other.key() == event.key());
    match last {
        Some(Event::Put(row)) if revision > compacted => Some(row.clone()),
        _ => None,
    }
}
