//! The gate: refusals that come before a command touches anything, a flat list of ifs.

use crate::error::{Error, Fault};
use crate::pb::internal_raft_request::Command;
use crate::pb::request_op::Request;
use crate::pb::{AlarmType, PutRequest, RequestOp, TxnRequest};

use super::Machine;

/// What etcd counts a put as, beside its key and value.
const PUT_OVERHEAD_BYTES: i64 = 256;
/// What etcd counts a lease as.
const LEASE_BYTES: i64 = 64;

/// Whether the alarms in force let the command through.
pub(super) fn admit(machine: &Machine, command: &Command) -> Result<(), Error> {
    if machine.alarms.is_raised(AlarmType::Corrupt) && touches_rows(command) {
        return Err(Error::Corrupt);
    }
    if machine.alarms.is_raised(AlarmType::Nospace) && cost_bytes(command) > 0 {
        return Err(Error::NoSpace);
    }
    Ok(())
}

/// Whether the command would take live rows to the quota.
pub(super) fn over_quota(machine: &Machine, command: &Command) -> Result<bool, Fault> {
    let Some(quota_bytes) = machine.settings.quota_bytes else { return Ok(false) };
    let cost = cost_bytes(command);
    Ok(cost > 0 && machine.store.live_bytes()? + cost >= quota_bytes)
}

/// Commands a member with damaged data must not answer.
fn touches_rows(command: &Command) -> bool {
    matches!(
        command,
        Command::Put(_)
            | Command::Range(_)
            | Command::DeleteRange(_)
            | Command::Txn(_)
            | Command::Compaction(_)
            | Command::LeaseGrant(_)
            | Command::LeaseRevoke(_)
    )
}

/// What a command takes from the quota. Zero lets it pass under NOSPACE, so that space can be
/// freed.
pub fn cost_bytes(command: &Command) -> i64 {
    match command {
        Command::Put(request) => put_bytes(request),
        Command::Txn(request) => txn_bytes(request),
        Command::LeaseGrant(_) => LEASE_BYTES,
        _ => 0,
    }
}

fn put_bytes(request: &PutRequest) -> i64 {
    PUT_OVERHEAD_BYTES + (request.key.len() + request.value.len()) as i64
}

fn txn_bytes(request: &TxnRequest) -> i64 {
    let branch = |ops: &[RequestOp]| -> i64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(request)) => put_bytes(request),
                Some(Request::RequestTxn(request)) => txn_bytes(request),
                Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
            })
            .sum()
    };
    branch(&request.success).max(branch(&request.failure))
}
