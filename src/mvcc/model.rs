//! The naive oracle: what a store should answer, written for plainness, not for speed.
//!
//! It keeps every row ever written and the full map of live keys after every main revision, and
//! derives every answer from those by definition: a range is a filter over a map, a compaction a
//! rule about which rows still count, a hash a loop over rows. It shares no code with the store but
//! the words (requests, spans, revisions); even rows are encoded by prost here.
//!
//! It serves the property tests, the fuzz targets and the simulator.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use super::hash::HashKv;
use super::revision::Revision;
use super::txn::{Change, Kind};
use crate::error::Error;
use crate::pb::{self, KeyValue, range_request::SortOrder, range_request::SortTarget};
use crate::span::Span;

/// One change a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put { key: Bytes, value: Bytes, lease: i64 },
    Delete(Span),
}

type Map = BTreeMap<Bytes, KeyValue>;

/// A row of history.
#[derive(Clone, Debug)]
struct Row {
    revision: Revision,
    tombstone: bool,
    kv: KeyValue,
}

/// The oracle.
#[derive(Clone, Debug)]
pub struct Model {
    /// Live keys after each main revision, from 0.
    maps: Vec<Map>,
    /// Every change ever made.
    rows: Vec<Row>,
    compact_revision: i64,
    /// The hash of every compaction.
    hashes: Vec<HashKv>,
}

impl Default for Model {
    fn default() -> Self {
        // A fresh store is at revision 1 and nothing is compacted.
        let maps = vec![Map::new(), Map::new()];
        Self { maps, rows: Vec::new(), compact_revision: -1, hashes: Vec::new() }
    }
}

impl Model {
    pub fn revision(&self) -> i64 {
        self.maps.len() as i64 - 1
    }

    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Applies the changes of one transaction; returns what watchers see.
    pub fn apply(&mut self, ops: &[Op]) -> Vec<Change> {
        let mut map = self.at(self.revision()).clone();
        let (main, mut changes) = (self.revision() + 1, Vec::new());
        for op in ops {
            match op {
                Op::Put { key, value, lease } => {
                    let before = map.get(key);
                    let kv = KeyValue {
                        key: key.clone(),
                        create_revision: before.map_or(main, |kv| kv.create_revision),
                        mod_revision: main,
                        version: before.map_or(1, |kv| kv.version + 1),
                        value: value.clone(),
                        lease: *lease,
                    };
                    map.insert(key.clone(), kv.clone());
                    changes.push(self.note(main, changes.len(), false, kv));
                }
                Op::Delete(span) => {
                    let doomed = map.keys().filter(|key| span.contains(key));
                    for key in doomed.cloned().collect::<Vec<_>>() {
                        map.remove(&key);
                        let kv = KeyValue { key, ..Default::default() };
                        changes.push(self.note(main, changes.len(), true, kv));
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.maps.push(map);
        }
        changes
    }

    fn note(&mut self, main: i64, sub: usize, tombstone: bool, kv: KeyValue) -> Change {
        let row = Row { revision: Revision::new(main, sub as u32), tombstone, kv };
        self.rows.push(row.clone());
        row.change()
    }

    fn at(&self, revision: i64) -> &Map {
        &self.maps[usize::try_from(revision).expect("the model is asked about the past only")]
    }

    /// The live state of `key` after main revision `at`.
    pub fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        self.at(at).get(key)
    }

    /// What a state at `revision`, with this compact revision, answers.
    pub fn range(
        &self,
        request: &pb::RangeRequest,
        revision: i64,
        compact_revision: i64,
    ) -> Result<pb::RangeResponse, Error> {
        if request.revision > revision {
            return Err(Error::FutureRev);
        }
        let at = if request.revision <= 0 { revision } else { request.revision };
        if at < compact_revision {
            return Err(Error::Compacted);
        }
        let span = Span::new(request.key.clone(), request.range_end.clone());
        let live = self.at(at).values().filter(|kv| span.contains(&kv.key));
        let mut kvs: Vec<KeyValue> = live.cloned().collect();
        let header = Some(pb::ResponseHeader { revision, ..Default::default() });
        let count = kvs.len() as i64;
        if request.count_only {
            return Ok(pb::RangeResponse { header, count, ..Default::default() });
        }
        let more = select(request, &mut kvs);
        let strip = |mut kv: KeyValue| {
            if request.keys_only {
                kv.value = Bytes::new();
                kv.lease = if by_value(request) { kv.lease } else { 0 };
            }
            Bytes::from(kv.encode_to_vec())
        };
        let kvs = kvs.into_iter().map(strip).collect();
        Ok(pb::RangeResponse { header, kvs, more, count })
    }

    /// The changes of main revisions `from` to `to`, as far as compaction left them.
    pub fn history(&self, from: i64, to: i64) -> Vec<Change> {
        let kept = self.kept_rows(self.compact_revision);
        let within = |row: &&Row| (from..=to).contains(&row.revision.main);
        kept.into_iter().filter(within).map(Row::change).collect()
    }

    /// Gives up the history below `revision`.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compact_revision {
            return Err(Error::Compacted);
        }
        if revision > self.revision() {
            return Err(Error::FutureRev);
        }
        let visible: BTreeSet<Revision> =
            self.kept_rows(revision).iter().map(|row| row.revision).collect();
        let keep = |row: &Row| row.revision.main > revision || visible.contains(&row.revision);
        let keep: BTreeSet<Revision> = self
            .rows
            .iter()
            .filter(|row| row.revision.main <= revision && keep(row))
            .map(|row| row.revision)
            .collect();
        let hash = self.hash(self.compact_revision, revision, &keep);
        self.hashes.push(hash);
        self.compact_revision = revision;
        Ok(())
    }

