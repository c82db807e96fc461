//! The node as the host of its transport.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Host;
use super::headers::Membership;
use crate::error::Error;
use crate::members::Member;
use crate::metrics::Metrics;
use crate::mvcc::HashKv;
use crate::node::{BoxFuture, Handle, Outgoing, Overrun, Promise, Replaced, Unreplaced};
use crate::pb::LeaseTimeToLiveResponse;
use crate::raft::Message;

impl Host for Handle {
    fn receive(&self, message: Message) -> Result<(), Overrun> {
        Handle::receive(self, message)
    }

    fn unreachable(&self, id: u64) {
        Handle::unreachable(self, id);
    }

    fn snapshot_sent(&self, id: u64, arrived: bool) {
        Handle::snapshot_sent(self, id, arrived);
    }

    fn receive_snapshot(
        &self,
        message: Message,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(Handle::receive_snapshot(self, message, chunks))
    }

    fn disconnected(&self, id: u64) {
        Handle::disconnected(self, id);
    }

    fn removed(&self) {
        self.removed_by_peer();
    }

    fn hand_out_state(&self) -> Result<Outgoing, Error> {
        Handle::hand_out_state(self)
    }

    fn renew(&self, id: i64) -> BoxFuture<'static, Result<i64, Error>> {
        let node = self.clone();
        Box::pin(async move { node.renew_here(id).await })
    }

    fn time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> BoxFuture<'static, Result<LeaseTimeToLiveResponse, Error>> {
        let node = self.clone();
        Box::pin(async move { node.time_to_live_here(id, keys).await })
    }

    fn promises(&self) -> BTreeMap<u64, Promise> {
        Handle::promises(self)
    }

    fn replace(&self, peer_urls: Vec<String>) -> BoxFuture<'static, Result<Replaced, Unreplaced>> {
        let node = self.clone();
        Box::pin(async move { Handle::replace(&node, peer_urls).await })
    }

    fn promote(&self, id: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>> {
        let node = self.clone();
        Box::pin(async move { node.promote_as_leader(id).await })
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'static, Result<HashKv, Error>> {
        let node = self.clone();
        Box::pin(async move { node.hash_kv(revision).await })
    }

    fn membership(&self, id: u64) -> Membership {
        let members = Handle::members(self);
        match members.get(id) {
            Some(_) => Membership::Member,
            None if members.is_removed(id) => Membership::Removed,
            None => Membership::Unknown,
        }
    }

    fn members(&self) -> Vec<Member> {
        Handle::members(self).iter().cloned().collect()
    }

    fn metrics(&self) -> &Metrics {
        Handle::metrics(self)
    }

    fn cluster_version(&self) -> Option<String> {
        Handle::cluster_version(self).map(Arc::unwrap_or_clone)
    }
}
