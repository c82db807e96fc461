//! The body of the fuzz target `state_rows`: rows of every table, as a snapshot or an engine may
//! hold them, and all that reads them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::restore::check;
use super::rewrite::{Bump, Membership, Rewrite, rewrite};
use super::snapshot::{Format, NotSound, read_status};
use crate::bolt::{self, ReadAt, Reader, Row};
use crate::input::Input;
use crate::machine::{Entry, Machine, Settings};
use crate::mvcc::{Revision, Step};
use crate::pb::internal_raft_request::Command;
use crate::pb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, KeyValue, LeaseRevokeRequest,
    PutRequest, RangeRequest, leasepb,
};
use crate::storage::engine::{Engine, Table, Write};
use crate::storage::mem::Mem;
use crate::storage::{keys, state};

/// Makes rows of `bytes`, writes them as a file, reads that in every way there is, restores it, and
/// starts on what was restored. What cannot be read is refused; what is taken can be worked with.
pub fn fuzz_rows(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let engine = engine(bytes);
    let file = file(&engine);
    let source: &dyn ReadAt = &&file[..];
    let reader = Reader::open(source).expect("a file that was written opens");
    let report = bolt::check(&reader).expect("a file that was written is sound");
    let read: Vec<Row> = reader.table_rows().map(|row| row.expect("it is sound")).collect();
    assert_eq!(report.rows, read.len() as u64);
    assert_eq!(by_place(read.iter().cloned()), rows(&engine), "what was written is read");
    match read_status(source) {
        Ok(status) => {
            for format in [Format::Simple, Format::Json, Format::Table, Format::Fields] {
                assert!(!status.print(format).is_empty());
            }
        }
        Err(error) => assert!(error.downcast_ref::<NotSound>().is_none(), "{error}"),
    }
    work_on(&engine);
    if let Some(restored) = restored(*how, read) {
        work_on(&restored);
    }
}

/// The engine that a restore fills, if it takes the rows.
fn restored(how: u8, rows: Vec<Row>) -> Option<Mem> {
    let amount = [0, 1, 1 << 40, i64::MAX as u64][usize::from(how) % 4];
    let bump = Bump::from_flags(amount, amount > 0).expect("both or none");
    let membership = Membership {
        members: BTreeMap::from([("1".into(), r#"{"id":1}"#.into())]),
        consistent_index: 1,
        term: 1,
        conf_state: Some(keys::ConfState::default().encode().into()),
    };
    let change = Rewrite { bump, membership: (how & 4 == 0).then_some(membership) };
    let mut writes = Vec::new();
    for row in rewrite(rows.into_iter().map(Ok), change) {
        let row = row.ok()?;
        check(&row, "a file".as_ref()).ok()?;
        writes.push(Write::Put { table: row.table, key: row.key, value: row.value });
    }
    let engine = Mem::new();
    engine.commit(&writes).expect("memory takes everything");
    Some(engine)
}

/// Starts on an engine, unless it is refused, and does a bit of everything.
pub(crate) fn work_on(engine: &Mem) {
    state::read_all(engine).expect("memory reads everything");
    state::hash(&*engine.view().expect("memory has a view")).expect("memory reads everything");
    let Ok(mut machine) = open(engine) else { return };
    let reader = machine.reader();
    let all = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    };
    let before = reader.range(&all).map(|answer| (answer.count, answer.kvs.len()));
    let oldest = RangeRequest { revision: reader.compact_revision().max(1), ..all.clone() };
    let (_, _) = (reader.range(&oldest).is_ok(), reader.hash_kv(0).is_ok());
    let _ = reader.view().history(1, i64::MAX, 100, &mut |_| ());
    // Rows that contradict each other may be found out now.
    if before.is_err() || machine.applied().index == u64::MAX {
        return;
    }
    let leases: Vec<i64> = machine.leases().leases().map(|(id, _)| id).collect();
    let revoke = |id| Command::LeaseRevoke(LeaseRevokeRequest { id });
    let mut commands: Vec<_> = leases.into_iter().take(4).map(revoke).collect();
    commands.push(Command::Put(PutRequest { key: "new".into(), ..PutRequest::default() }));
    let (key, range_end) = (all.key.clone(), all.range_end.clone());
    commands.push(Command::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: true }));
    commands.push(Command::Compaction(CompactionRequest::default()));
    for mut command in commands {
        if let Command::Compaction(request) = &mut command {
            request.revision = machine.store().revision();
        }
        let request = InternalRaftRequest { command: Some(command), ..Default::default() };
        let (index, term) = (machine.applied().index + 1, machine.applied().term);
        // Rows that were not looked at when it started may be damaged: then the node stops.
        if machine.apply(Entry { index, term, request }).is_err() {
            return;
        }
    }
    settle(&mut machine, engine);
    let again = open(engine).expect("what was written is read");
    let read = |machine: &Machine| machine.reader().range(&all).expect("it is little, and new");
    assert_eq!(read(&again), read(&machine), "after a restart");
    assert_eq!(again.reader().revision(), machine.reader().revision(), "after a restart");
}

fn open(engine: &Mem) -> Result<Machine, crate::error::Fault> {
    let settings = Settings { member_id: 1, quota_bytes: None, learners_max: 1 };
    Machine::open(Arc::new(engine.clone()), settings, None)
}

/// Ends compactions, and writes everything.
fn settle(machine: &mut Machine, engine: &Mem) {
    loop {
        machine.store_mut().publish();
        if let Some(job) = machine.store_mut().compaction_job() {
            let _ = job.run();
        }
        let step = machine.store_mut().compact_step(100);
        let mut checkpoint = machine.take_checkpoint(false);
        engine.commit(&checkpoint.writes()).expect("memory takes everything");
        machine.reader().checkpointed(checkpoint.revision());
        if step == Step::Done {
            return;
        }
    }
}

