//! Tests of the store.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::pb;
use crate::span::Span;
use crate::storage::engine::Engine;
use crate::storage::mem::Mem;

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
    let engine: Arc<dyn Engine> = Arc::new(Mem::new());
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
