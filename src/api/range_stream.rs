//! `KV.RangeStream`: a range in pages that all show the same revision.
//!
//! Pages start at ten keys and grow or shrink with their encoded size, as etcd's do, so memory
//! stays flat however long the range. Only the last page has header, `more` and `count`.

use bytes::Bytes;
use prost::Message as _;
use tokio_stream::Stream;
use tonic::Status;

use super::status;
use crate::error::Failure;
use crate::mvcc::View;
use crate::mvcc::row::Fields;
use crate::node::Handle;
use crate::pb::{RangeRequest, RangeResponse, RangeStreamResponse};

/// Keys of the first page.
const FIRST_PAGE_KEYS: i64 = 10;

type Item = Result<RangeStreamResponse, Status>;

/// The pages of a validated request; each is read when the client asks for it.
pub fn pages(node: &Handle, request: RangeRequest) -> impl Stream<Item = Item> + use<> {
    let node = node.clone();
    let mut pages = Pages::new(node.reader().view(), request, node.limits().request_bytes_max);
    tokio_stream::iter(std::iter::from_fn(move || {
        let page = pages.next_page()?;
        Some(match node.settle(page) {
            Ok(mut page) => {
                node.complete_last(&mut page.header);
                Ok(RangeStreamResponse { range_response: Some(page) })
            }
            Err(error) => {
                pages.ended = true;
                Err(status::status(&error))
            }
        })
    }))
}

/// A range read page by page from one view.
struct Pages {
    view: View,
    request: RangeRequest,
    page_bytes: usize,
    page_keys: i64,
    /// How many keys may still be sent, if the request limits them.
    left: Option<i64>,
    /// How many keys the whole range has, once the first page was read.
    count: Option<i64>,
    ended: bool,
}

impl Pages {
    fn new(view: View, mut request: RangeRequest, page_bytes: usize) -> Self {
        // etcd takes a target without an order for none at all.
        (request.sort_order, request.sort_target) = (0, 0);
        let left = (request.limit > 0).then_some(request.limit);
        let page_keys = FIRST_PAGE_KEYS;
        Self { view, request, page_bytes, page_keys, left, count: None, ended: false }
    }

    fn next_page(&mut self) -> Option<Result<RangeResponse, Failure>> {
        (!self.ended).then(|| self.read())
    }

    fn read(&mut self) -> Result<RangeResponse, Failure> {
        let keys = self.left.map_or(self.page_keys, |left| left.min(self.page_keys));
        self.request.limit = keys;
        let mut page = self.view.range(&self.request)?;
        let count = *self.count.get_or_insert(page.count);
        let sent = page.kvs.len() as i64;
        self.left = self.left.map(|left| left - sent);
        if self.request.count_only || !page.more || self.left == Some(0) {
            self.ended = true;
            page.count = count;
            return Ok(page);
        }
        if let Some(last) = page.kvs.last() {
            self.request.key = after(last)?;
        }
        (page.header, page.more, page.count) = (None, false, 0);
        self.resize(page.encoded_len());
        Ok(page)
    }

    fn resize(&mut self, bytes: usize) {
        if bytes < self.page_bytes / 2 {
            self.page_keys = self.page_keys.saturating_mul(2);
        } else if bytes > self.page_bytes.saturating_mul(2) {
            self.page_keys = (self.page_keys / 2).max(1);
        }
    }
}

/// The first key behind a row's.
fn after(row: &Bytes) -> Result<Bytes, Failure> {
    let key = Fields::decode(row)?.key;
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Ok(next.into())
}
