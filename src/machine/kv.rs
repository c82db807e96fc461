//! Put, delete and range as commands of their own.
//!
//! Each runs in a write transaction of its own; [`super::txn`] runs the same functions inside one
//! that several operations share.

use bytes::Bytes;

use super::{Counts, Machine, Outcome, Reply, refused, revision_header};
use crate::error::{Error, Failure, Fault};
use crate::lease::Book;
use crate::mvcc::{Changes, Kind, State, WriteTxn, row::Fields};
use crate::pb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use crate::span::Span;

impl Machine {
    pub(super) fn range(&mut self, request: &RangeRequest) -> Result<Outcome, Fault> {
        let response = refused(self.store.state().range(request))?;
        let counts = Counts::of_range();
        Ok(Outcome { counts, ..Outcome::of(response.map(Reply::Range)) })
    }

    pub(super) fn put(&mut self, request: PutRequest) -> Result<Outcome, Fault> {
        if let Err(error) = may_put(&self.store.state(), &self.leases, &request) {
            return Ok(Outcome::of(Err(error)));
        }
        let (mut txn, mut counts) = (self.store.begin(), Counts::default());
        let response = put(&mut txn, &request, &mut counts)?;
        let changes = txn.end();
        self.note_put(&request);
        Ok(Outcome::changed(Reply::Put(response), changes, counts.end()))
    }

    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<Outcome, Fault> {
        let (mut txn, mut counts) = (self.store.begin(), Counts::default());
        let response = delete_range(&mut txn, request, &mut counts)?;
        let changes = txn.end();
        self.note_deletes(&changes);
        Ok(Outcome::changed(Reply::DeleteRange(response), changes, counts.end()))
    }

    /// Moves a key that was put to the lease it names, or to none.
    pub(super) fn note_put(&mut self, request: &PutRequest) {
        if request.ignore_lease {
            return;
        }
        if request.lease == 0 {
            return self.leases.detach(&request.key);
        }
        // The request's key is a slice of a whole message; the book keeps a copy of its own.
        let key = Bytes::copy_from_slice(&request.key);
        self.leases.attach(key, request.lease).expect("the lease was checked before the put");
    }

    /// Takes deleted keys off their leases.
    pub(super) fn note_deletes(&mut self, changes: &Changes) {
        for change in changes.events.iter().filter(|change| change.kind == Kind::Delete) {
            self.leases.detach(&change.key);
        }
    }
}

impl Outcome {
    /// An entry that carried no command.
    pub fn done() -> Self {
        Self::of(Ok(Reply::Done))
    }

    pub(super) fn changed(reply: Reply, changes: Changes, counts: Counts) -> Self {
        let changes = (!changes.events.is_empty()).then_some(changes);
        Self { changes, counts, ..Self::of(Ok(reply)) }
    }
}

/// What must hold before a put: what it keeps exists, and so does its lease.
pub(super) fn may_put(state: &State<'_>, leases: &Book, request: &PutRequest) -> Result<(), Error> {
    if request.lease != 0 && leases.lease(request.lease).is_none() {
        return Err(Error::LeaseNotFound);
    }
    if (request.ignore_value || request.ignore_lease) && state.get(&request.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// Whether a put needs the row that it replaces.
pub(super) fn wants_row(request: &PutRequest) -> bool {
    request.prev_kv || request.ignore_value || request.ignore_lease
}

/// Puts inside a transaction. The caller has checked [`may_put`].
pub(super) fn put(
    txn: &mut WriteTxn<'_>,
    request: &PutRequest,
    counts: &mut Counts,
) -> Result<PutResponse, Fault> {
    let before = if wants_row(request) { present_row(&txn.state(), &request.key)? } else { None };
    let kept = match &before {
        Some(row) => Fields::decode(row)?,
        None => Fields::default(),
    };
    let value = if request.ignore_value { kept.value } else { &request.value };
    let lease = if request.ignore_lease { kept.lease } else { request.lease };
    txn.put(&request.key, value, lease);
    counts.ranges += u64::from(wants_row(request));
    counts.puts += 1;
    counts.put_bytes += (request.key.len() + value.len()) as i64;
    let prev_kv = if request.prev_kv { before } else { None };
    Ok(PutResponse { header: Some(revision_header(txn.revision())), prev_kv })
}

/// Deletes inside a transaction.
pub(super) fn delete_range(
    txn: &mut WriteTxn<'_>,
    request: &DeleteRangeRequest,
    counts: &mut Counts,
) -> Result<DeleteRangeResponse, Fault> {
    counts.ranges += u64::from(request.prev_kv);
    counts.deletes += 1;
    let prev_kvs = if request.prev_kv {
        let everything = RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            ..RangeRequest::default()
        };
        newest(txn.state().range(&everything))?.kvs
    } else {
        Vec::new()
    };
    let span = Span::new(request.key.clone(), request.range_end.clone());
    let deleted = txn.delete_range(&span);
    let header = Some(revision_header(txn.revision()));
    Ok(DeleteRangeResponse { header, deleted, prev_kvs })
}

/// The row of a live key.
fn present_row(state: &State<'_>, key: &[u8]) -> Result<Option<Bytes>, Fault> {
    match state.get(key) {
        Some(facts) => newest(state.row(facts)).map(Some),
        None => Ok(None),
    }
}

/// A read of the newest revision, which is never compacted and never in the future.
fn newest<T>(read: Result<T, Failure>) -> Result<T, Fault> {
    read.map_err(|failure| match failure {
        Failure::Fault(fault) => fault,
        Failure::Refused(error) => {
            Fault::Broken(format!("reading the newest revision was refused: {error}"))
        }
    })
}

/// A range inside a transaction; the caller has checked its revision.
pub(super) fn range(state: &State<'_>, request: &RangeRequest) -> Result<RangeResponse, Fault> {
    newest(state.range(request))
}
