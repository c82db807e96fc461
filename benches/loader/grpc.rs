//! The generated clients, for whatever is not measured: filling a store, reading back, upkeep.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kvorum::pb;
use kvorum::pb::kv_client::KvClient;
use kvorum::pb::lease_client::LeaseClient;
use kvorum::pb::maintenance_client::MaintenanceClient;
use prost::Message;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::data;
use super::operation::Acknowledged;

/// Transactions that are under way at once while a store is filled.
const FILLERS: u64 = 16;
/// Writes per transaction, below etcd's default limit of 128.
pub const FILL_BATCH: u64 = 100;
/// Longer than any server needs to defragment a gigabyte.
const CALL_TIME_MAX: Duration = Duration::from_secs(180);
/// Acknowledged writes that are read again after a run.
const SAMPLES_MAX: usize = 64;

/// A blocking client.
pub struct Client {
    runtime: Runtime,
    channel: Channel,
}

/// What a store is to be filled with: rows `0..rows`, each as `data::key` and `data::value`.
#[derive(Clone, Copy)]
pub struct Filling {
    pub rows: u64,
    pub value_bytes: usize,
    /// Values of one filling differ from those of another.
    pub generation: u64,
    /// Writes per transaction.
    pub batch: u64,
}

impl Client {
    /// A client that connects when it is used.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5))
            .timeout(CALL_TIME_MAX);
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Self { runtime, channel })
    }

    /// Reads a key, linearizably: the revision of the store, and the row.
    pub fn get(&self, key: Bytes, revision: i64) -> Result<(i64, Option<pb::KeyValue>)> {
        let request = pb::RangeRequest { key, revision, ..Default::default() };
        let mut client = KvClient::new(self.channel.clone());
        let answer = self.runtime.block_on(client.range(request))?.into_inner();
        let revision = answer.header.context("an answer without a header")?.revision;
        let row = answer.kvs.into_iter().next().map(pb::KeyValue::decode).transpose()?;
        Ok((revision, row))
    }

    /// The revision of the store.
    pub fn revision(&self) -> Result<i64> {
        Ok(self.get(Bytes::from_static(b"nothing"), 0)?.0)
    }

    /// Whether the member leads its cluster.
    pub fn leads(&self) -> Result<bool> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let status = self.runtime.block_on(client.status(pb::StatusRequest {}))?.into_inner();
        let header = status.header.context("an answer without a header")?;
        Ok(header.member_id == status.leader)
    }

    /// Fills the store.
    pub fn fill(&self, filling: Filling) -> Result<()> {
        let batches = filling.rows.div_ceil(filling.batch);
        self.runtime.block_on(async {
            let filler = |first| fill_every(self.channel.clone(), filling, first, batches);
            let fillers: Vec<_> = (0..FILLERS).map(filler).map(tokio::spawn).collect();
            for filler in fillers {
                filler.await.expect("a filler returns its errors")?;
            }
            Ok(())
        })
    }

    /// Reads back what was acknowledged: at its revision, exactly this was written.
    pub fn verify(&self, acknowledged: &[Acknowledged]) -> Result<()> {
        let step = acknowledged.len().div_ceil(SAMPLES_MAX).max(1);
        for write in acknowledged.iter().step_by(step) {
            let (_, row) = self.get(write.key.clone(), write.revision)?;
            let row = row.context("an acknowledged write is gone")?;
            ensure!(row.mod_revision == write.revision, "an acknowledged write is not there");
            let value = data::value(write.seed, write.value_bytes);
            ensure!(row.value == value, "an acknowledged write has another value");
        }
        Ok(())
    }

    /// Grants leases of an hour.
    pub fn grant(&self, count: usize) -> Result<Vec<i64>> {
        let mut client = LeaseClient::new(self.channel.clone());
        self.runtime.block_on(async {
            let mut leases = Vec::with_capacity(count);
            for _ in 0..count {
                let grant = pb::LeaseGrantRequest { ttl: 3600, id: 0 };
                leases.push(client.lease_grant(grant).await?.into_inner().id);
            }
            Ok(leases)
        })
    }

    /// Compacts, and waits until the rows are gone from the store.
    pub fn compact(&self, revision: i64) -> Result<()> {
        let mut client = KvClient::new(self.channel.clone());
        let request = pb::CompactionRequest { revision, physical: true };
        self.runtime.block_on(client.compact(request))?;
        Ok(())
    }

    /// Defragments.
    pub fn defragment(&self) -> Result<()> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        self.runtime.block_on(client.defragment(pb::DefragmentRequest {}))?;
        Ok(())
    }
}

/// Writes every 16th batch, from the first of this filler on.
async fn fill_every(
    channel: Channel,
    filling: Filling,
    first: u64,
    batches: u64,
) -> Result<(), tonic::Status> {
    let mut client = KvClient::new(channel);
    for batch in (first..batches).step_by(FILLERS as usize) {
        let start = batch * filling.batch;
        let rows = start..(start + filling.batch).min(filling.rows);
        if filling.batch == 1 {
            client.put(filling.put(start)).await?;
        } else {
            let put = |row| pb::request_op::Request::RequestPut(filling.put(row));
            let success = rows.map(|row| pb::RequestOp { request: Some(put(row)) }).collect();
            client.txn(pb::TxnRequest { success, ..Default::default() }).await?;
        }
    }
    Ok(())
}

impl Filling {
    fn put(&self, row: u64) -> pb::PutRequest {
        let (key, value) = (data::key(row), self.value(row));
        pb::PutRequest { key, value, ..Default::default() }
    }

    /// What a row has as its value after this filling.
    pub fn value(&self, row: u64) -> Bytes {
        data::value((self.generation << 40) | row, self.value_bytes)
    }
}
