//! Transactions: compare, choose, check, and only then write.
//!
//! ```text
//! compares, nested ones too ─▶ path ─▶ check every operation on the path ─▶ run it
//! (state before the txn)              (any refusal: nothing was written)
//! ```
//!
//! - All compares see the state before the transaction, so the whole path is known at the start.
//! - All changes share one main revision. A nested response says only the revision in its header.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::kv;
use super::{Counts, Machine, Outcome, Reply, refused, revision_header};
use crate::error::{Error, Failure, Fault};
use crate::lease::Book;
use crate::mvcc::{Facts, State, View, WriteTxn, row::Fields};
use crate::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::request_op::Request;
use crate::pb::response_op::Response;
use crate::pb::{Compare, PutRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse};
use crate::planted::{Mistake, planted};
use crate::span::Span;

/// Which branches a transaction and its nested ones take, in the order they are met.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Path {
    fn ops<'a>(&self, request: &'a TxnRequest) -> &'a [RequestOp] {
        if self.succeeded { &request.success } else { &request.failure }
    }
}

/// Whether a transaction goes through the log: whatever has a put, a delete or a transaction in it.
pub fn is_write(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_) | Request::RequestTxn(_)) => {
            true
        }
        Some(Request::RequestRange(_)) | None => false,
    })
}

/// Whether a read-only transaction may be answered from local state: all its ranges allow it.
/// One without ranges does, as in etcd.
pub fn is_serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_) | Request::RequestTxn(_))
        | None => true,
    })
}

/// Answers a transaction that only reads, from a reader's view; and what it read.
pub fn read_only(view: &View, request: &TxnRequest) -> Result<(TxnResponse, Counts), Failure> {
    let (state, mut counts) = (view.state(), Counts::default());
    let path = choose(&state, request, &mut counts)?;
    let mut responses = Vec::new();
    for op in path.ops(request) {
        let Some(Request::RequestRange(range)) = &op.request else {
            return Err(Fault::Broken("a read-only transaction writes".into()).into());
        };
        let response = state.range(range)?;
        counts.ranges += 1;
        responses.push(ResponseOp { response: Some(Response::ResponseRange(response)) });
    }
    let header = Some(revision_header(state.revision()));
    Ok((TxnResponse { header, succeeded: path.succeeded, responses }, counts.end()))
}

impl Machine {
    pub(super) fn txn(&mut self, request: TxnRequest) -> Result<Outcome, Fault> {
        let chosen = self.choose_and_check(&request);
        let (path, read) = match refused(chosen)? {
            Ok(chosen) => chosen,
            Err(error) => return Ok(Outcome::of(Err(error))),
        };
        let mut done = Done::default();
        let mut txn = self.store.begin();
        let mut response = run(&mut txn, &request, &path, &mut done)?;
        response.header = Some(revision_header(txn.revision()));
        let changes = txn.end();
        self.note_txn(&changes, &done.puts);
        let mut counts = done.counts.end();
        counts.add(read.end());
        Ok(Outcome::changed(Reply::Txn(response), changes, counts))
    }

    fn choose_and_check(&self, request: &TxnRequest) -> Result<(Path, Counts), Failure> {
        let (state, mut counts) = (self.store.state(), Counts::default());
        let path = choose(&state, request, &mut counts)?;
        check(&state, &self.leases, request, &path, &mut counts)?;
        Ok((path, counts))
    }

    /// Leases after the whole transaction: for each key, its last change counts.
    fn note_txn(&mut self, changes: &crate::mvcc::Changes, puts: &[&PutRequest]) {
        let mut puts = puts.iter();
        for change in &changes.events {
            match change.kind {
                crate::mvcc::Kind::Delete => self.leases.detach(&change.key),
                crate::mvcc::Kind::Put => {
                    let request = puts.next().expect("each put is one change");
                    assert_eq!(request.key, change.key, "puts are noted in order");
                    self.note_put(request);
                }
            }
        }
    }
}

/// Evaluates all compares, top down.
fn choose(state: &State<'_>, request: &TxnRequest, counts: &mut Counts) -> Result<Path, Failure> {
    let mut succeeded = true;
    for compare in &request.compare {
        counts.ranges += 1;
        if !holds(state, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut path = Path { succeeded, nested: Vec::new() };
    for op in path.ops(request) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            path.nested.push(choose(state, nested, counts)?);
        }
    }
    Ok(path)
}

