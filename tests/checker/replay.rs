//! The store as it should be: the log, its states one after the other, and requests run on them.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::history::{Compare, Event, Op, Range, Reply, Request, Row, Target, Txn, within};

/// The revision of the first change of an empty store.
pub const FIRST: i64 = 2;

/// The events of each revision.
pub struct Log<'a> {
    events: &'a [Event],
    /// Where each revision begins, from the first on, and where the last one ends.
    begins: Vec<usize>,
}

impl<'a> Log<'a> {
    /// Finds the revisions; none may be missing.
    pub fn new(events: &'a [Event]) -> Result<Self, String> {
        let mut begins = Vec::new();
        for (place, event) in events.iter().enumerate() {
            let next = FIRST + begins.len() as i64;
            if event.revision() == next {
                begins.push(place);
            } else if event.revision() != next - 1 || begins.is_empty() {
                let revision = event.revision();
                return Err(format!("the log has {revision} where {next} should come"));
            }
        }
        begins.push(events.len());
        Ok(Self { events, begins })
    }

    pub fn len(&self) -> usize {
        self.begins.len() - 1
    }

    /// The last revision.
    pub fn last(&self) -> i64 {
        FIRST - 1 + self.len() as i64
    }

    /// What happened at a revision.
    pub fn at(&self, revision: i64) -> &'a [Event] {
        let Ok(number) = usize::try_from(revision - FIRST) else { return &[] };
        match (self.begins.get(number), self.begins.get(number + 1)) {
            (Some(begin), Some(end)) => &self.events[*begin..*end],
            _ => &[],
        }
    }
}

/// The rows at one revision.
#[derive(Clone, Default)]
pub struct Store {
    rows: BTreeMap<String, Row>,
}

impl Store {
    /// Goes on to the next revision. What does not follow is told, and made so all the same.
    pub fn apply(&mut self, revision: i64, events: &[Event]) -> Result<(), String> {
        let mut wrong = None;
        for event in events {
            let before = self.rows.get(event.key());
            let follows = match event {
                Event::Put(row) => {
                    let (create, version) =
                        before.map_or((revision, 1), |before| (before.create, before.version + 1));
                    row.create == create && row.version == version
                }
                Event::Delete { .. } => before.is_some(),
            };
            if !follows {
                wrong = Some(format!("{event:?} does not follow from {before:?}"));
            }
            match event {
                Event::Put(row) => self.rows.insert(row.key.clone(), row.clone()),
                Event::Delete { key, .. } => self.rows.remove(key),
            };
        }
        wrong.map_or(Ok(()), Err)
    }

    /// What a request would do and say as the one that makes `revision`.
    pub fn run(&self, revision: i64, request: &Request) -> (Vec<Event>, Reply) {
        let mut view = View { store: self, revision, changed: BTreeMap::new(), events: Vec::new() };
        let reply = view.run(request);
        (view.events, reply)
    }
}

/// A store and what a running request has changed in it.
struct View<'a> {
    store: &'a Store,
    revision: i64,
    changed: BTreeMap<String, Option<Row>>,
    events: Vec<Event>,
}

impl View<'_> {
    fn run(&mut self, request: &Request) -> Reply {
        match request {
            Request::Put { key, value } => self.put(key, value),
            Request::Delete(span) => {
                let rows = self.rows(&span.key, span.end.as_deref());
                for row in &rows {
                    let modified = self.revision;
                    self.changed.insert(row.key.clone(), None);
                    self.events.push(Event::Delete { key: row.key.clone(), modified });
                }
                Reply::Delete { deleted: rows.len() }
            }
            Request::Range(range) => self.range(range),
            Request::Txn(txn) => self.txn(txn),
        }
    }

    fn get(&self, key: &str) -> Option<&Row> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.store.rows.get(key),
        }
    }

    fn put(&mut self, key: &str, value: &str) -> Reply {
        let (create, version) =
            self.get(key).map_or((self.revision, 1), |before| (before.create, before.version + 1));
        let (key, value, modified) = (key.to_owned(), value.to_owned(), self.revision);
        let row = Row { key, value, create, modified, version };
        self.changed.insert(row.key.clone(), Some(row.clone()));
        self.events.push(Event::Put(row));
        Reply::Put
    }

    fn rows(&self, key: &str, end: Option<&str>) -> Vec<Row> {
        let Some(last) = end else { return self.get(key).cloned().into_iter().collect() };
        let last = if last == "\0" { Bound::Unbounded } else { Bound::Excluded(last) };
        if let Bound::Excluded(last) = last
            && last <= key
        {
            return Vec::new();
        }
        let stored = self.store.rows.range::<str, _>((Bound::Included(key), last));
        let mut rows: Vec<Row> = stored
            .filter(|(key, _)| !self.changed.contains_key(*key))
            .map(|(_, row)| row.clone())
            .collect();
        if !self.changed.is_empty() {
            let changed = self.changed.values().flatten();
            rows.extend(changed.filter(|row| within(&row.key, key, end)).cloned());
            rows.sort_by(|a, b| a.key.cmp(&b.key));
        }
        rows
    }

    fn range(&self, range: &Range) -> Reply {
        let mut rows = self.rows(&range.key, range.end.as_deref());
        let count = rows.len();
        if range.limit > 0 {
            rows.truncate(range.limit);
        }
        Reply::Range { count, rows }
    }

    fn txn(&mut self, txn: &Txn) -> Reply {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let replies = branch.iter().map(|request| self.run(request)).collect();
        Reply::Txn { succeeded, replies }
    }

    /// A key that is not there has version and revisions 0, and no value that compares. Nested
    /// txns too compare what was there before all of it.
    fn holds(&self, compare: &Compare) -> bool {
        let row = self.store.rows.get(&compare.key);
        let number = |of: fn(&Row) -> i64| row.map_or(0, of);
        let order = match &compare.target {
            Target::Version(wanted) => number(|row| row.version).cmp(wanted),
            Target::Create(wanted) => number(|row| row.create).cmp(wanted),
            Target::Mod(wanted) => number(|row| row.modified).cmp(wanted),
            Target::Value(wanted) => match row {
                Some(row) => row.value.cmp(wanted),
                None => return false,
            },
        };
        match compare.is.as_str() {
            "=" => order.is_eq(),
            "!=" => order.is_ne(),
            "<" => order.is_lt(),
            ">" => order.is_gt(),
            other => panic!("a comparison that is none: {other}"),
        }
    }
}

impl Op {
    /// Whether it is what made this revision, by its effect and its answer.
    pub fn happened_at(&self, before: &Store, revision: i64, events: &[Event]) -> bool {
        if events.is_empty() || !self.request.may_write() {
            return false;
        }
        let (made, reply) = before.run(revision, &self.request);
        made == events && self.answer().is_none_or(|answer| answer.reply == reply)
    }

    /// Whether its answer is that of a state, which it left as it was.
    pub fn holds_in(&self, state: &Store) -> Result<(), String> {
        let Some(answer) = self.answer() else { return Ok(()) };
        let (made, reply) = state.run(answer.revision, &self.request);
        if !made.is_empty() {
            return Err(format!("it is not what made revision {}", answer.revision));
        }
        if reply != answer.reply {
            return Err(format!("the state would have answered {reply:?}"));
        }
        Ok(())
    }
}
