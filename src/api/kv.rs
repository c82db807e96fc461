//! `etcdserverpb.KV`: range, put, delete, transact, compact.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::large::{self, Large};
use super::{answer, validate};
use crate::error::Error;
use crate::limits;
use crate::machine::{self, Reply};
use crate::metrics::Messages;
use crate::node::{self, Account, Handle};
use crate::pb::internal_raft_request::Command;
use crate::pb::kv_server::Kv as Service;
use crate::pb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};

/// The service; cloned per worker.
#[derive(Clone)]
pub struct Kv {
    pub(super) node: Handle,
    /// Counts the messages of streamed ranges.
    pub(super) streamed: Messages,
    pub(super) large: Large,
}

type Streamed = Pin<Box<dyn Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Service for Kv {
    type RangeStreamStream = Streamed;

    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let status = |error| super::status::status(&error);
        let answered = self.do_range(request.get_ref()).await.map_err(status)?;
        if !is_routed(&request) {
            let whole = answered.map_or_else(|| self.whole(request.get_ref()), Ok);
            return whole.map(Response::new).map_err(status);
        }
        match answered {
            Some(response) if large::is_bulky(&response) => {
                Ok(large::Slot::left(large::Answer::of(&self.node, response)))
            }
            Some(response) => Ok(Response::new(response)),
            None => {
                let large = self.large.answer(&self.node, request.into_inner()).await;
                large.map(large::Slot::left).map_err(status)
            }
        }
    }

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Streamed>, Status> {
        let account = request.extensions().get::<Account>().cloned();
        let request = request.into_inner();
        let pages = async {
            validate::range_stream(&request)?;
            self.barrier(request.serializable).await?;
            self.node.metrics().mvcc_ranges.inc();
            super::range_stream::pages(&self.node, &self.large, account, &request)
        };
        answer(pages.await.map(|pages| super::counted(pages, &self.streamed)))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        answer(self.do_put(request.into_inner()).await)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        answer(self.do_delete_range(request.into_inner()).await)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        answer(self.do_txn(request.into_inner()).await)
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        answer(self.do_compact(request.into_inner()).await)
    }
}

/// Whether a request came through the router, which puts in place what it is left.
fn is_routed<T>(request: &Request<T>) -> bool {
    request.extensions().get::<Account>().is_some()
}

impl Kv {
    /// The answer, unless it is large.
    async fn do_range(&self, request: &RangeRequest) -> Result<Option<RangeResponse>, Error> {
        if !request.serializable && self.node.is_learner() {
            return Err(Error::NotSupportedForLearner);
        }
        validate::range(request)?;
        self.barrier(request.serializable).await?;
        let response = self.node.read(|view| match large::is_long(view, request) {
            true => Ok(None),
            false => view.range_within(request, limits::SHORT_RANGE_BYTES_MAX),
        })?;
        Ok(response.map(|response| self.completed(response)))
    }

    /// All of an answer, however large, for who has nowhere to leave it.
    fn whole(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.node.read(|view| view.range(request)).map(|response| self.completed(response))
    }

    fn completed(&self, mut response: RangeResponse) -> RangeResponse {
        self.node.metrics().mvcc_ranges.inc();
        self.node.complete(&mut response.header);
        response
    }

    async fn do_put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        validate::put(&request)?;
        let command = Command::Put(request);
        self.node.reserve(&command).await?;
        match self.node.propose(command).await? {
            Reply::Put(mut response) => {
                self.node.complete(&mut response.header);
                Ok(response)
            }
            other => Err(super::mismatch(&other)),
        }
    }

    async fn do_delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        validate::delete_range(&request)?;
        match self.node.propose(Command::DeleteRange(request)).await? {
            Reply::DeleteRange(mut response) => {
                self.node.complete(&mut response.header);
                Ok(response)
            }
            other => Err(super::mismatch(&other)),
        }
    }

    async fn do_txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        validate::txn(&request, self.node.limits().txn_ops_max)?;
        large::check_txn(&self.node, &request)?;
        let mut response = if machine::is_write(&request) {
            let command = Command::Txn(request);
            self.node.reserve(&command).await?;
            match self.node.propose(command).await? {
                Reply::Txn(response) => response,
                other => return Err(super::mismatch(&other)),
            }
        } else {
            self.barrier(machine::is_serializable(&request)).await?;
            let (response, counts) = self.node.read(|view| machine::read_only(view, &request))?;
            node::tally(self.node.metrics(), &counts);
            response
        };
        self.node.complete(&mut response.header);
        Ok(response)
    }

    async fn do_compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        let physical = request.physical;
        match self.node.propose(Command::Compaction(request)).await? {
            Reply::Compaction(mut response) => {
                if physical {
                    self.node.compaction_finished().await?;
                }
                self.node.complete(&mut response.header);
                Ok(response)
            }
            other => Err(super::mismatch(&other)),
        }
    }

    /// Waits until this member knows everything acknowledged before now, unless stale is good
    /// enough.
    async fn barrier(&self, serializable: bool) -> Result<(), Error> {
        if serializable {
            return Ok(());
        }
        self.node.read_barrier().await
    }
}
