//! etcd's store as the search plays it: small, of its own, and able to take back what it did.
//!
//! Keys and values are numbers in their order, so a state is a short vector and a range a part of
//! it. Nothing here is shared with `replay`, which judges by the log: a mistake in one of the two
//! models shows when they disagree. Leases, sorting and old revisions are absent; the history
//! format does not have them.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::ops::Range as Keys;

use crate::checker::history::{Answer, Compare, Op, Reply, Request, Row, Target};

/// A row; which key it is of is its place.
#[derive(Clone, Copy, Debug, Hash, PartialEq)]
pub struct Cell {
    value: usize,
    create: i64,
    pub modified: i64,
    version: i64,
}

/// What a request asks for.
#[derive(Debug, Hash, PartialEq, Eq)]
pub enum Act {
    Put { key: usize, value: usize },
    Delete(Keys<usize>),
    Range { keys: Keys<usize>, limit: usize },
    Txn { guards: Vec<Guard>, success: Vec<Act>, failure: Vec<Act> },
}

#[derive(Debug, Hash, PartialEq, Eq)]
pub struct Guard {
    key: usize,
    is: String,
    target: Wanted,
}

#[derive(Debug, Hash, PartialEq, Eq)]
enum Wanted {
    Version(i64),
    Create(i64),
    Modified(i64),
    Value(usize),
}

/// What a store says to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Put,
    Deleted(usize),
    Rows { count: usize, rows: Vec<(usize, Cell)> },
    Txn { succeeded: bool, each: Vec<Said> },
}

/// All keys and values of a history, sorted: a name's number is its place.
///
/// Values that no answer shows are one, if no guard can tell them apart: what differs in nothing
/// else need not be tried twice.
#[derive(Default)]
pub struct Names<'a> {
    keys: Vec<&'a str>,
    values: Vec<&'a str>,
    /// For each value, the first one that cannot be told from it.
    alike: Vec<usize>,
}

/// Names as they are found.
#[derive(Default)]
struct Found<'a> {
    keys: BTreeSet<&'a str>,
    values: BTreeSet<&'a str>,
    /// Values in answers and in guards.
    shown: BTreeSet<&'a str>,
    guards: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    pub fn of(ops: impl Iterator<Item = &'a Op>) -> Self {
        let mut found = Found::default();
        for op in ops {
            found.enter(&op.request);
            if let Some(answer) = op.answer() {
                rows_of(&answer.reply, &mut |row| {
                    found.keys.insert(&row.key);
                    found.shown.insert(&row.value);
                });
            }
        }
        let Found { keys, mut values, shown, guards } = found;
        values.extend(shown.iter().chain(&guards));
        let mut unseen = HashMap::new();
        let alike = values.iter().enumerate().map(|(place, value)| {
            if shown.contains(value) || guards.contains(value) {
                return place;
            }
            let below = guards.iter().filter(|guard| *guard < value).count();
            *unseen.entry(below).or_insert(place)
        });
        let alike = alike.collect();
        Self { keys: keys.into_iter().collect(), values: values.into_iter().collect(), alike }
    }

    /// A store without rows.
    pub fn empty_store(&self) -> Model {
        Model { revision: 1, cells: vec![None; self.keys.len()], replaced: Vec::new() }
    }

    fn key(&self, key: &str) -> usize {
        self.keys.binary_search(&key).expect("every key was entered")
    }

    fn value(&self, value: &str) -> usize {
        self.alike[self.values.binary_search(&value).expect("every value was entered")]
    }

    fn span(&self, key: &str, end: Option<&str>) -> Keys<usize> {
        let begin = self.key(key);
        let end = match end {
            None => begin + 1,
            Some("\0") => self.keys.len(),
            Some(end) => self.keys.partition_point(|key| *key < end),
        };
        begin..end.max(begin)
    }

    pub fn act(&self, request: &Request) -> Act {
        let all = |requests: &[Request]| requests.iter().map(|one| self.act(one)).collect();
        match request {
            Request::Put { key, value } => {
                Act::Put { key: self.key(key), value: self.value(value) }
            }
            Request::Delete(span) => Act::Delete(self.span(&span.key, span.end.as_deref())),
            Request::Range(range) => {
                let keys = self.span(&range.key, range.end.as_deref());
                Act::Range { keys, limit: range.limit }
            }
            Request::Txn(txn) => Act::Txn {
                guards: txn.compare.iter().map(|compare| self.guard(compare)).collect(),
                success: all(&txn.success),
                failure: all(&txn.failure),
            },
        }
    }

    fn guard(&self, compare: &Compare) -> Guard {
        let target = match &compare.target {
            Target::Version(version) => Wanted::Version(*version),
            Target::Create(revision) => Wanted::Create(*revision),
            Target::Mod(revision) => Wanted::Modified(*revision),
            Target::Value(value) => Wanted::Value(self.value(value)),
        };
        Guard { key: self.key(&compare.key), is: compare.is.clone(), target }
    }

    pub fn said(&self, answer: &Answer) -> Said {
        self.reply(&answer.reply)
    }

    fn reply(&self, reply: &Reply) -> Said {
        match reply {
            Reply::Put => Said::Put,
            Reply::Delete { deleted } => Said::Deleted(*deleted),
            Reply::Range { count, rows } => {
                let cell = |row: &Row| {
                    let Row { create, modified, version, .. } = *row;
                    Cell { value: self.value(&row.value), create, modified, version }
                };
                let rows = rows.iter().map(|row| (self.key(&row.key), cell(row))).collect();
                Said::Rows { count: *count, rows }
            }
            Reply::Txn { succeeded, replies } => Said::Txn {
                succeeded: *succeeded,
                each: replies.iter().map(|reply| self.reply(reply)).collect(),
            },
        }
    }
}