/// Whether every key of a compare's span stands as it says; no key at all stands at zero.
fn holds(state: &State<'_>, compare: &Compare) -> Result<bool, Failure> {
    if planted(Mistake::CompareIgnored) && compare.target == CompareTarget::Version as i32 {
        return Ok(true);
    }
    let span = Span::new(compare.key.clone(), compare.range_end.clone());
    let mut found = Vec::new();
    state.visit(&span, &mut |_, facts| {
        found.push(facts);
        ControlFlow::Continue(())
    });
    if found.is_empty() {
        // A value cannot be compared with what is not there.
        return Ok(compare.target() != CompareTarget::Value && stands(&Fields::default(), compare));
    }
    let needs_row = matches!(compare.target(), CompareTarget::Value | CompareTarget::Lease);
    for facts in found {
        let holds = if needs_row {
            let row = state.row(facts)?;
            stands(&Fields::decode(&row)?, compare)
        } else {
            stands(&of_facts(facts), compare)
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn of_facts(facts: Facts) -> Fields<'static> {
    Fields {
        create_revision: facts.create_revision,
        mod_revision: facts.revision.main,
        version: facts.version,
        ..Fields::default()
    }
}

/// Compares one row; an operand that is not given reads as zero or empty.
fn stands(row: &Fields<'_>, compare: &Compare) -> bool {
    let operand = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let given: &[u8] = match operand {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            row.value.cmp(given)
        }
        Ok(CompareTarget::Create) => row.create_revision.cmp(&match operand {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => row.mod_revision.cmp(&match operand {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Version) => row.version.cmp(&match operand {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => row.lease.cmp(&match operand {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering == Ordering::Equal,
        Ok(CompareResult::NotEqual) => ordering != Ordering::Equal,
        Ok(CompareResult::Greater) => ordering == Ordering::Greater,
        Ok(CompareResult::Less) => ordering == Ordering::Less,
        // etcd's evaluation falls through to true for a result it does not know.
        Err(_) => true,
    }
}

/// Checks every operation on the path against the state before the transaction.
fn check(
    state: &State<'_>,
    leases: &Book,
    request: &TxnRequest,
    path: &Path,
    counts: &mut Counts,
) -> Result<(), Error> {
    let mut nested = path.nested.iter();
    for op in path.ops(request) {
        match &op.request {
            Some(Request::RequestRange(range)) => {
                // Only here is a negative revision one that lies far back, and not the newest.
                if range.revision < 0 && range.revision < state.compact_revision() {
                    return Err(Error::Compacted);
                }
                state.resolve(range.revision)?;
            }
            Some(Request::RequestPut(put)) => {
                counts.ranges += u64::from(kv::wants_row(put));
                kv::may_put(state, leases, put)?;
            }
            Some(Request::RequestDeleteRange(_)) | None => {}
            Some(Request::RequestTxn(request)) => {
                let path = nested.next().expect("a path was chosen for each");
                check(state, leases, request, path, counts)?;
            }
        }
    }
    Ok(())
}

/// What a transaction has done so far.
#[derive(Default)]
struct Done<'a> {
    /// For the leases.
    puts: Vec<&'a PutRequest>,
    counts: Counts,
}

/// Runs the path.
fn run<'a>(
    txn: &mut WriteTxn<'_>,
    request: &'a TxnRequest,
    path: &Path,
    done: &mut Done<'a>,
) -> Result<TxnResponse, Fault> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::new();
    for op in path.ops(request) {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => {
                done.counts.ranges += 1;
                Response::ResponseRange(kv::range(&txn.state(), range)?)
            }
            Some(Request::RequestPut(put)) => {
                done.puts.push(put);
                Response::ResponsePut(kv::put(txn, put, &mut done.counts)?)
            }
            Some(Request::RequestDeleteRange(delete)) => {
                Response::ResponseDeleteRange(kv::delete_range(txn, delete, &mut done.counts)?)
            }
            Some(Request::RequestTxn(request)) => {
                let path = nested.next().expect("a path was chosen for each");
                let mut response = run(txn, request, path, done)?;
                response.header = Some(revision_header(0));
                Response::ResponseTxn(response)
            }
            None => continue,
        };
        responses.push(ResponseOp { response: Some(response) });
    }
    Ok(TxnResponse { header: None, succeeded: path.succeeded, responses })
}
