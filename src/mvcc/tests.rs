//! Tests of the store.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::error::Fault;
use crate::pb;
use crate::span::Span;
use crate::storage::engine::{self, Engine, Table, Visit, Write};

type Tables = BTreeMap<(Table, Bytes), Bytes>;

#[derive(Debug, Default)]
pub struct Mem(Mutex<Arc<Tables>>);

#[derive(Debug)]
struct MemView(Arc<Tables>);

impl Engine for Mem {
    fn name(&self) -> &'static str {
        "mem"
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Fault> {
        let mut tables = self.0.lock();
        let tables = Arc::make_mut(&mut tables);
        for write in writes.iter().cloned() {
            match write {
                Write::Put { table, key, value } => tables.insert((table, key), value),
                Write::Delete { table, key } => tables.remove(&(table, key)),
            };
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn engine::View>, Fault> {
        Ok(Box::new(MemView(Arc::clone(&self.0.lock()))))
    }

    fn size_bytes(&self) -> Result<u64, Fault> {
        Ok(0)
    }
}

impl engine::View for MemView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(self.0.get(&(table, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Fault> {
        let from = Bound::Included((table, Bytes::copy_from_slice(from)));
        for ((found, key), value) in self.0.range((from, Bound::Unbounded)) {
            if *found != table || to.is_some_and(|to| &key[..] >= to) {
                break;
            }
            if visit(key, value)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

fn all(revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Default::default()
    }
}

#[test]
fn a_store_survives_checkpoint_and_restart() {
    let engine: Arc<dyn Engine> = Arc::new(Mem::default());
    let mut store = Store::open(Arc::clone(&engine)).unwrap();
    let reader = store.reader();
    for round in 0..1200 {
        let mut txn = store.begin();
        txn.put(format!("key{}", round % 10).as_bytes(), b"value", 0);
        if round % 100 == 99 {
            txn.delete_range(&Span::new("key3".into(), "key5".into()));
        }
        assert_eq!(txn.end().revision, round + 2);
        store.publish();
        if round % 37 == 0 {
            let batch = store.take_writes();
            let mut writes = Vec::new();
            batch.writes(&mut writes);
            engine.commit(&writes).unwrap();
            reader.checkpointed(batch.revision());
        }
    }
    let mut writes = Vec::new();
    store.take_writes().writes(&mut writes);
    engine.commit(&writes).unwrap();
    let reopened = Store::open(engine).unwrap();
    assert_eq!(reopened.revision(), store.revision());
    for at in 1..=store.revision() {
        let answer = reader.range(&all(at)).unwrap();
        assert_eq!(reopened.reader().range(&all(at)).unwrap(), answer);
    }
}
