//! `grpc.health.v1.Health`: the one service name is empty, and stands for the member.

use std::collections::HashMap;
use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::serving::Serving;
use crate::metrics::Messages;
use crate::pb::health::health_check_response::ServingStatus;
use crate::pb::health::health_server::Health as Service;
use crate::pb::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

/// The service; cloned per worker.
#[derive(Clone)]
pub struct Health {
    pub(super) serving: Serving,
    /// Counts what whoever waits is told.
    pub(super) told: Messages,
}

type Watched = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

fn response(serves: bool) -> HealthCheckResponse {
    let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl Service for Health {
    type WatchStream = Watched;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if request.get_ref().service.is_empty() {
            Ok(Response::new(response(self.serving.now())))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses = HashMap::from([(String::new(), response(self.serving.now()))]);
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Watched>, Status> {
        if request.get_ref().service.is_empty() {
            let changes = self.serving.changes().map(|serves| Ok(response(serves)));
            return Ok(Response::new(super::counted(changes, &self.told)));
        }
        // No service is added while the member runs, so the stream stays open and silent.
        let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 };
        let stream = tokio_stream::once(Ok(unknown)).chain(tokio_stream::pending());
        Ok(Response::new(super::counted(stream, &self.told)))
    }
}
