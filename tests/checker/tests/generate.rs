//! Histories as a correct cluster makes them, from a seed: clients whose calls overlap, answers
//! that are lost, followers that lag, watches that deliver in pieces.

use rand::prelude::*;
use rand::rngs::SmallRng;

use super::leasing;
use super::watching::{Moment, Watching};
use crate::checker::history::{
    Answer, Compare, Event, History, Op, Outcome, Range, Reply, Request, Span, Target, Txn,
};
use crate::checker::replay::Store;

const CLIENTS: usize = 8;
const KEYS: usize = 10;
const FOLLOWERS: usize = 2;

/// A client's call on its way.
struct Pending {
    op: Op,
    answer: Option<Answer>,
}

pub struct World {
    /// Whether requests and answers are lost.
    loses: bool,
    random: SmallRng,
    now: u64,
    revision: i64,
    store: Store,
    /// The same store some revisions ago.
    followers: Vec<(i64, Store)>,
    clients: Vec<Option<Pending>>,
    values: u64,
    history: History,
    watching: Watching,
}

/// A valid history of some operations.
pub fn history(seed: u64, operations: usize) -> History {
    world(seed, operations, true)
}

/// The same, in which every client hears what became of its request.
pub fn answered_history(seed: u64, operations: usize) -> History {
    world(seed, operations, false)
}

fn world(seed: u64, operations: usize, loses: bool) -> History {
    let mut world = World {
        loses,
        random: SmallRng::seed_from_u64(seed),
        now: 0,
        revision: 1,
        store: Store::default(),
        followers: vec![(1, Store::default()); FOLLOWERS],
        clients: (0..CLIENTS).map(|_| None).collect(),
        values: 0,
        history: History::default(),
        watching: Watching::steady(),
    };
    while world.history.ops.len() < operations {
        world.step();
    }
    world.end()
}

impl World {
    fn step(&mut self) {
        self.now += self.random.random_range(1..50);
        match self.random.random_range(0..12) {
            0 => self.watch(),
            1 => {
                let follower = self.random.random_range(0..FOLLOWERS);
                self.catch_up(follower);
            }
            _ => {
                let client = self.random.random_range(0..CLIENTS);
                match self.clients[client].take() {
                    None => self.call(client),
                    Some(pending) => self.go_on(client, pending),
                }
            }
        }
    }

    fn call(&mut self, client: usize) {
        let request = self.request();
        let (client_id, call) = (client as u64, self.now);
        let outcome = Outcome::Unknown;
        let op = Op { client: client_id, call, end: None, request, outcome };
        self.clients[client] = Some(Pending { op, answer: None });
    }

    /// A call happens, or returns, or is lost before or after it happened, or is refused.
    fn go_on(&mut self, client: usize, mut pending: Pending) {
        let luck = if self.loses { self.random.random_range(0..100) } else { 99 };
        match pending.answer.take() {
            None if luck < 3 => pending.op.outcome = Outcome::Unknown,
            None if luck < 5 => pending.op.outcome = Outcome::Refused,
            None => {
                pending.answer = Some(self.execute(&pending.op.request));
                self.clients[client] = Some(pending);
                return;
            }
            Some(_) if luck < 5 => {}
            Some(answer) => pending.op.outcome = Outcome::Answered(answer),
        }
        pending.op.end = Some(self.now);
        self.history.ops.push(pending.op);
    }

    fn execute(&mut self, request: &Request) -> Answer {
        if request.may_lag() {
            let (revision, follower) =
                self.followers.choose(&mut self.random).expect("there are followers");
            let (_, reply) = follower.run(revision + 1, request);
            return Answer { revision: *revision, reply };
        }
        let (events, reply) = self.store.run(self.revision + 1, request);
        if !events.is_empty() {
            self.revision += 1;
            self.store.apply(self.revision, &events).expect("what it made itself");
            self.history.log.extend(events);
        }
        Answer { revision: self.revision, reply }
    }

