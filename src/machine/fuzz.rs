//! The body of the fuzz target `entry_apply`: two machines that apply the same log.
//!
//! What another member forwards is proposed without a look at its form, so anything that decodes
//! may be committed. One machine applies all of it at a stretch; the other is checkpointed, crashes
//! and replays, compacts at other times, and now and then is installed anew from the first one's
//! rows. Both must answer the same, whatever it is, and come to the same rows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{Entry, LeaseEffect, Machine, Outcome, Settings};
use crate::input::Input;
use crate::lease::Deadlines;
use crate::members::{Change, Member};
use crate::mvcc::Step;
use crate::pb::compare::TargetUnion;
use crate::pb::internal_raft_request::Command;
use crate::pb::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use crate::pb::request_op::Request;
use crate::pb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest,
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
};
use crate::storage::engine::{Engine, Table, Write};
use crate::storage::keys::ConfState;
use crate::storage::mem::Mem;

const STEPS_MAX: usize = 600;

/// Applies the entries that `bytes` make up to two machines; panics where they differ.
pub fn fuzz_entries(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.finish();
}

/// What the log holds.
#[derive(Clone, Debug)]
enum Logged {
    Command(InternalRaftRequest),
    Change(Change),
    Nothing,
}

struct World {
    steady: Machine,
    steady_engine: Mem,
    shaky: Machine,
    shaky_engine: Mem,
    /// What the second engine lacks.
    log: Vec<(u64, Logged, Outcome)>,
    deadlines: Deadlines,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        let (steady_engine, shaky_engine) = (Mem::new(), Mem::new());
        let mut deadlines = Deadlines::default();
        deadlines.promote(0, 1000, std::iter::empty());
        Self {
            steady: open(&steady_engine, 1),
            steady_engine,
            shaky: open(&shaky_engine, 2),
            shaky_engine,
            log: Vec::new(),
            deadlines,
            now_ms: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..4 => {
                let Ok(request) = InternalRaftRequest::decode(input.piece()) else { return };
                self.apply(Logged::Command(request));
            }
            4..10 => {
                let command = Some(input.command(&self.steady));
                self.apply(Logged::Command(InternalRaftRequest { command, ..Default::default() }));
            }
            10 => {
                let change = input.change();
                self.apply(if input.byte() < 8 { Logged::Nothing } else { Logged::Change(change) });
            }
            11 => self.checkpoint(),
            12 => self.crash(),
            13 => {
                let steps = usize::from(input.below(8));
                self.shaky.store_mut().publish();
                self.shaky.store_mut().compact_step(steps);
            }
            14 => self.pass_time(input.byte()),
            _ if input.byte() < 16 => self.install(),
            _ => self.steady.store_mut().publish(),
        }
    }

    fn apply(&mut self, logged: Logged) {
        let index = self.steady.applied().index + 1;
        let outcome = apply(&mut self.steady, index, &logged);
        self.note_leases(&outcome.leases);
        let again = apply(&mut self.shaky, index, &logged);
        same(&again, &outcome, &logged);
        self.log.push((index, logged, outcome));
    }

    fn note_leases(&mut self, effects: &[LeaseEffect]) {
        for effect in effects {
            match *effect {
                LeaseEffect::Granted { id, ttl } => self.deadlines.granted(id, ttl, self.now_ms),
                LeaseEffect::Revoked { id } => self.deadlines.revoked(id),
                LeaseEffect::Checkpointed { id, remaining_ttl } => {
                    self.deadlines.checkpointed(id, remaining_ttl, self.now_ms);
                }
            }
        }
    }

    /// Looks at the deadlines as the leader's duties do.
    fn pass_time(&mut self, how: u8) {
        self.now_ms += [1, 1000, 60_000, 1 << 40][usize::from(how) % 4];
        let now_ms = self.now_ms;
        for id in self.deadlines.expired(now_ms, 4) {
            self.deadlines.retry(id, now_ms);
        }
        self.deadlines.checkpoints(now_ms, 4);
        let leases: Vec<i64> = self.steady.leases().leases().map(|(id, _)| id).collect();
        for id in leases {
            assert!(self.deadlines.remaining(id, now_ms).is_some(), "lease {id} has a deadline");
            self.deadlines.renewed(id, now_ms);
        }
        if how > 240 {
            self.deadlines.demote();
            self.deadlines.promote(now_ms, 1000, self.steady.leases().leases());
        }
    }

    fn checkpoint(&mut self) {
        commit(&mut self.shaky, &self.shaky_engine);
        self.log.clear();
    }

    /// Starts again from the engine, and replays what it lacks.
    fn crash(&mut self) {
        self.shaky = open(&self.shaky_engine, 2);
        for (index, logged, outcome) in &self.log {
            let again = apply(&mut self.shaky, *index, logged);
            same(&again, outcome, logged);
        }
    }

    /// Puts the rows of the first in place of the second's.
    fn install(&mut self) {
        commit(&mut self.steady, &self.steady_engine);
        self.shaky_engine = Mem::new();
        let writes: Vec<Write> = rows(&self.steady_engine)
            .into_iter()
            .map(|((table, key), value)| Write::Put { table, key, value })
            .collect();
        self.shaky_engine.commit(&writes).expect("memory takes everything");
        self.shaky.install(Arc::new(self.shaky_engine.clone())).expect("its own rows");
        self.log.clear();
    }

    /// Both must hold the same rows, once neither has anything left to remove.
    fn finish(&mut self) {
        self.crash();
        settle(&mut self.steady, &self.steady_engine);
        settle(&mut self.shaky, &self.shaky_engine);
        assert_eq!(rows(&self.shaky_engine), rows(&self.steady_engine));
        let last = open(&self.shaky_engine, 2);
        assert_eq!(last.applied(), self.steady.applied());
        assert_eq!(last.members(), self.steady.members());
        assert_eq!(last.alarms(), self.steady.alarms());
        assert_eq!(last.conf_state(), self.steady.conf_state());
        assert_eq!(last.cluster_version(), self.steady.cluster_version());
        let leases =
            |machine: &Machine| format!("{:#?}", machine.leases().leases().collect::<Vec<_>>());
        assert_eq!(leases(&last), leases(&self.steady), "leases and their keys");
        let everything = RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..RangeRequest::default()
        };
        let read = |machine: &Machine| machine.reader().range(&everything).expect("rows are whole");
        assert_eq!(read(&last), read(&self.steady));
    }
}

