//! `etcdserverpb.Cluster`: who is a member. Changing it comes with clusters.

use tonic::{Request, Response, Status};

use super::{answer, status};
use crate::error::Error;
use crate::node::Handle;
use crate::pb::cluster_server::Cluster as Service;
use crate::pb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, ResponseHeader,
};

/// The service; cloned per worker.
#[derive(Clone)]
pub struct Cluster {
    pub(super) node: Handle,
}

fn not_built() -> Status {
    status::status(&Error::NotBuilt("changing the members of a cluster"))
}

#[tonic::async_trait]
impl Service for Cluster {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        answer(self.list(request.get_ref().linearizable).await)
    }

    async fn member_add(
        &self,
        _: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        Err(not_built())
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(not_built())
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(not_built())
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(not_built())
    }
}

impl Cluster {
    async fn list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        if linearizable {
            self.node.read_barrier().await?;
        }
        let members = self
            .node
            .inspect(|machine| {
                let members = machine.members().iter().map(|member| Member {
                    id: member.id,
                    name: member.name.clone(),
                    peer_ur_ls: member.peer_urls.clone(),
                    client_ur_ls: member.client_urls.clone(),
                    is_learner: member.is_learner,
                });
                members.collect()
            })
            .await?;
        // Cluster answers carry no revision.
        let header = ResponseHeader { revision: 0, ..self.node.header() };
        Ok(MemberListResponse { header: Some(header), members })
    }
}
