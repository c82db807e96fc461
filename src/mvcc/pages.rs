//! Pages: a long range, answered piece by piece from one pinned state.
//!
//! What RangeStream sends. The first page has ten keys; a page much smaller than the size aimed at
//! makes the next twice as long, one much larger half as long. All pages but the last carry only
//! rows; the last also says the revision, the count and whether a limit cut the range short.
//!
//! The state is pinned, the rows are not: a compaction that overtakes a slow stream ends it with
//! [`Error::Compacted`](crate::error::Error::Compacted), as in etcd.

use bytes::Bytes;

use super::reader::View;
use super::row::Fields;
use crate::error::{Error, Failure};
use crate::pb;
use crate::span::Span;

/// Keys in the first page.
const FIRST_PAGE: i64 = 10;

/// Keys from which a page takes long to make.
const LONG_PAGE: i64 = 1000;
/// What a page may be longer than was aimed at, beside a few times as long.
const SLACK_BYTES: usize = 1024 * 1024;

/// A range being answered page by page.
#[derive(Debug)]
pub struct Pages {
    view: View,
    /// The request, its key moved on behind the last page and its revision resolved.
    request: pb::RangeRequest,
    /// Keys in the next page.
    page: i64,
    /// Keys that may still be sent.
    left: i64,
    count: i64,
    size_bytes: usize,
    done: bool,
}

impl View {
    /// Answers a range in pages of about `size_bytes`.
    ///
    /// The request's sort and filters are not looked at: the API refuses them.
    pub fn pages(self, request: &pb::RangeRequest, size_bytes: usize) -> Result<Pages, Error> {
        let at = self.state().resolve(request.revision)?;
        let span = Span::new(request.key.clone(), request.range_end.clone());
        let count = self.published.index.count(&span, at);
        let revision = if request.revision > 0 { request.revision } else { self.revision() };
        let request = pb::RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            limit: request.limit,
            revision,
            keys_only: request.keys_only,
            count_only: request.count_only,
            ..Default::default()
        };
        let left = if request.limit > 0 { request.limit } else { i64::MAX };
        Ok(Pages { view: self, request, page: FIRST_PAGE, left, count, size_bytes, done: false })
    }
}

impl Pages {
    /// Whether the next page takes long to make.
    pub fn is_long(&self) -> bool {
        self.page.min(self.left) > LONG_PAGE
    }

    /// The next page; `None` behind the last.
    pub fn next_page(&mut self) -> Result<Option<pb::RangeResponse>, Failure> {
        if self.done {
            return Ok(None);
        }
        let mut page = loop {
            self.request.limit = self.page.min(self.left);
            // Small rows may be followed by large ones.
            let bytes_max =
                if self.page > 1 { 4 * self.size_bytes + SLACK_BYTES } else { usize::MAX };
            match self.view.range_within(&self.request, bytes_max)? {
                Some(page) => break page,
                None => self.page = (self.page / 8).max(1),
            }
        };
        self.left -= page.kvs.len() as i64;
        self.done = !page.more || self.left == 0;
        if self.done {
            page.count = self.count;
            return Ok(Some(page));
        }
        if let Some(row) = page.kvs.last() {
            self.request.key = successor(Fields::decode(row)?.key);
        }
        let sent: usize = page.kvs.iter().map(Bytes::len).sum();
        if sent < self.size_bytes / 2 {
            self.page = self.page.saturating_mul(2);
        } else if sent > self.size_bytes * 2 {
            self.page = (self.page / 2).max(1);
        }
        Ok(Some(pb::RangeResponse { header: None, more: false, count: 0, ..page }))
    }
}

/// The smallest key above `key`.
fn successor(key: &[u8]) -> Bytes {
    Bytes::from([key, &[0]].concat())
}
