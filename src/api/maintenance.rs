//! `etcdserverpb.Maintenance`: status, alarms, hashes, snapshots, defragmentation.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::answer;
use super::serving::Serving;
use crate::error::Error;
use crate::machine::Reply;
use crate::metrics::Messages;
use crate::node::Handle;
use crate::pb::downgrade_request::DowngradeAction;
use crate::pb::internal_raft_request::Command;
use crate::pb::maintenance_server::Maintenance as Service;
use crate::pb::{
    AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest,
    StatusResponse,
};
use crate::version;

/// The service; cloned per worker.
#[derive(Clone)]
pub struct Maintenance {
    pub(super) node: Handle,
    /// Counts the blobs of snapshots.
    pub(super) blobs: Messages,
    /// The turns of snapshots.
    pub(super) snapshots: Arc<Semaphore>,
    pub(super) serving: Serving,
}

type Blobs = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Service for Maintenance {
    type SnapshotStream = Blobs;

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        answer(self.do_alarm(request.into_inner()).await)
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        answer(self.do_status().await)
    }

    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let _held = self.serving.defragmenting();
        answer(self.node.defragment().await.map(|()| DefragmentResponse { header: None }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        answer(self.do_hash().await)
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        answer(self.do_hash_kv(request.get_ref().revision).await)
    }

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Blobs>, Status> {
        let blobs = super::snapshot::blobs(&self.node, &self.snapshots).await;
        answer(blobs.map(|blobs| super::counted(blobs, &self.blobs)))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        answer(self.do_move_leader(request.get_ref().target_id).await)
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        answer(self.do_downgrade(request.get_ref()).await)
    }
}

impl Maintenance {
    async fn do_alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Error> {
        match self.node.propose(Command::Alarm(request)).await? {
            Reply::Alarm(mut response) => {
                response.header = Some(self.node.header());
                Ok(response)
            }
            other => Err(super::mismatch(&other)),
        }
    }

    async fn do_status(&self) -> Result<StatusResponse, Error> {
        let header = self.node.header();
        let progress = self.node.progress();
        let sizes = self.node.sizes()?;
        let alarms =
            self.node.inspect(|machine| machine.alarms().list(AlarmType::None as i32)).await?;
        let mut errors = Vec::new();
        if progress.leader == 0 {
            errors.push(Error::NoLeader.to_string());
        }
        errors.extend(alarms.iter().map(|alarm| {
            let kind = AlarmType::try_from(alarm.alarm);
            let kind =
                kind.map_or_else(|_| alarm.alarm.to_string(), |kind| kind.as_str_name().into());
            format!("memberID:{} alarm:{kind}", alarm.member_id)
        }));
        Ok(StatusResponse {
            version: version::SERVER.to_owned(),
            db_size: sizes.allocated_bytes,
            leader: progress.leader,
            raft_index: progress.committed,
            raft_term: progress.term,
            raft_applied_index: progress.applied,
            errors,
            db_size_in_use: sizes.in_use_bytes,
            is_learner: self.node.is_learner(),
            storage_version: version::STORAGE.to_owned(),
            db_size_quota: sizes.quota_bytes,
            downgrade_info: Some(DowngradeInfo::default()),
            header: Some(header),
        })
    }

    async fn do_hash(&self) -> Result<HashResponse, Error> {
        let header = self.node.header();
        let started = Instant::now();
        let hash = self.node.hash().await?;
        self.node.metrics().mvcc_hash_seconds.observe(started.elapsed().as_secs_f64());
        Ok(HashResponse { header: Some(header), hash })
    }

    async fn do_hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        let hash = self.node.hash_kv(revision).await?;
        Ok(HashKvResponse {
            header: Some(self.node.header()),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        })
    }

    /// Whether a downgrade would be possible, and the end of one; starting one is not built.
    async fn do_downgrade(&self, request: &DowngradeRequest) -> Result<DowngradeResponse, Error> {
        let action = DowngradeAction::try_from(request.action);
        match action.map_err(|_| Error::UnknownMethod)? {
            DowngradeAction::Validate => {
                let judged = version::may_downgrade_to(&request.version);
                if judged != Err(Error::WrongDowngradeVersionFormat) {
                    self.node.read_barrier().await?;
                }
                judged?;
            }
            DowngradeAction::Enable => {
                version::may_downgrade_to(&request.version)?;
                return Err(Error::NotBuilt("cluster downgrade"));
            }
            // etcd answers the end of a downgrade that never began without complaint.
            DowngradeAction::Cancel => {}
        }
        let header = Some(self.node.header());
        Ok(DowngradeResponse { header, version: version::MINOR.to_owned() })
    }

    /// Has another voter lead; asked of the leader. Moving it to itself is already done.
    async fn do_move_leader(&self, target: u64) -> Result<MoveLeaderResponse, Error> {
        if !self.node.leads() {
            return Err(Error::NotLeader);
        }
        let members = self.node.members();
        if members.get(target).is_none_or(|member| member.is_learner) {
            return Err(Error::BadLeaderTransferee);
        }
        if target != self.node.member_id() {
            self.node.transfer_leader(Some(target)).await?;
        }
        Ok(MoveLeaderResponse { header: None })
    }
}