    fn catch_up(&mut self, number: usize) {
        let (at, _) = self.followers[number];
        let until = self.random.random_range(at..=self.revision);
        for revision in at + 1..=until {
            let begin = self.history.log.partition_point(|event| event.revision() < revision);
            let events: Vec<Event> = self.history.log[begin..]
                .iter()
                .take_while(|event| event.revision() == revision)
                .cloned()
                .collect();
            let (_, store) = &mut self.followers[number];
            store.apply(revision, &events).expect("what the leader made");
        }
        self.followers[number].0 = until;
    }

    fn watch(&mut self) {
        let Self { now, revision, .. } = *self;
        let moment = Moment { now, revision, log: &self.history.log };
        self.watching.step(&mut self.random, moment);
    }

    /// Calls without an answer stay so; watches hear the rest.
    fn end(mut self) -> History {
        for client in 0..CLIENTS {
            if let Some(pending) = self.clients[client].take() {
                self.history.ops.push(pending.op);
            }
        }
        let Self { now, revision, .. } = self;
        let moment = Moment { now: now + 1, revision, log: &self.history.log };
        let (watches, compactions) = self.watching.end(&mut self.random, moment);
        (self.history.watches, self.history.compactions) = (watches, compactions);
        leasing::lease(&mut self.random, &mut self.history);
        self.history
    }

    fn key(&mut self) -> String {
        format!("k{}", self.random.random_range(0..KEYS))
    }

    fn put(&mut self) -> Request {
        self.values += 1;
        Request::Put { key: self.key(), value: format!("v{}", self.values) }
    }

    fn span(&mut self) -> Span {
        let key = self.key();
        match self.random.random_range(0..10) {
            0 => Span { end: Some("\0".to_owned()), key },
            1 => Span { end: Some(self.key()), key },
            _ => Span { end: None, key },
        }
    }

    fn range(&mut self) -> Request {
        let Span { key, end } = self.span();
        let limit = if self.random.random_bool(0.1) { 2 } else { 0 };
        Request::Range(Range { key, end, limit, serializable: self.random.random_bool(0.3) })
    }

    fn request(&mut self) -> Request {
        match self.random.random_range(0..10) {
            0..4 => self.put(),
            4 => Request::Delete(self.span()),
            5..7 => self.txn(),
            _ => self.range(),
        }
    }

    /// A guarded update or delete, like Kubernetes', or several changes at once.
    fn txn(&mut self) -> Request {
        let key = self.key();
        let (_, row) = self.store.run(
            0,
            &Request::Range(Range { key: key.clone(), end: None, limit: 0, serializable: false }),
        );
        let Reply::Range { rows, .. } = row else { unreachable!("a range was run") };
        let known = rows.first().map_or(0, |row| row.modified);
        let known = if self.random.random_bool(0.2) { known + 1 } else { known };
        let (is, target) = match self.random.random_range(0..6) {
            0 => (">", Target::Version(1)),
            1 => ("!=", Target::Value("v1".to_owned())),
            2 => ("<", Target::Create(known)),
            _ => ("=", Target::Mod(known)),
        };
        let compare = vec![Compare { key: key.clone(), is: is.to_owned(), target }];
        let get = |key| Range { key, end: None, limit: 0, serializable: false };
        let success = match self.random.random_range(0..3) {
            0 => vec![Request::Delete(Span { key: key.clone(), end: None })],
            1 => {
                self.values += 1;
                let put = Request::Put { key: key.clone(), value: format!("v{}", self.values) };
                vec![put, Request::Range(get(key.clone())), self.other_put(&key)]
            }
            _ => {
                self.values += 1;
                vec![Request::Put { key: key.clone(), value: format!("v{}", self.values) }]
            }
        };
        Request::Txn(Txn { compare, success, failure: vec![Request::Range(get(key))] })
    }

    fn other_put(&mut self, key: &str) -> Request {
        loop {
            match self.put() {
                Request::Put { key: other, .. } if other == key => {}
                put => return put,
            }
        }
    }
}
