//! What this member's clients did to the store, counted from answers: `etcd_mvcc_*_total`.
//!
//! - What failed did nothing and is not counted. What a member does by itself (expiry) is not seen
//!   here either.
//! - The bytes of a put in a nested transaction are not counted, only the put.

use crate::metrics::Metrics;
use crate::pb::request_op::Request;
use crate::pb::response_op::Response;
use crate::pb::{PutRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse};

/// Bytes a put brings.
pub fn put_bytes(request: &PutRequest) -> i64 {
    (request.key.len() + request.value.len()) as i64
}

/// A put was done.
pub fn put(metrics: &Metrics, bytes: i64) {
    metrics.mvcc_puts.inc();
    metrics.mvcc_put_bytes.add(bytes);
}

/// Bytes each branch of a transaction would put: the failing one, the succeeding one.
pub fn branch_bytes(request: &TxnRequest) -> [i64; 2] {
    let bytes = |ops: &[RequestOp]| {
        let puts = ops.iter().filter_map(|op| match &op.request {
            Some(Request::RequestPut(put)) => Some(put_bytes(put)),
            _ => None,
        });
        puts.sum()
    };
    [bytes(&request.failure), bytes(&request.success)]
}

/// A transaction was done.
pub fn txn(metrics: &Metrics, bytes: [i64; 2], response: &TxnResponse) {
    let mut done = Done::default();
    done.add(&response.responses);
    metrics.mvcc_put_bytes.add(bytes[usize::from(response.succeeded)]);
    metrics.mvcc_puts.inc_by(done.puts);
    metrics.mvcc_deletes.inc_by(done.deletes);
    metrics.mvcc_ranges.inc_by(done.ranges);
    // As in etcd, what does one thing is that thing and no transaction.
    if done.puts + done.deletes + done.ranges > 1 {
        metrics.mvcc_txns.inc();
    }
}

#[derive(Default)]
struct Done {
    puts: u64,
    deletes: u64,
    ranges: u64,
}

impl Done {
    fn add(&mut self, responses: &[ResponseOp]) {
        for op in responses {
            match &op.response {
                Some(Response::ResponseRange(_)) => self.ranges += 1,
                Some(Response::ResponsePut(_)) => self.puts += 1,
                Some(Response::ResponseDeleteRange(_)) => self.deletes += 1,
                Some(Response::ResponseTxn(nested)) => self.add(&nested.responses),
                None => {}
            }
        }
    }
}
