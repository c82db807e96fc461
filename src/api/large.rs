//! Ranges of many keys or many bytes: answered piece by piece, on threads of their own.
//!
//! The answer to a range is one message, and its length is told first. So the rows are read twice:
//! once to know how long they are, by one of [`limits::LARGE_RANGES_MAX`] that may do so at a time,
//! and once as the client takes them. Memory is a page, whatever the size of the answer and however
//! slow its reader; a short answer is kept from the first reading. What no page can say, because it
//! is sorted or filtered, is made whole, by one at a time, and charged to its client.
//!
//! The index is pinned, the rows are not: a compaction that overtakes a slow reader ends its answer
//! with `Compacted`, as it ends a streamed one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use prost::Message as _;
use prost::encoding::encode_varint;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

use super::{status, validate};
use crate::error::{Error, Failure};
use crate::limits;
use crate::mvcc::{Pages, View};
use crate::node::{Account, Charge, Handle};
use crate::pb::range_request::SortTarget;
use crate::pb::request_op::Request as Op;
use crate::pb::{RangeRequest, RangeResponse, RequestOp, TxnRequest};

/// Bytes of a page; the first ones are smaller.
const PAGE_BYTES: usize = 64 * 1024;
/// Rows up to here are copied into an answer with others.
const ROW_COPIED_BYTES: usize = 4 * 1024;
/// The field of rows in a range's response, and that its value has a length.
const ROW_TAG: u8 = 2 << 3 | 2;
/// What is not compressed, and the length of a message.
const PREFIX_BYTES: usize = 5;

/// The turns of large ranges; cloned per worker.
#[derive(Clone, Debug)]
pub(super) struct Large {
    turns: Arc<Semaphore>,
}

impl Large {
    pub fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(limits::LARGE_RANGES_MAX)) }
    }

    /// Answers a validated range that is large.
    pub async fn answer(&self, node: &Handle, request: RangeRequest) -> Result<Answer, Error> {
        // Without an order there is still one, if the target is not the key.
        let by_key = request.sort_target() == SortTarget::Key;
        let paged = by_key && validate::range_stream(&request).is_ok();
        let all = u32::try_from(limits::LARGE_RANGES_MAX).expect("a few");
        let turn = self.turns.clone().acquire_many_owned(if paged { 1 } else { all });
        let turn = tokio::time::timeout(node.limits().request_timeout, turn).await;
        let turn = turn.map_err(|_| Error::RequestTooManyRequests)?.map_err(|_| Error::Stopped)?;
        let node = node.clone();
        let made = tokio::task::spawn_blocking(move || make(&node, &request, paged, turn)).await;
        made.map_err(|_| Error::Stopped)?
    }
}

impl Large {
    /// The next page of a streamed range, which is long.
    pub async fn next_page(
        &self,
        node: &Handle,
        mut pages: Pages,
    ) -> Result<(Pages, Result<Option<RangeResponse>, Error>), Error> {
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Error::Stopped)?;
        let node = node.clone();
        let read = tokio::task::spawn_blocking(move || {
            let page = node.settle(pages.next_page());
            drop(turn);
            (pages, page)
        });
        read.await.map_err(|_| Error::Stopped)
    }
}

/// Whether a range has so many keys that it should not be answered between two others.
pub(super) fn is_long(view: &View, request: &RangeRequest) -> bool {
    let keys_max = limits::SHORT_RANGE_KEYS_MAX;
    if request.range_end.is_empty() || request.count_only || (1..=keys_max).contains(&request.limit)
    {
        return false;
    }
    // To count the keys of the past is to walk along them.
    request.revision > 0 || view.count(request) > keys_max
}

/// Refuses a transaction whose ranges answer too many keys: it is made at once, and where it
/// writes, between two others.
pub(super) fn check_txn(node: &Handle, txn: &TxnRequest) -> Result<(), Error> {
    if keys(node, txn) > limits::TXN_KEYS_MAX { Err(Error::TooManyOps) } else { Ok(()) }
}

/// How many keys a transaction's ranges may answer, whichever of its branches is taken. Most have
/// no range of many keys, and look at nothing here.
fn keys(node: &Handle, txn: &TxnRequest) -> i64 {
    let of = |op: &RequestOp| match &op.request {
        Some(Op::RequestRange(range)) if !range.range_end.is_empty() && !range.count_only => {
            let count = node.reader().view().count(range);
            if range.limit > 0 { count.min(range.limit) } else { count }
        }
        Some(Op::RequestTxn(txn)) => keys(node, txn),
        _ => 0,
    };
    let branch = |ops: &[RequestOp]| ops.iter().map(of).fold(0, i64::saturating_add);
    branch(&txn.success).max(branch(&txn.failure))
}

fn make(
    node: &Handle,
    request: &RangeRequest,
    paged: bool,
    turn: OwnedSemaphorePermit,
) -> Result<Answer, Error> {
    let made = if paged { pages(node, request) } else { node.settle(whole(node, request)) };
    node.metrics().mvcc_ranges.inc();
    drop(turn);
    made
}