fn open(engine: &Mem, member_id: u64) -> Machine {
    // A quota is looked at and never reached: what is in use differs, and with it the answers.
    let settings = Settings { member_id, quota_bytes: Some(i64::MAX), learners_max: 1 };
    Machine::open(Arc::new(engine.clone()), settings, None).expect("what it wrote itself")
}

fn apply(machine: &mut Machine, index: u64, logged: &Logged) -> Outcome {
    match logged {
        Logged::Command(request) => {
            let entry = Entry { index, term: 1, request: request.clone() };
            machine.apply(entry).expect("no command is a fault")
        }
        Logged::Change(change) => {
            let conf_state = ConfState { voters: vec![index], ..ConfState::default() };
            let made = machine.check_change(change).is_ok().then_some(conf_state);
            machine.change_members(index, 1, change.clone(), made)
        }
        Logged::Nothing => {
            machine.advance(index, 1);
            Outcome::done()
        }
    }
}

fn same(found: &Outcome, wanted: &Outcome, logged: &Logged) {
    assert_eq!(found.reply, wanted.reply, "answers to {logged:?}");
    assert_eq!(found.leases, wanted.leases, "leases of {logged:?}");
    assert_eq!(found.counts, wanted.counts, "counts of {logged:?}");
    assert_eq!(found.changes, wanted.changes, "changes of {logged:?}");
}

fn commit(machine: &mut Machine, engine: &Mem) {
    let mut checkpoint = machine.take_checkpoint(false);
    engine.commit(&checkpoint.writes()).expect("memory takes everything");
    machine.reader().checkpointed(checkpoint.revision());
}

/// Ends all compactions.
fn settle(machine: &mut Machine, engine: &Mem) {
    loop {
        machine.store_mut().publish();
        while let Some(job) = machine.store_mut().compaction_job() {
            job.run().expect("memory reads everything");
        }
        let step = machine.store_mut().compact_step(1000);
        commit(machine, engine);
        if step == Step::Done {
            return;
        }
    }
}

fn rows(engine: &Mem) -> BTreeMap<(Table, Bytes), Bytes> {
    let (view, mut rows) = (engine.view().expect("memory reads everything"), BTreeMap::new());
    for table in Table::ALL {
        view.scan(table, &[], None, &mut |key, value| {
            let row = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            rows.insert((table, row.0), row.1);
            Ok(ControlFlow::Continue(()))
        })
        .expect("memory reads everything");
    }
    rows
}