type Rows = BTreeMap<(Table, Bytes), Bytes>;

fn by_place(rows: impl Iterator<Item = Row>) -> Rows {
    rows.map(|row| ((row.table, row.key), row.value)).collect()
}

fn rows(engine: &Mem) -> Rows {
    let view = engine.view().expect("memory has a view");
    let mut rows = Rows::new();
    for table in Table::ALL {
        view.scan(table, &[], None, &mut |key, value| {
            let place = (table, Bytes::copy_from_slice(key));
            rows.insert(place, Bytes::copy_from_slice(value));
            Ok(ControlFlow::Continue(()))
        })
        .expect("memory reads everything");
    }
    rows
}

/// The rows of an engine as a bbolt file.
pub(crate) fn file(engine: &Mem) -> Vec<u8> {
    let view = engine.view().expect("memory has a view");
    let mut writer = bolt::Writer::plan(view).expect("memory reads everything");
    let mut file = Vec::new();
    while let Some(piece) = writer.next_chunk().expect("memory reads everything") {
        file.extend_from_slice(&piece);
    }
    file
}

/// An engine with the rows that `bytes` describe.
pub(crate) fn engine(bytes: &[u8]) -> Mem {
    let (engine, mut input) = (Mem::new(), Input(bytes));
    let mut writes = Vec::new();
    while !input.0.is_empty() {
        let (table, key, value) = input.row();
        if !key.is_empty() {
            writes.push(Write::Put { table, key, value });
        }
    }
    engine.commit(&writes).expect("memory takes everything");
    engine
}

impl Input<'_> {
    /// Mostly small; sometimes as large as it gets.
    fn number(&mut self) -> i64 {
        match self.byte() {
            byte @ 0..240 => i64::from(byte % 16),
            240..244 => i64::MAX,
            244..247 => i64::MAX - 1,
            247..250 => i64::MIN,
            _ => i64::from_be_bytes([0; 8].map(|_| self.byte())),
        }
    }

    /// A row that is mostly as it should be.
    fn row(&mut self) -> (Table, Bytes, Bytes) {
        let kind = self.byte();
        let table = Table::ALL[usize::from(kind) % Table::COUNT];
        if kind >= 240 {
            return (table, self.piece(), self.piece());
        }
        match table {
            Table::Key => {
                let (key, value) = self.key_row();
                (table, key, value)
            }
            Table::Lease => {
                let id = self.number();
                let (ttl, remaining_ttl) = (self.number(), self.number());
                let row = leasepb::Lease { id, ttl, remaining_ttl }.encode_to_vec();
                (table, Bytes::copy_from_slice(&id.to_be_bytes()), row.into())
            }
            Table::Alarm => {
                let kind = i32::from(self.byte() % 4);
                let alarm = crate::pb::AlarmMember { member_id: 1, alarm: kind };
                (table, alarm.encode_to_vec().into(), Bytes::new())
            }
            Table::Members | Table::MembersRemoved => {
                let id = self.byte() % 4;
                let rest = String::from_utf8_lossy(&self.piece()).into_owned();
                let row = match self.byte() {
                    0..128 => format!(r#"{{"id":{id},"peerURLs":["http://10.0.0.{id}:2380"]}}"#),
                    _ => format!(r#"{{"id":{id}{rest}}}"#),
                };
                (table, format!("{id:x}").into(), row.into())
            }
            Table::Cluster => {
                let row = if kind < 128 { Bytes::from_static(b"3.7.0") } else { self.piece() };
                (table, Bytes::from_static(keys::CLUSTER_VERSION), row)
            }
            Table::Meta => {
                let (key, value) = self.meta_row();
                (table, key, value)
            }
            Table::Auth => (table, Bytes::from_static(keys::AUTH_ENABLED), self.piece()),
            Table::AuthUsers | Table::AuthRoles => (table, self.piece(), self.piece()),
        }
    }

    fn key_row(&mut self) -> (Bytes, Bytes) {
        let (main, sub, how) = (self.number().max(0), self.byte() % 4, self.byte());
        let key = Revision::new(main, u32::from(sub)).row_key(how & 7 == 7);
        let names: [&[u8]; 6] = [b"a", b"a", b"b", b"c/d", b"", b"\xff"];
        let name = Bytes::from_static(names[usize::from(how >> 3) % names.len()]);
        let row = KeyValue {
            key: name,
            create_revision: self.number(),
            mod_revision: if how < 128 { main } else { self.number() },
            version: self.number(),
            value: Bytes::from_static(b"value"),
            lease: if how & 24 == 24 { self.number() } else { 0 },
        };
        (key, row.encode_to_vec().into())
    }

    fn meta_row(&mut self) -> (Bytes, Bytes) {
        let names = [
            keys::CONSISTENT_INDEX,
            keys::TERM,
            keys::CONF_STATE,
            keys::SCHEDULED_COMPACT_REV,
            keys::FINISHED_COMPACT_REV,
            keys::STORAGE_VERSION,
        ];
        let (place, how) = (usize::from(self.byte()) % names.len(), self.byte());
        let value = match place {
            _ if how >= 224 => self.piece(),
            0 | 1 => Bytes::copy_from_slice(&keys::encode_u64(self.number() as u64)),
            2 => {
                let voters = vec![1, u64::from(how)];
                keys::ConfState { voters, ..keys::ConfState::default() }.encode().into()
            }
            3 | 4 => {
                let main = self.number().max(0);
                Bytes::copy_from_slice(&keys::encode_compact_revision(main))
            }
            _ => Bytes::from_static(b"3.7.0"),
        };
        (Bytes::from_static(names[place]), value)
    }
}
