//! `etcdserverpb.Cluster`: who is a member, and changing that.

use std::time::{SystemTime, UNIX_EPOCH};

use tonic::{Request, Response, Status};

use super::{answer, validate};
use crate::error::Error;
use crate::members::{self, Change};
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
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        answer(self.add(request.into_inner()).await)
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let changed = self.change(Change::Remove(request.get_ref().id)).await;
        answer(changed.map(|(header, members)| MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let MemberUpdateRequest { id, peer_ur_ls: peer_urls } = request.into_inner();
        let changed = self.change(Change::Update { id, peer_urls }).await;
        answer(changed.map(|(header, members)| MemberUpdateResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let changed = self.change(Change::Promote(request.get_ref().id)).await;
        answer(changed.map(|(header, members)| MemberPromoteResponse { header, members }))
    }
}

impl Cluster {
    async fn list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        if linearizable {
            self.node.read_barrier().await?;
        }
        let members = self.node.members().iter().cloned().map(told).collect();
        Ok(MemberListResponse { header: self.header(), members })
    }

    async fn add(&self, request: MemberAddRequest) -> Result<MemberAddResponse, Error> {
        let peer_urls = validate::peer_urls(&request.peer_ur_ls)?;
        // The second tells a member that is added anew from the one that was removed. Its name is
        // told by its process.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let id = members::member_id(&peer_urls, &now.to_string());
        let is_learner = request.is_learner;
        let added = members::Member { id, peer_urls, is_learner, ..members::Member::default() };
        let (header, members) = self.change(Change::Add(added.clone())).await?;
        Ok(MemberAddResponse { header, member: Some(told(added)), members })
    }

    async fn change(&self, change: Change) -> Result<(Option<ResponseHeader>, Vec<Member>), Error> {
        let members = self.node.reconfigure(change).await?;
        Ok((self.header(), members.into_iter().map(told).collect()))
    }

    /// Cluster answers carry no revision.
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: 0, ..self.node.header() })
    }
}

fn told(member: members::Member) -> Member {
    Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}