impl Input<'_> {
    /// A number around one that means something.
    fn signed_near(&mut self, center: i64) -> i64 {
        match self.byte() {
            byte @ 0..240 => center.wrapping_add(i64::from(byte % 8)).wrapping_sub(4),
            240..245 => i64::MAX,
            245..250 => i64::MIN,
            _ => 0,
        }
    }

    fn short_key(&mut self) -> Bytes {
        let keys: [&[u8]; 8] = [b"a", b"b", b"b\0", b"c", b"d/1", b"d/2", b"\xff", b""];
        Bytes::from_static(keys[usize::from(self.below(32)) % 8 * usize::from(self.0.len() > 1)])
    }

    fn end(&mut self) -> Bytes {
        let ends: [&[u8]; 4] = [b"", b"\0", b"c", b"a"];
        Bytes::from_static(ends[usize::from(self.below(8)) / 2])
    }

    fn command(&mut self, machine: &Machine) -> Command {
        let revision = machine.store().revision();
        match self.below(14) {
            0..2 => Command::Put(self.put()),
            2 => Command::DeleteRange(self.delete()),
            3..7 => Command::Txn(self.txn(revision, 3)),
            7 => Command::Compaction(CompactionRequest {
                revision: self.signed_near(revision),
                physical: false,
            }),
            8 => Command::LeaseGrant(LeaseGrantRequest {
                id: self.lease(),
                ttl: self.signed_near(8),
            }),
            9 => Command::LeaseRevoke(LeaseRevokeRequest { id: self.lease() }),
            10 => {
                let checkpoint = |input: &mut Self| LeaseCheckpoint {
                    id: input.lease(),
                    remaining_ttl: input.signed_near(3),
                };
                let checkpoints = (0..self.below(3)).map(|_| checkpoint(self)).collect();
                Command::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
            }
            11 => Command::Range(self.range_at(revision)),
            12 => Command::Alarm(AlarmRequest {
                action: i32::from(self.below(4)),
                member_id: u64::from(self.below(3)),
                alarm: i32::from(self.below(4)),
            }),
            _ if self.byte() < 128 => {
                Command::ClusterVersionSet(ClusterVersionSetRequest { ver: "3.7.0".into() })
            }
            _ => Command::ClusterMemberAttrSet(ClusterMemberAttrSetRequest {
                member_id: u64::from(self.below(4)),
                member_attributes: Some(Attributes {
                    name: String::from_utf8_lossy(&self.piece()).into_owned(),
                    client_urls: Vec::new(),
                }),
            }),
        }
    }

    fn lease(&mut self) -> i64 {
        i64::from(self.below(4))
    }

    fn put(&mut self) -> PutRequest {
        let flags = self.byte();
        PutRequest {
            key: self.short_key(),
            value: Bytes::from(vec![b'v'; usize::from(flags >> 6)]),
            lease: if flags & 8 == 0 { 0 } else { self.lease() },
            prev_kv: flags & 1 != 0,
            ignore_value: flags & 6 == 6,
            ignore_lease: flags & 48 == 48,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = (self.short_key(), self.end());
        DeleteRangeRequest { key, range_end, prev_kv: self.byte() < 128 }
    }

    fn range_at(&mut self, revision: i64) -> RangeRequest {
        RangeRequest {
            key: self.short_key(),
            range_end: self.end(),
            limit: self.signed_near(2),
            revision: self.signed_near(revision),
            sort_order: i32::from(self.below(4)),
            sort_target: i32::from(self.below(6)),
            count_only: self.below(8) == 0,
            keys_only: self.below(8) == 0,
            ..RangeRequest::default()
        }
    }

    fn txn(&mut self, revision: i64, depth: u8) -> TxnRequest {
        let compare = (0..self.below(3)).map(|_| self.compare(revision)).collect();
        let mut branch = || (0..self.below(4)).map(|_| self.request_op(revision, depth)).collect();
        let (success, failure) = (branch(), branch());
        TxnRequest { compare, success, failure }
    }

    fn request_op(&mut self, revision: i64, depth: u8) -> RequestOp {
        let request = match self.below(9) {
            0..3 => Request::RequestPut(self.put()),
            3..5 => Request::RequestDeleteRange(self.delete()),
            5 => Request::RequestRange(self.range_at(revision)),
            6..8 if depth > 0 => Request::RequestTxn(self.txn(revision, depth - 1)),
            _ => return RequestOp { request: None },
        };
        RequestOp { request: Some(request) }
    }

    fn compare(&mut self, revision: i64) -> Compare {
        let (target, number) = (self.below(6), self.signed_near(revision));
        let target_union = match self.below(8) {
            0 => TargetUnion::Value(self.piece()),
            1 => TargetUnion::Lease(number),
            2 => TargetUnion::Version(number),
            3..5 => TargetUnion::CreateRevision(number),
            _ => TargetUnion::ModRevision(number),
        };
        Compare {
            result: i32::from(self.below(5)),
            target: i32::from(target),
            key: self.short_key(),
            range_end: self.end(),
            target_union: Some(target_union),
        }
    }

    fn change(&mut self) -> Change {
        let id = u64::from(self.below(4));
        let peer_urls = vec![format!("http://10.0.0.{}:2380", self.below(4))];
        match self.below(5) {
            0 | 1 => {
                let is_learner = self.byte() < 128;
                Change::Add(Member { id, peer_urls, is_learner, ..Member::default() })
            }
            2 => Change::Promote(id),
            3 => Change::Update { id, peer_urls },
            _ => Change::Remove(id),
        }
    }
}
