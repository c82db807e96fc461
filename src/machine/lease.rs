//! Leases as commands: grant, revoke with the keys attached, remember how much time is left.

use super::{Counts, LeaseEffect, Machine, Outcome, Reply, revision_header};
use crate::error::Fault;
use crate::pb::{
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeResponse,
};
use crate::planted::{Mistake, planted};
use crate::span::{End, Span};

impl Machine {
    pub(super) fn lease_grant(&mut self, request: &LeaseGrantRequest) -> Outcome {
        match self.leases.grant(request.id, request.ttl) {
            Ok(row) => {
                self.writes.push(row);
                let response = LeaseGrantResponse {
                    id: request.id,
                    ttl: request.ttl,
                    ..LeaseGrantResponse::default()
                };
                let granted = LeaseEffect::Granted { id: request.id, ttl: request.ttl };
                Outcome { leases: vec![granted], ..Outcome::of(Ok(Reply::LeaseGrant(response))) }
            }
            Err(error) => Outcome::of(Err(error)),
        }
    }

    /// Deletes the attached keys, in key order and under one revision, then the lease.
    pub(super) fn lease_revoke(&mut self, id: i64) -> Result<Outcome, Fault> {
        let revoked = match self.leases.revoke(id) {
            Ok(revoked) => revoked,
            Err(error) => return Ok(Outcome::of(Err(error))),
        };
        self.writes.push(revoked.write);
        let (mut txn, mut counts) = (self.store.begin(), Counts::default());
        let forgotten = usize::from(planted(Mistake::RevokeForgetsKey));
        for key in revoked.keys.into_iter().skip(forgotten) {
            counts.deletes += 1;
            txn.delete_range(&Span { start: key, end: End::Single });
        }
        let changes = txn.end();
        let header = Some(revision_header(self.store.revision()));
        let reply = Reply::LeaseRevoke(LeaseRevokeResponse { header });
        Ok(Outcome {
            leases: vec![LeaseEffect::Revoked { id }],
            ..Outcome::changed(reply, changes, counts.end())
        })
    }

    pub(super) fn lease_checkpoint(&mut self, request: &LeaseCheckpointRequest) -> Outcome {
        let mut effects = Vec::new();
        for checkpoint in &request.checkpoints {
            let (id, remaining_ttl) = (checkpoint.id, checkpoint.remaining_ttl);
            if let Some(row) = self.leases.checkpoint(id, remaining_ttl) {
                self.writes.push(row);
                effects.push(LeaseEffect::Checkpointed { id, remaining_ttl });
            }
        }
        Outcome { leases: effects, ..Outcome::done() }
    }
}