/// Reads all pages to know how long they are.
fn pages(node: &Handle, request: &RangeRequest) -> Result<Answer, Error> {
    let view = node.reader().view();
    let mut pages = view.clone().pages(request, PAGE_BYTES)?;
    let mut answer = Answer::new(node);
    let mut is_kept = true;
    while let Some(mut page) = node.settle(pages.next_page())? {
        node.complete_last(&mut page.header);
        if is_kept {
            answer.pieces.push_back(page.encode_to_vec().into());
        }
        answer.bytes += page.encoded_len();
        if is_kept && answer.bytes > limits::SHORT_RANGE_BYTES_MAX {
            is_kept = false;
            answer.pieces.clear();
            answer.pages = Some(view.clone().pages(request, PAGE_BYTES)?);
        }
    }
    Ok(answer)
}

/// Makes all of an answer.
fn whole(node: &Handle, request: &RangeRequest) -> Result<Answer, Failure> {
    let mut response = node.reader().view().range(request)?;
    node.complete(&mut response.header);
    Ok(Answer::of(node, response))
}

/// Whether a response is so long that it should not be copied.
pub(super) fn is_bulky(response: &RangeResponse) -> bool {
    response.kvs.iter().map(Bytes::len).sum::<usize>() > PAGE_BYTES
}

/// An answer of known length.
pub(super) struct Answer {
    node: Handle,
    /// The length of the message.
    bytes: usize,
    prefixed: bool,
    /// What is at hand of it; pieces of one message, each with some of its fields.
    pieces: VecDeque<Bytes>,
    /// What is yet to be read.
    pages: Option<Pages>,
    sent_bytes: usize,
    /// Whether others had their turn since the last piece.
    gave_way: bool,
    ended: bool,
    /// What is kept at hand.
    charge: Option<Charge>,
}

impl Answer {
    fn new(node: &Handle) -> Self {
        Self {
            node: node.clone(),
            bytes: 0,
            prefixed: false,
            pieces: VecDeque::new(),
            pages: None,
            sent_bytes: 0,
            gave_way: false,
            ended: false,
            charge: None,
        }
    }

    /// A response, with its large rows as they are.
    pub fn of(node: &Handle, mut response: RangeResponse) -> Self {
        let rows = std::mem::take(&mut response.kvs);
        let mut answer = Self::new(node);
        let mut small = BytesMut::from(&response.encode_to_vec()[..]);
        for row in rows {
            small.put_u8(ROW_TAG);
            encode_varint(row.len() as u64, &mut small);
            if row.len() < ROW_COPIED_BYTES {
                small.extend_from_slice(&row);
            }
            if row.len() >= ROW_COPIED_BYTES || small.len() >= PAGE_BYTES {
                answer.push(std::mem::take(&mut small).freeze());
            }
            if row.len() >= ROW_COPIED_BYTES {
                answer.push(row);
            }
        }
        answer.push(small.freeze());
        answer
    }

    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Whether a message of this length can be told.
    fn prefix(&self) -> Result<Bytes, Status> {
        let length = u32::try_from(self.bytes).map_err(|_| {
            Status::resource_exhausted(format!("grpc: message too large ({} bytes)", self.bytes))
        })?;
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
        prefix.put_u8(0);
        prefix.put_u32(length);
        Ok(prefix.freeze())
    }

    /// The next piece of the message; none behind its last.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if !std::mem::replace(&mut self.prefixed, true) {
            return self.prefix().map(Some);
        }
        if let Some(piece) = self.pieces.pop_front() {
            return Ok(Some(piece));
        }
        let Some(pages) = &mut self.pages else { return Ok(None) };
        let page = self.node.settle(pages.next_page()).map_err(|error| status::status(&error))?;
        let Some(mut page) = page else { return Ok(None) };
        self.node.complete_last(&mut page.header);
        let piece = page.encode_to_vec();
        self.sent_bytes += piece.len();
        if self.sent_bytes > self.bytes {
            return Err(Status::internal("the term changed while the range was sent; ask again"));
        }
        Ok(Some(piece.into()))
    }
}

/// Where a service leaves an answer for the router, which puts it in place of an empty one.
#[derive(Clone)]
pub(super) struct Slot(Arc<Mutex<Option<Answer>>>);

impl Slot {
    /// An empty response that an answer is left for.
    pub fn left(answer: Answer) -> tonic::Response<RangeResponse> {
        let mut response = tonic::Response::new(RangeResponse::default());
        response.extensions_mut().insert(Self(Arc::new(Mutex::new(Some(answer)))));
        response
    }

    /// A response with the answer that was left for it, if there is one.
    pub fn emptied(mut response: Response<Body>, account: &Account) -> Response<Body> {
        let left = response.extensions_mut().remove::<Self>();
        match left.and_then(|slot| slot.0.lock().take()) {
            Some(mut answer) => {
                let kept = answer.pieces.iter().map(Bytes::len).sum();
                answer.charge = Some(account.charge(kept));
                response.map(|_| Body::new(answer))
            }
            None => response,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // A client that takes much at once would have page after page read, and others who share
        // this thread would wait for all of them.
        self.gave_way = self.pages.is_some() && !self.gave_way;
        if self.gave_way {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let end = match self.next() {
            Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
            Ok(None) => Status::ok(""),
            Err(status) => status,
        };
        self.ended = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(end.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}