    /// The hash the compaction to `revision` should have left.
    pub fn compaction_hash(&self, revision: i64) -> Option<HashKv> {
        self.hashes.iter().find(|hash| hash.hash_revision == revision).copied()
    }

    /// The hash at `revision`, as recomputed.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        if revision > 0 && revision < self.compact_revision {
            return Err(Error::Compacted);
        }
        if revision > self.revision() {
            return Err(Error::FutureRev);
        }
        let at = if revision == 0 { self.revision() } else { revision };
        let of = |kv: &KeyValue| {
            let mine = |row: &&Row| row.kv == *kv && !row.tombstone;
            self.rows.iter().rev().find(mine).expect("live keys have rows").revision
        };
        let keep = self.at(at).values().map(of).collect();
        let hash = self.hash(self.compact_revision, at, &keep);
        Ok(HashKv { revision: self.revision(), ..hash })
    }

    /// etcd's hash of the rows a finished compaction to `compact_revision` left.
    fn hash(&self, compact_revision: i64, at: i64, keep: &BTreeSet<Revision>) -> HashKv {
        let mut bytes = b"key".to_vec();
        for row in self.kept_rows(compact_revision) {
            let main = row.revision.main;
            let scheduled = main <= compact_revision && !keep.is_empty();
            if main > at
                || (scheduled && !keep.contains(&row.revision))
                || (main == compact_revision && row.tombstone)
            {
                continue;
            }
            bytes.extend_from_slice(&row.revision.row_key(row.tombstone));
            bytes.extend_from_slice(&row.kv.encode_to_vec());
        }
        let hash = crc32c::crc32c(&bytes);
        HashKv { hash, compact_revision, hash_revision: at, revision: self.revision() }
    }

    /// The rows that remain after a compaction to `compact_revision`.
    pub fn kept(&self, compact_revision: i64) -> Vec<(Bytes, Bytes)> {
        let row =
            |row: &Row| (row.revision.row_key(row.tombstone), Bytes::from(row.kv.encode_to_vec()));
        self.kept_rows(compact_revision).into_iter().map(row).collect()
    }

    fn kept_rows(&self, compact_revision: i64) -> Vec<&Row> {
        let mut newest = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.revision.main <= compact_revision) {
            newest.insert(&row.kv.key, row.revision);
        }
        let kept = |row: &&Row| {
            let main = row.revision.main;
            main > compact_revision
                || (row.tombstone && main == compact_revision)
                || (!row.tombstone && newest.get(&row.kv.key) == Some(&row.revision))
        };
        self.rows.iter().filter(kept).collect()
    }
}

impl Row {
    fn change(&self) -> Change {
        let kv = KeyValue { mod_revision: self.revision.main, ..self.kv.clone() };
        Change {
            revision: self.revision,
            kind: if self.tombstone { Kind::Delete } else { Kind::Put },
            created: !self.tombstone && kv.create_revision == kv.mod_revision,
            key: kv.key.clone(),
            row: Bytes::from(kv.encode_to_vec()),
        }
    }
}

fn by_value(request: &pb::RangeRequest) -> bool {
    request.sort_target() == SortTarget::Value
}

/// Filters, sorts and cuts as a request says; returns whether there was more.
fn select(request: &pb::RangeRequest, kvs: &mut Vec<KeyValue>) -> bool {
    let (order, target) = (request.sort_order(), request.sort_target());
    let filters = [
        request.max_mod_revision,
        request.min_mod_revision,
        request.max_create_revision,
        request.min_create_revision,
    ];
    let ascending_keys = target == SortTarget::Key && order == SortOrder::Ascend;
    let cuts_first = filters == [0; 4] && (order == SortOrder::None || ascending_keys);
    let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
    if cuts_first {
        kvs.truncate(limit.saturating_add(1));
    }
    let [max_mod, min_mod, max_create, min_create] = filters;
    kvs.retain(|kv| max_mod == 0 || kv.mod_revision <= max_mod);
    kvs.retain(|kv| min_mod == 0 || kv.mod_revision >= min_mod);
    kvs.retain(|kv| max_create == 0 || kv.create_revision <= max_create);
    kvs.retain(|kv| min_create == 0 || kv.create_revision >= min_create);
    let compare = |a: &KeyValue, b: &KeyValue| -> Ordering {
        match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    };
    match order {
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(compare),
        SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
    }
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    more
}
