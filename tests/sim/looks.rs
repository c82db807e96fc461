//! Looks at the past: ranges at revisions, whole states, hashes; recorded, and judged at the end.
//!
//! What the history knows are answers about the newest revision. These are about older ones, or
//! were refused, and are held against the same log.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum::bolt;
use kvorum::mvcc::{HashKv, Revision};
use kvorum::sim::{Mark, mark};
use kvorum::storage::engine::Table;

use crate::checker::history::{Event, Range, Reply, Request, Row};
use crate::checker::replay::Store;

use super::translate;

/// What the client of a refused read is told.
pub const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

/// A range at a revision.
#[derive(Clone, Debug)]
pub struct Look {
    pub at: i64,
    pub range: Range,
    pub count_only: bool,
    pub within: Within,
}

/// What the range stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    Nothing,
    Txn,
    /// A transaction that puts this key and value, too.
    Putting(String, String),
}

/// A look, and what came of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub look: Look,
    /// The newest revision that anybody had been shown before.
    pub floor: i64,
    /// The newest compaction that had been acknowledged before.
    pub compacted: i64,
    /// The header's revision and the answer, or the refusal.
    pub answer: Result<(i64, Reply), String>,
}

/// Everything that was looked at.
#[derive(Default)]
pub struct Looks {
    pub seen: Vec<Seen>,
    pub hashes: Vec<HashKv>,
    /// Rows of whole states, with their newest revision.
    pub states: Vec<(i64, Vec<Row>)>,
}

impl Looks {
    /// Holds everything against the log. `compacted` is the newest compaction that was asked for.
    pub fn judge(&mut self, log: &[Event], compacted: i64) -> Result<(), String> {
        self.seen.sort_by_key(|seen| seen.look.at);
        self.states.sort_by_key(|(revision, _)| *revision);
        self.hashes.sort_by_key(|hash| (hash.hash_revision, hash.compact_revision));
        let mut times = Times { log, next: 0, store: Store::default() };
        for seen in &self.seen {
            let store = times.at(seen.look.at);
            seen.judge(store, compacted).map_err(|wrong| format!("{seen:?}: {wrong}"))?;
        }
        let mut times = Times { log, next: 0, store: Store::default() };
        for (revision, rows) in &self.states {
            let all = range("\0", Some("\0"));
            let (_, whole) = times.at(*revision).run(0, &Request::Range(all));
            let Reply::Range { rows: wanted, .. } = whole else { unreachable!("a range") };
            if *rows != wanted {
                return Err(format!("a state as of {revision} has {rows:?}, not {wanted:?}"));
            }
        }
        self.judge_hashes(log)
    }

    fn judge_hashes(&self, log: &[Event]) -> Result<(), String> {
        let mut times = Times { log, next: 0, store: Store::default() };
        for pair in self.hashes.windows(2) {
            let (one, other) = (&pair[0], &pair[1]);
            let place = |hash: &HashKv| (hash.hash_revision, hash.compact_revision);
            if place(one) != place(other) {
                continue;
            }
            mark(Mark::HashesCompared);
            let all = Request::Range(range("\0", Some("\0")));
            // Of an empty store a compaction leaves another hash than is asked of it, as in etcd.
            let (_, whole) = times.at(one.hash_revision).run(0, &all);
            if one.hash != other.hash && whole != (Reply::Range { count: 0, rows: Vec::new() }) {
                return Err(format!("hashes differ: {one:?}, {other:?}"));
            }
        }
        Ok(())
    }
}

/// The store at one revision after the other.
struct Times<'a> {
    log: &'a [Event],
    next: usize,
    store: Store,
}

impl Times<'_> {
    fn at(&mut self, revision: i64) -> &Store {
        let rest = &self.log[self.next..];
        let count = rest.partition_point(|event| event.revision() <= revision);
        for events in rest[..count].chunk_by(|a, b| a.revision() == b.revision()) {
            // The checker says whether the log follows from itself.
            let _ = self.store.apply(events[0].revision(), events);
        }
        self.next += count;
        &self.store
    }
}

impl Seen {
    fn judge(&self, store: &Store, compacted: i64) -> Result<(), String> {
        let Look { at, range, count_only, within } = &self.look;
        let lags = range.serializable;
        let (revision, reply) = match &self.answer {
            Ok(answer) => answer,
            Err(status) if status == COMPACTED => {
                mark(if *within == Within::Nothing {
                    Mark::RangeCompacted
                } else {
                    Mark::TxnCompacted
                });
                return match *at < compacted {
                    true => Ok(()),
                    false => Err(format!("nothing was compacted beyond {compacted}")),
                };
            }
            Err(status) if status == FUTURE => {
                mark(Mark::RangeInFuture);
                return match lags || *at > self.floor {
                    true => Ok(()),
                    false => Err("it had been shown before".to_owned()),
                };
            }
            // It was not answered.
            Err(_) => return Ok(()),
        };
        if *at == self.compacted {
            mark(Mark::RangeAtCompactRevision);
        } else if at < revision {
            mark(Mark::RangeAtOldRevision);
        }
        if *revision < *at || !lags && *revision < self.floor {
            return Err("it comes from before that".to_owned());
        }
        if !lags && *at < self.compacted {
            return Err("that had been compacted".to_owned());
        }
        let (_, wanted) = store.run(0, &Request::Range(range.clone()));
        let wanted = match (wanted, count_only) {
            (Reply::Range { count, .. }, true) => Reply::Range { count, rows: Vec::new() },
            (wanted, _) => wanted,
        };
        if *reply != wanted {
            return Err(format!("it was {wanted:?}"));
        }
        Ok(())
    }
}

pub fn range(key: &str, end: Option<&str>) -> Range {
    let end = end.map(str::to_owned);
    Range { key: key.to_owned(), end, limit: 0, serializable: false }
}

/// The newest revision in a whole state, and the rows as of it.
pub fn read_state(file: &[u8]) -> Result<(i64, Vec<Row>), String> {
    let reader = bolt::Reader::open(&file).map_err(|error| error.to_string())?;
    let (mut newest, mut rows) = (1, BTreeMap::new());
    let mut table = reader.table_rows();
    for row in &mut table {
        let bolt::Row { table, key, value } = row.map_err(|error| error.to_string())?;
        if table != Table::Key {
            continue;
        }
        let parsed = Revision::from_row_key(&key);
        let (revision, tombstone) = parsed.map_err(|fault| fault.to_string())?;
        newest = newest.max(revision.main);
        let row = translate::row(&Bytes::copy_from_slice(&value));
        match tombstone {
            true => rows.remove(&row.key),
            false => rows.insert(row.key.clone(), row),
        };
    }
    table.finish().map_err(|error| error.to_string())?;
    Ok((newest, rows.into_values().collect()))
}
