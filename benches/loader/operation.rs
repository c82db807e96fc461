//! The calls that are measured: how each is asked, and when its answer is a good one.
//!
//! Every answer is checked as far as that costs nothing; what was written is read again after
//! the run, by `Acknowledged`.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kvorum::pb;
use prost::Message;

use super::data::{self, Keys, Random};
use super::message;
use super::wire::Side;

/// Keys that an updating client has to itself.
const KEYS_PER_UPDATER: usize = 8;

/// A call.
#[derive(Clone)]
pub enum Operation {
    /// Writes a random key.
    Put { keys: Arc<Keys>, value_bytes: usize },
    /// Updates a key if it is what it was, as Kubernetes does; no two clients share a key.
    Update { value_bytes: usize },
    /// Reads a random key, all of which exist.
    Get { keys: Arc<Keys>, serializable: bool },
    /// Reads `limit` rows from a random key on.
    Page { keys: Arc<Keys>, limit: usize },
    /// Reads all rows.
    List { rows: usize },
    /// Renews the client's own lease.
    KeepAlive { leases: Arc<Vec<i64>>, side: Side },
}

/// A write that was acknowledged, and what must be there for ever after.
#[derive(Clone)]
pub struct Acknowledged {
    pub key: Bytes,
    pub seed: u64,
    pub value_bytes: usize,
    pub revision: i64,
}

/// One who calls, waits for the answer, and calls again.
pub struct Client {
    number: usize,
    random: Random,
    sequence: u64,
    asked: Asked,
    /// Of an updater's keys, the revisions they are known to have.
    known: [i64; KEYS_PER_UPDATER],
    pub last: Option<Acknowledged>,
}

/// What the answer must fit.
#[derive(Default)]
struct Asked {
    key: Bytes,
    slot: usize,
    seed: u64,
}

impl Operation {
    /// The method's path.
    pub fn path(&self) -> &'static str {
        match self {
            Self::Put { .. } => "/etcdserverpb.KV/Put",
            Self::Update { .. } => "/etcdserverpb.KV/Txn",
            Self::Get { .. } | Self::Page { .. } | Self::List { .. } => "/etcdserverpb.KV/Range",
            Self::KeepAlive { .. } => "/etcdserverpb.Lease/LeaseKeepAlive",
        }
    }

    /// Whether the stream goes on after a call.
    pub fn side(&self) -> Side {
        match self {
            Self::KeepAlive { side, .. } => *side,
            Self::Put { .. }
            | Self::Update { .. }
            | Self::Get { .. }
            | Self::Page { .. }
            | Self::List { .. } => Side::Close,
        }
    }
}

impl Client {
    /// A client of this number, in a run of this seed.
    pub fn new(number: usize, seed: u64) -> Self {
        let mut random = Random::new(seed ^ ((number as u64) << 40));
        Self {
            number,
            sequence: random.next(),
            random,
            asked: Asked::default(),
            known: [0; KEYS_PER_UPDATER],
            last: None,
        }
    }

    /// Writes the next request into `out`.
    pub fn ask(&mut self, operation: &Operation, out: &mut Vec<u8>) {
        out.clear();
        match operation {
            Operation::Put { keys, value_bytes } => {
                let key = keys.get(self.random.below(keys.len()));
                let put = self.put(key, *value_bytes);
                encode(&put, out);
            }
            Operation::Update { value_bytes } => {
                let txn = self.update(*value_bytes);
                encode(&txn, out);
            }
            Operation::Get { keys, serializable } => {
                let key = keys.get(self.random.below(keys.len()));
                let serializable = *serializable;
                encode(&pb::RangeRequest { key, serializable, ..Default::default() }, out);
            }
            Operation::Page { keys, limit } => {
                let starts = keys.len().saturating_sub(*limit) + 1;
                let key = keys.get(self.random.below(starts));
                encode(&range(key, *limit as i64), out);
            }
            Operation::List { .. } => encode(&range(data::PREFIX.into(), 0), out),
            Operation::KeepAlive { leases, .. } => {
                encode(&pb::LeaseKeepAliveRequest { id: leases[self.number] }, out);
            }
        }
    }

    /// Whether this is the answer to what was asked.
    pub fn check(&mut self, operation: &Operation, answer: &[u8]) -> Result<()> {
        match operation {
            Operation::Put { value_bytes, .. } => {
                let revision = message::revision(answer).context("a put without a revision")?;
                self.acknowledge(revision, *value_bytes);
            }
            Operation::Update { value_bytes } => self.updated(answer, *value_bytes)?,
            Operation::Get { .. } => {
                let rows = message::count(answer, 2);
                ensure!(rows == 1, "a get of one key answered {rows} rows");
            }
            Operation::Page { keys, limit } => {
                let (rows, expected) = (message::count(answer, 2), keys.len().min(*limit));
                ensure!(rows == expected, "a page of {expected} rows has {rows}");
            }
            Operation::List { rows } => {
                let listed = message::count(answer, 2);
                ensure!(listed == *rows, "a list of {rows} rows has {listed}");
            }
            Operation::KeepAlive { .. } => {
                ensure!(message::number(answer, 3) > 0, "the lease is gone");
            }
        }
        Ok(())
    }

    fn put(&mut self, key: Bytes, value_bytes: usize) -> pb::PutRequest {
        self.sequence += 1;
        self.asked.seed = self.sequence;
        self.asked.key = key.clone();
        let value = data::value(self.sequence, value_bytes);
        pb::PutRequest { key, value, ..Default::default() }
    }

    /// What kube-apiserver sends: if the revision is the known one put, else read.
    fn update(&mut self, value_bytes: usize) -> pb::TxnRequest {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        use pb::request_op::Request;
        self.asked.slot = self.random.below(KEYS_PER_UPDATER);
        let key = data::key((self.number * KEYS_PER_UPDATER + self.asked.slot) as u64);
        let guard = pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(self.known[self.asked.slot])),
            ..Default::default()
        };
        let put = self.put(key.clone(), value_bytes);
        let get = pb::RangeRequest { key, ..Default::default() };
        let operation = |request| vec![pb::RequestOp { request: Some(request) }];
        pb::TxnRequest {
            compare: vec![guard],
            success: operation(Request::RequestPut(put)),
            failure: operation(Request::RequestRange(get)),
        }
    }

    fn updated(&mut self, answer: &[u8], value_bytes: usize) -> Result<()> {
        let known = &mut self.known[self.asked.slot];
        if message::number(answer, 2) == 1 {
            *known = message::revision(answer).context("a txn without a revision")?;
            let revision = *known;
            self.acknowledge(revision, value_bytes);
            return Ok(());
        }
        // The key is left from an earlier run, and the answer says at which revision.
        ensure!(*known == 0, "the guard of a key failed that nobody else writes");
        let row = message::bytes(answer, 3)
            .and_then(|operation| message::bytes(operation, 1))
            .and_then(|range| message::bytes(range, 2));
        *known = message::number(row.context("the guard failed, and there is no key")?, 3) as i64;
        Ok(())
    }

    fn acknowledge(&mut self, revision: i64, value_bytes: usize) {
        let (key, seed) = (std::mem::take(&mut self.asked.key), self.asked.seed);
        self.last = Some(Acknowledged { key, seed, value_bytes, revision });
    }
}

fn range(key: Bytes, limit: i64) -> pb::RangeRequest {
    let range_end = data::PREFIX_END.into();
    pb::RangeRequest { key, range_end, limit, ..Default::default() }
}

fn encode(message: &impl Message, out: &mut Vec<u8>) {
    message.encode(out).expect("a vector takes any length");
}
