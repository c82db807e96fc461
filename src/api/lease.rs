//! `etcdserverpb.Lease`: grant, revoke, keep alive, ask.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::answer;
use crate::error::Error;
use crate::lease;
use crate::machine::Reply;
use crate::metrics::Messages;
use crate::node::Handle;
use crate::pb::internal_raft_request::Command;
use crate::pb::lease_server::Lease as Service;
use crate::pb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

/// The service; cloned per worker.
#[derive(Clone)]
pub struct Lease {
    pub(super) node: Handle,
    /// Counts what is kept alive.
    pub(super) kept: Messages,
}

type Kept = Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Service for Lease {
    type LeaseKeepAliveStream = Kept;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        answer(self.grant(request.into_inner()).await)
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        answer(self.revoke(request.into_inner()).await)
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Kept>, Status> {
        let (node, kept) = (self.node.clone(), self.kept.clone());
        let answers = request.into_inner().then(move |request| {
            let (node, kept) = (node.clone(), kept.clone());
            async move {
                let request =
                    request.map_err(|status| super::broken(&node, "lease-keepalive", status))?;
                kept.received.inc();
                let answer = keep_alive(&node, request).await?;
                kept.sent.inc();
                Ok(answer)
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        answer(self.time_to_live(request.into_inner()).await)
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        answer(self.leases().await)
    }
}

/// Renews one lease; a lease that is gone is answered with a TTL of zero, not with an error.
async fn keep_alive(
    node: &Handle,
    request: LeaseKeepAliveRequest,
) -> Result<LeaseKeepAliveResponse, Status> {
    let header = Some(node.header());
    let ttl = match node.renew(request.id).await {
        Ok(ttl) => ttl,
        Err(Error::LeaseNotFound) => 0,
        Err(error) => return Err(super::status::status(&error)),
    };
    Ok(LeaseKeepAliveResponse { header, id: request.id, ttl })
}

impl Lease {
    async fn grant(&self, mut request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Error> {
        // Decided before proposing, so that every member stores the same lease.
        request.ttl = lease::clamp(request.ttl, self.node.limits().min_lease_ttl);
        if request.id == 0 {
            request.id = self.node.lease_id();
        }
        let command = Command::LeaseGrant(request);
        self.node.reserve(&command).await?;
        match self.node.propose(command).await? {
            Reply::LeaseGrant(mut response) => {
                self.node.metrics().lease_ttl_seconds.observe(response.ttl as f64);
                response.header = Some(self.node.header());
                Ok(response)
            }
            other => Err(super::mismatch(&other)),
        }
    }

    async fn revoke(&self, request: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Error> {
        match self.node.propose(Command::LeaseRevoke(request)).await? {
            Reply::LeaseRevoke(mut response) => {
                self.node.complete(&mut response.header);
                Ok(response)
            }
            other => Err(super::mismatch(&other)),
        }
    }

    async fn time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let answer = self.node.time_to_live(request.id, request.keys).await?;
        // As of now: who hears that a lease is gone finds its keys gone at this revision.
        Ok(LeaseTimeToLiveResponse { header: Some(self.node.header()), ..answer })
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse, Error> {
        let leases = self.node.leases().await?;
        let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(LeaseLeasesResponse { header: Some(self.node.header()), leases })
    }
}
