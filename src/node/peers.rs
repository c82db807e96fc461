//! What the edge towards the other members tells the node, and asks it.
//!
//! It is called on that edge's threads, so nothing here waits. What has no room is dropped: raft
//! repeats what matters.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Handle;
use super::driver::Input;
use super::forgotten::Promise;
use super::transport::{Outgoing, Overrun, Transport};
use crate::error::Error;
use crate::marks::{Mark, mark};
use crate::raft::{Flow, Message, Progress};

/// How long a stop waits for another member to take over leadership.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);
/// How often a transfer of leadership is looked at.
const TRANSFER_POLL: Duration = Duration::from_millis(5);

impl Handle {
    /// Hears a message of another member, which is who it says.
    pub fn receive(&self, message: Message) -> Result<(), Overrun> {
        self.shared.promises.hear(&message);
        self.tell_driver(Input::Message(Box::new(message))).map_err(|_| Overrun)
    }

    /// What other members were heard to promise since this one began, for when they begin again.
    pub fn promises(&self) -> BTreeMap<u64, Promise> {
        self.shared.promises.all()
    }

    /// Notes that messages to a member were lost.
    pub fn unreachable(&self, id: u64) {
        // Without room there are other worries; raft finds out by itself, later.
        let _ = self.tell_driver(Input::Unreachable(id));
    }

    /// Notes that a member's connections were closed from its end, and nobody listens there.
    pub fn disconnected(&self, id: u64) {
        let _ = self.tell_driver(Input::Disconnected(id));
    }

    /// Notes how sending a state ended. Without this the member would be sent nothing any more.
    pub fn snapshot_sent(&self, to: u64, arrived: bool) {
        let _ = self.tell_driver(Input::SnapshotSent { to, arrived });
    }

    /// Receives a state: the message that names it, and the pieces of the file. The answer comes
    /// when it is durable and raft has heard of it, or says why not.
    pub fn receive_snapshot(
        &self,
        message: Message,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let answer = self.shared.receiving.begin(message, chunks);
        async move {
            match answer.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a snapshot was not received");
                    Err(error.to_string())
                }
                Err(_) => Err(Error::Stopped.to_string()),
            }
        }
    }

    /// Our newest state, for a member that lost its own. It waits for the engine.
    pub fn hand_out_state(&self) -> Result<Outgoing, Error> {
        self.shared.sending.hand_out()
    }

    /// Another member says that this one was removed from the cluster.
    pub fn removed_by_peer(&self) {
        self.shared.progress.removed.store(true, Ordering::Release);
    }

    /// Whether this member was removed: it should stop.
    pub fn is_removed(&self) -> bool {
        self.shared.progress.removed.load(Ordering::Acquire)
    }

    /// Whether this member has no vote yet.
    pub fn is_learner(&self) -> bool {
        self.shared.membership.learns()
    }

    /// Where other members reach this one.
    pub fn peer_urls(&self) -> Vec<String> {
        match self.members().get(self.member_id()) {
            Some(own) => own.peer_urls.clone(),
            None => self.shared.peer_urls.clone(),
        }
    }

    /// Since when a member has been heard; `None` while it is not. This member hears itself.
    pub fn active_since(&self, id: u64) -> Option<Instant> {
        match id == self.member_id() {
            true => Some(self.shared.clock.began()),
            false => self.shared.membership.peers().active_since(id),
        }
    }

    /// What this member knows of the others' logs; nothing unless it leads.
    pub async fn followers(&self) -> Result<Vec<Progress>, Error> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |core: &crate::raft::Core| {
            let _ = reply.send(core.progress());
        });
        self.tell_driver(Input::Ask(question))?;
        answer.await.map_err(|_| Error::Stopped)
    }

    /// Has another voter lead, and returns when it does. `None` picks the one that is closest.
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<(), Error> {
        let to = match to {
            Some(to) => to,
            None => self.heir().await?.ok_or(Error::Unhealthy)?,
        };
        if self.shared.progress.leader.load(Ordering::Acquire) == to {
            return Ok(());
        }
        let (reply, begun) = oneshot::channel();
        self.tell_driver(Input::Transfer { to, reply })?;
        begun.await.map_err(|_| Error::Stopped)??;
        let moved = async {
            while self.shared.progress.leader.load(Ordering::Acquire) != to {
                tokio::time::sleep(TRANSFER_POLL).await;
            }
        };
        let patience = self.shared.limits.request_timeout;
        tokio::time::timeout(patience, moved).await.map_err(|_| Error::LeaderTransferTimeout)
    }

    /// Before a stop: gives leadership away, if it is here and somebody can take it.
    pub async fn hand_over(&self) {
        if !self.leads() || self.is_removed() {
            return;
        }
        let heir = tokio::time::timeout(self.shared.limits.election_timeout, self.heir()).await;
        // Without one this member is alone, or as good as alone.
        let Ok(Ok(Some(heir))) = heir else { return };
        let moving = self.transfer_leader(Some(heir));
        let moved = tokio::time::timeout(HAND_OVER_PATIENCE, moving).await;
        match moved.unwrap_or(Err(Error::LeaderTransferTimeout)) {
            Ok(()) => {
                mark(Mark::LeadershipHandedOver);
                tracing::info!(to = format!("{heir:x}"), "leadership handed over");
                // The others may hear of it a little later, and send their proposals here until
                // then; they are handed on.
                tokio::time::sleep(self.shared.limits.election_timeout / 10).await;
            }
            Err(error) => tracing::warn!(%error, "leadership not handed over"),
        }
    }

    /// The voter that could lead soonest, if there is one.
    async fn heir(&self) -> Result<Option<u64>, Error> {
        let own = self.member_id();
        let followers = self.followers().await?;
        let could = followers.iter().filter(|one| {
            let follows = one.id != own && !one.is_learner && one.flow != Flow::Snapshot;
            follows && one.is_active && self.active_since(one.id).is_some()
        });
        Ok(could.max_by_key(|one| one.matched).map(|one| one.id))
    }

    /// The version the cluster agreed on, if it has.
    pub fn cluster_version(&self) -> Option<Arc<String>> {
        self.shared.membership.cluster_version()
    }

    /// What talks to the others.
    pub fn transport(&self) -> &dyn Transport {
        self.shared.membership.peers()
    }
}
