//! Refusals that need no state: what a well-formed request looks like.
//!
//! Each function is one list of conditions in etcd's order, because the first broken one decides
//! the error a client sees.

use std::collections::HashSet;

use bytes::Bytes;

use crate::config::{Url, print_list};
use crate::error::Error;
use crate::pb::range_request::{SortOrder, SortTarget};
use crate::pb::request_op::Request;
use crate::pb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// A range names a key and, if it sorts, a known order and target.
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// A streamed range comes in key order and unfiltered, because chunks leave before the end is
/// known.
///
/// As in etcd, no order goes with any target, and ascending keys are no order of their own.
pub fn range_stream(request: &RangeRequest) -> Result<(), Error> {
    range(request)?;
    let plain = match request.sort_order() {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    };
    if !plain {
        return Err(Error::RangeStreamSort);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|&revision| revision != 0) {
        return Err(Error::RangeStreamFilters);
    }
    Ok(())
}

/// The peer URLs of a member to be added, in their one spelling and order.
pub fn peer_urls(urls: &[String]) -> Result<Vec<String>, Error> {
    let parsed: Result<Vec<Url>, _> = urls.iter().map(|url| Url::parse(url)).collect();
    let mut urls = print_list(&parsed.map_err(|_| Error::MemberBadURLs)?);
    urls.sort();
    if urls.is_empty() { Err(Error::MemberBadURLs) } else { Ok(urls) }
}

/// A put names a key and does not both give and ignore a value or a lease.
pub fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// A delete names a key.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    Ok(())
}

/// A transaction is not too wide, its parts are well formed, and no branch writes a key twice.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    shape(request, ops_max)?;
    written(&request.success)?;
    written(&request.failure)?;
    Ok(())
}

/// Width, keys and parts; a nested transaction may be as wide as its parent left room for.
fn shape(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let width = request.compare.len().max(request.success.len()).max(request.failure.len());
    if width > ops_max {
        return Err(Error::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => shape(request, ops_max - width)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys a list of operations puts and the spans it deletes.
#[derive(Default)]
struct Written {
    puts: HashSet<Bytes>,
    deletes: Vec<DeleteRangeRequest>,
}

impl Written {
    fn add_delete(&mut self, request: &DeleteRangeRequest) {
        // etcd's checker sees a delete from a key to the end as covering nothing; so do we, or a
        // transaction would be accepted there and refused here.
        if request.range_end[..] != [0] {
            self.deletes.push(request.clone());
        }
    }

    fn is_deleted(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|delete| match &delete.range_end[..] {
            [] => delete.key == *key,
            end => *key >= delete.key && &key[..] < end,
        })
    }

    /// Takes in a put; it may repeat one of `excused`, which belong to the other branch.
    fn add_put(&mut self, key: &Bytes, excused: &HashSet<Bytes>) -> Result<(), Error> {
        let repeated = self.puts.contains(key) && !excused.contains(key);
        if repeated || self.is_deleted(key) {
            return Err(Error::DuplicateKey);
        }
        self.puts.insert(key.clone());
        Ok(())
    }
}

/// What one branch writes, or `DuplicateKey`.
///
/// The order is etcd's and shows: this level's deletes first, then nested transactions one after
/// the other (so a nested put conflicts with deletes of earlier siblings only), then this level's
/// puts.
fn written(ops: &[RequestOp]) -> Result<Written, Error> {
    let mut written_here = Written::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            written_here.add_delete(request);
        }
    }
    let nobody = HashSet::new();
    for op in ops {
        let Some(Request::RequestTxn(request)) = &op.request else { continue };
        let (then, otherwise) = (written(&request.success)?, written(&request.failure)?);
        for key in &then.puts {
            written_here.add_put(key, &nobody)?;
        }
        for key in &otherwise.puts {
            written_here.add_put(key, &then.puts)?;
        }
        written_here.deletes.extend(then.deletes);
        written_here.deletes.extend(otherwise.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            written_here.add_put(&request.key, &nobody)?;
        }
    }
    Ok(written_here)
}