impl<'a> Found<'a> {
    fn enter(&mut self, request: &'a Request) {
        match request {
            Request::Put { key, value } => {
                self.keys.insert(key);
                self.values.insert(value);
            }
            Request::Delete(span) => {
                self.keys.insert(&span.key);
            }
            Request::Range(range) => {
                self.keys.insert(&range.key);
            }
            Request::Txn(txn) => {
                for compare in &txn.compare {
                    self.keys.insert(&compare.key);
                    if let Target::Value(value) = &compare.target {
                        self.guards.insert(value);
                    }
                }
                txn.success.iter().chain(&txn.failure).for_each(|one| self.enter(one));
            }
        }
    }
}

/// All rows in an answer.
pub fn rows_of<'a>(reply: &'a Reply, found: &mut impl FnMut(&'a Row)) {
    match reply {
        Reply::Put | Reply::Delete { .. } => {}
        Reply::Range { rows, .. } => rows.iter().for_each(found),
        Reply::Txn { replies, .. } => {
            for reply in replies {
                rows_of(reply, found);
            }
        }
    }
}

/// The store, and what it would take to go back.
#[derive(Debug)]
pub struct Model {
    pub revision: i64,
    cells: Vec<Option<Cell>>,
    /// What was replaced, oldest first: where, and by whom was told by the length before.
    replaced: Vec<(usize, Option<Cell>)>,
}

/// A moment to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    revision: i64,
    replaced: usize,
}

impl Model {
    pub fn mark(&self) -> Mark {
        Mark { revision: self.revision, replaced: self.replaced.len() }
    }

    /// Takes back everything since a moment.
    pub fn back(&mut self, to: Mark) {
        while self.replaced.len() > to.replaced
            && let Some((key, cell)) = self.replaced.pop()
        {
            self.cells[key] = cell;
        }
        self.revision = to.revision;
    }

    /// Executes a request, as one revision if it changes anything.
    pub fn run(&mut self, act: &Act) -> Said {
        let before = self.replaced.len();
        let mut paths = Vec::new();
        self.decide(act, &mut paths);
        let said = self.execute(act, &mut paths.into_iter());
        self.revision += i64::from(self.replaced.len() > before);
        said
    }

    /// Which branch each txn takes: all guards look at the state before any of it.
    fn decide(&self, act: &Act, paths: &mut Vec<bool>) {
        let Act::Txn { guards, success, failure } = act else { return };
        let succeeds = guards.iter().all(|guard| self.holds(guard));
        paths.push(succeeds);
        let branch = if succeeds { success } else { failure };
        branch.iter().for_each(|one| self.decide(one, paths));
    }

    fn execute(&mut self, act: &Act, paths: &mut impl Iterator<Item = bool>) -> Said {
        match act {
            Act::Put { key, value } => {
                let modified = self.revision + 1;
                let (create, version) =
                    self.cells[*key].map_or((modified, 1), |old| (old.create, old.version + 1));
                self.replace(*key, Some(Cell { value: *value, create, modified, version }));
                Said::Put
            }
            Act::Delete(keys) => {
                let found: Vec<usize> =
                    keys.clone().filter(|key| self.cells[*key].is_some()).collect();
                found.iter().for_each(|key| self.replace(*key, None));
                Said::Deleted(found.len())
            }
            Act::Range { keys, limit } => {
                let found = keys.clone().filter_map(|key| Some((key, self.cells[key]?)));
                let mut rows: Vec<_> = found.collect();
                let count = rows.len();
                rows.truncate(if *limit == 0 { count } else { *limit });
                Said::Rows { count, rows }
            }
            Act::Txn { success, failure, .. } => {
                let succeeded = paths.next().expect("it was decided");
                let branch = if succeeded { success } else { failure };
                let mut each = Vec::with_capacity(branch.len());
                for one in branch {
                    each.push(self.execute(one, paths));
                }
                Said::Txn { succeeded, each }
            }
        }
    }

    fn replace(&mut self, key: usize, cell: Option<Cell>) {
        self.replaced.push((key, std::mem::replace(&mut self.cells[key], cell)));
    }

    fn holds(&self, guard: &Guard) -> bool {
        let cell = self.cells[guard.key];
        let number = |of: fn(&Cell) -> i64| cell.as_ref().map_or(0, of);
        let order = match (&guard.target, cell) {
            (Wanted::Version(wanted), _) => number(|cell| cell.version).cmp(wanted),
            (Wanted::Create(wanted), _) => number(|cell| cell.create).cmp(wanted),
            (Wanted::Modified(wanted), _) => number(|cell| cell.modified).cmp(wanted),
            (Wanted::Value(wanted), Some(cell)) => cell.value.cmp(wanted),
            (Wanted::Value(_), None) => return false,
        };
        match guard.is.as_str() {
            "=" => order.is_eq(),
            "!=" => order.is_ne(),
            "<" => order.is_lt(),
            _ => order.is_gt(),
        }
    }
}

/// The state only, not the way there.
impl Hash for Model {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.revision.hash(hasher);
        self.cells.hash(hasher);
    }
}
