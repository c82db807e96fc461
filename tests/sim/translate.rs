//! Requests and answers between the judge's words and the wire's.

use bytes::Bytes;
use kvorum::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum::pb::request_op::Request as Op;
use kvorum::pb::response_op::Response as OpAnswer;
use kvorum::pb::{
    Compare as PbCompare, DeleteRangeRequest, EventType, KeyValue, PutRequest, RangeRequest,
    RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchResponse,
};
use prost::Message as _;

use crate::checker::history::{
    Compare, Event, Kind, Range, Reply, Request, Row, Span, Target, Txn,
};

use super::looks::Look;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn end_of(end: Option<&String>) -> Bytes {
    end.map(|end| Bytes::from(end.clone())).unwrap_or_default()
}

fn end_from(end: &Bytes) -> Option<String> {
    (!end.is_empty()).then(|| text(end))
}

pub fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, lease, ..PutRequest::default() }
}

pub fn range(range: &Range) -> RangeRequest {
    RangeRequest {
        key: range.key.clone().into(),
        range_end: end_of(range.end.as_ref()),
        limit: range.limit as i64,
        serializable: range.serializable,
        ..RangeRequest::default()
    }
}

/// A range as of a revision.
pub fn look(look: &Look) -> RangeRequest {
    RangeRequest { revision: look.at, count_only: look.count_only, ..range(&look.range) }
}

pub fn delete(span: &Span) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: span.key.clone().into(),
        range_end: end_of(span.end.as_ref()),
        ..DeleteRangeRequest::default()
    }
}

pub fn txn(txn: &Txn) -> TxnRequest {
    TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: txn.success.iter().map(op).collect(),
        failure: txn.failure.iter().map(op).collect(),
    }
}

pub fn op_of(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Op::RequestRange(range)) }
}

pub fn op(request: &Request) -> RequestOp {
    RequestOp {
        request: Some(match request {
            Request::Put { key, value } => Op::RequestPut(put(key, value, 0)),
            Request::Delete(span) => Op::RequestDeleteRange(delete(span)),
            Request::Range(wanted) => Op::RequestRange(range(wanted)),
            Request::Txn(nested) => Op::RequestTxn(txn(nested)),
        }),
    }
}

fn compare(compare: &Compare) -> PbCompare {
    let (target, union) = match &compare.target {
        Target::Version(version) => (CompareTarget::Version, TargetUnion::Version(*version)),
        Target::Create(create) => (CompareTarget::Create, TargetUnion::CreateRevision(*create)),
        Target::Mod(modified) => (CompareTarget::Mod, TargetUnion::ModRevision(*modified)),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
    };
    let result = match compare.is.as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        "<" => CompareResult::Less,
        _ => CompareResult::Greater,
    };
    PbCompare {
        result: result as i32,
        target: target as i32,
        key: compare.key.clone().into(),
        target_union: Some(union),
        ..PbCompare::default()
    }
}

/// What a transaction in the log asks for.
pub fn from_txn(txn: &TxnRequest) -> Txn {
    let ops = |ops: &[RequestOp]| ops.iter().filter_map(from_op).collect();
    let compare = txn.compare.iter().map(from_compare).collect();
    Txn { compare, success: ops(&txn.success), failure: ops(&txn.failure) }
}

pub fn from_put(put: &PutRequest) -> Request {
    Request::Put { key: text(&put.key), value: text(&put.value) }
}

pub fn from_delete(delete: &DeleteRangeRequest) -> Request {
    Request::Delete(Span { key: text(&delete.key), end: end_from(&delete.range_end) })
}

/// The revisions that the ranges of a transaction are as of.
pub fn revisions_of(txn: &TxnRequest) -> impl Iterator<Item = i64> {
    txn.success.iter().filter_map(|op| match &op.request {
        Some(Op::RequestRange(range)) if range.revision != 0 => Some(range.revision),
        _ => None,
    })
}

fn from_op(op: &RequestOp) -> Option<Request> {
    Some(match op.request.as_ref()? {
        Op::RequestPut(put) => from_put(put),
        Op::RequestDeleteRange(delete) => from_delete(delete),
        // It is judged by itself, and changes nothing.
        Op::RequestRange(range) if range.revision != 0 => return None,
        Op::RequestRange(range) => Request::Range(Range {
            key: text(&range.key),
            end: end_from(&range.range_end),
            limit: range.limit as usize,
            serializable: range.serializable,
        }),
        Op::RequestTxn(nested) => Request::Txn(from_txn(nested)),
    })
}

fn from_compare(compare: &PbCompare) -> Compare {
    let target = match &compare.target_union {
        Some(TargetUnion::Version(version)) => Target::Version(*version),
        Some(TargetUnion::CreateRevision(create)) => Target::Create(*create),
        Some(TargetUnion::ModRevision(modified)) => Target::Mod(*modified),
        Some(TargetUnion::Value(value)) => Target::Value(text(value)),
        Some(TargetUnion::Lease(_)) | None => unreachable!("the simulation compares no leases"),
    };
    let is = match compare.result() {
        CompareResult::Equal => "=",
        CompareResult::NotEqual => "!=",
        CompareResult::Less => "<",
        CompareResult::Greater => ">",
    };
    Compare { key: text(&compare.key), is: is.to_owned(), target }
}

pub fn row(bytes: &Bytes) -> Row {
    let row = KeyValue::decode(bytes.clone()).expect("a row is a row");
    Row {
        key: text(&row.key),
        value: text(&row.value),
        create: row.create_revision,
        modified: row.mod_revision,
        version: row.version,
    }
}

pub fn header_of(response: &RangeResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

pub fn has_nested(replies: &[Reply]) -> bool {
    replies.iter().any(|reply| matches!(reply, Reply::Txn { .. }))
}

pub fn rows(response: &RangeResponse) -> Reply {
    let rows = response.kvs.iter().map(row).collect();
    Reply::Range { count: response.count as usize, rows }
}

pub fn txn_reply(response: &TxnResponse) -> Reply {
    let replies = response.responses.iter().map(|one| match &one.response {
        Some(OpAnswer::ResponseRange(range)) => rows(range),
        Some(OpAnswer::ResponseDeleteRange(delete)) => {
            Reply::Delete { deleted: delete.deleted as usize }
        }
        Some(OpAnswer::ResponseTxn(nested)) => txn_reply(nested),
        Some(OpAnswer::ResponsePut(_)) | None => Reply::Put,
    });
    Reply::Txn { succeeded: response.succeeded, replies: replies.collect() }
}

/// An event that a watch heard, and the row that it replaced, if that came with it.
pub fn told(bytes: &Bytes) -> (Event, Option<Row>) {
    let event = kvorum::pb::Event::decode(bytes.clone()).expect("an event is an event");
    let kind = event.r#type();
    let previous = event.prev_kv.as_ref().map(row);
    let row = row(&event.kv.expect("an event has a row"));
    let event = match kind {
        EventType::Put => Event::Put(row),
        EventType::Delete => Event::Delete { key: row.key, modified: row.modified },
    };
    (event, previous)
}

/// What a response of a watch is.
pub fn kind(response: &WatchResponse) -> Kind {
    match response {
        WatchResponse { compact_revision: 1.., .. } => Kind::Compacted(response.compact_revision),
        WatchResponse { canceled: true, .. } => Kind::Canceled,
        WatchResponse { created: true, .. } => Kind::Created,
        WatchResponse { fragment: true, .. } => Kind::Fragment,
        _ => Kind::Plain,
    }
}
