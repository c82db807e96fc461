//! A leader's duties: what somebody must propose because time has passed.
//!
//! Expired leases are revoked, remaining lifetimes checkpointed, old revisions compacted, the
//! cluster's version and this member's addresses published. Each is a proposal like any client's;
//! nothing here changes state.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::{Answer, Handle, clock};
use crate::config::AutoCompaction;
use crate::error::Error;
use crate::marks::{Mark, mark};
use crate::pb::internal_raft_request::Command;
use crate::pb::{
    CompactionRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest, membershippb,
};
use crate::planted::{Mistake, planted};
use crate::version;

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often a member that is not ready looks whether it may be.
const STARTING: Duration = Duration::from_millis(5);
/// The most leases revoked in one look.
const EXPIRED_PER_TICK_MAX: usize = 500;
/// The most lifetimes in one checkpoint.
const CHECKPOINTS_PER_TICK_MAX: usize = 1000;
/// How often the revision mode of auto-compaction looks.
const REVISION_MODE_INTERVAL: Duration = Duration::from_secs(300);
/// The coarsest sampling of the periodic mode.
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// Samples of the current revision per period.
const SAMPLES_PER_PERIOD: u32 = 10;

/// What the thread is given at its start.
pub(super) struct Parts {
    pub node: Handle,
    pub compaction: AutoCompaction,
    /// What a new leader adds to every lease's life.
    pub lease_extension: Duration,
    pub name: String,
    pub client_urls: Vec<String>,
    /// Told when everybody may know where the member is.
    pub ready: watch::Sender<bool>,
}

/// Does the duties until `wake` closes or the node stops.
///
/// It is woken when leadership comes or goes, and what was begun before that is not waited for any
/// longer: an answer that went down with the last leader would keep the next one from its leases
/// for as long as a request may take.
pub(super) async fn run(parts: Parts, mut wake: mpsc::UnboundedReceiver<()>) {
    let compactor = Compactor::new(parts.compaction);
    let mut duties = Duties { parts, compactor, is_published: false, term: 0 };
    let mut patience = STARTING;
    loop {
        if let Ok(None) = timeout(patience, wake.recv()).await {
            return;
        }
        if duties.parts.node.is_stopping() {
            return;
        }
        tokio::select! {
            biased;
            () = duties.tick() => {}
            woken = wake.recv(), if !planted(Mistake::LastLeaderAwaited) => {
                if woken.is_none() {
                    return;
                }
            }
        }
        patience = duties.patience();
    }
}

struct Duties {
    parts: Parts,
    compactor: Compactor,
    is_published: bool,
    /// The term in which this member last took up leadership.
    term: u64,
}

impl Duties {
    fn patience(&self) -> Duration {
        let leads = self.parts.node.leads();
        let taken_up = self.parts.node.progress().term == self.term;
        if self.is_published && (taken_up || !leads) { TICK } else { STARTING }
    }

    async fn tick(&mut self) {
        let standing = self.parts.node.progress();
        // Whoever comes to lead knows which revision is how old.
        let compaction = self.compactor.due(clock::now(), self.parts.node.revision());
        if standing.leader != 0 && !self.is_published {
            self.is_published = self.publish().await;
        }
        if standing.leader != self.parts.node.member_id() {
            if self.is_published {
                let _ = self.parts.ready.send(true);
            }
            return;
        }
        if standing.term != self.term {
            if !self.take_up(standing.term).await {
                return;
            }
            self.term = standing.term;
        }
        if self.is_published {
            let _ = self.parts.ready.send(true);
        }
        self.revoke_expired().await;
        self.checkpoint_lifetimes().await;
        if let Some(revision) = compaction {
            self.compact(revision).await;
        }
    }

    /// Proposes a command and waits for its answer.
    async fn propose(&self, command: Command) -> Result<(), Error> {
        self.parts.node.propose(command).await.map(|_| ())
    }

    /// Tells everybody this member's name and where its clients go.
    async fn publish(&self) -> bool {
        let attributes = membershippb::Attributes {
            name: self.parts.name.clone(),
            client_urls: self.parts.client_urls.clone(),
        };
        let publish = Command::ClusterMemberAttrSet(membershippb::ClusterMemberAttrSetRequest {
            member_id: self.parts.node.member_id(),
            member_attributes: Some(attributes),
        });
        let published = self.propose(publish).await;
        if let Err(error) = &published {
            tracing::warn!(%error, "cannot publish this member yet");
        }
        published.is_ok()
    }

    /// What a new leader does once; whether all of it was done.
    async fn take_up(&self, term: u64) -> bool {
        let node = &self.parts.node;
        // Every entry of earlier terms is applied after that, so the books are complete.
        if let Err(error) = node.read_barrier().await {
            tracing::warn!(%error, "cannot take up leadership yet");
            return false;
        }
        let (extension_ms, promoting) =
            (self.parts.lease_extension.as_millis() as u64, node.clone());
        let promoted = node.inspect(move |machine| {
            let now = promoting.clock().now_ms();
            let mut deadlines = promoting.deadlines().lock();
            // Whoever takes leadership away notes that first, and demotes under this lock.
            if promoting.progress().term == term && promoting.leads() {
                if machine.leases().leases().next().is_some() {
                    mark(Mark::LeasesTakenOver);
                }
                deadlines.promote(now, extension_ms, machine.leases().leases());
            }
            machine.cluster_version().is_some()
        });
        match promoted.await {
            Ok(true) => true,
            Ok(false) => {
                let ver = version::CLUSTER.to_owned();
                let agree = membershippb::ClusterVersionSetRequest { ver };
                self.propose(Command::ClusterVersionSet(agree)).await.is_ok()
            }
            Err(_) => false,
        }
    }

    /// Proposes what this member knows as the leader of its term, and as nobody else: one that
    /// stood still has a successor whose books are newer.
    fn submit(&self, command: Command) -> Answer {
        self.parts.node.submit_in(Some(self.term), command)
    }

    async fn revoke_expired(&self) {
        let now = self.parts.node.clock().now_ms();
        let expired = self.parts.node.deadlines().lock().expired(now, EXPIRED_PER_TICK_MAX);
        let revokes: Vec<_> = expired
            .into_iter()
            .map(|id| (id, self.submit(Command::LeaseRevoke(LeaseRevokeRequest { id }))))
            .collect();
        let give_up = clock::now() + self.parts.node.limits().request_timeout;
        for (id, answer) in revokes {
            let patience = give_up.saturating_duration_since(clock::now());
            match answer.wait(patience).await {
                Ok(_) => self.parts.node.metrics().leases_expired.inc(),
                // Somebody else revoked it.
                Err(Error::LeaseNotFound) => {}
                Err(error) => {
                    self.parts.node.note_failure(&error);
                    tracing::warn!(lease = format!("{id:x}"), %error, "cannot revoke a lease yet");
                    self.parts.node.deadlines().lock().retry(id, now);
                }
            }
        }
    }

    async fn checkpoint_lifetimes(&self) {
        let now = self.parts.node.clock().now_ms();
        let due = self.parts.node.deadlines().lock().checkpoints(now, CHECKPOINTS_PER_TICK_MAX);
        if due.is_empty() {
            return;
        }
        let checkpoints = due
            .into_iter()
            .map(|due| LeaseCheckpoint { id: due.id, remaining_ttl: due.remaining })
            .collect();
        let command = Command::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
        let patience = self.parts.node.limits().request_timeout;
        if let Err(error) = self.submit(command).wait(patience).await {
            tracing::warn!(%error, "cannot checkpoint lease lifetimes");
        }
    }

    async fn compact(&self, revision: i64) {
        let command = Command::Compaction(CompactionRequest { revision, physical: false });
        match self.propose(command).await {
            Ok(()) => tracing::info!(revision, "completed auto compaction"),
            // A client was quicker.
            Err(Error::Compacted) => {}
            Err(error) => tracing::warn!(revision, %error, "cannot compact"),
        }
    }
}

/// Decides when which revision is old enough.
struct Compactor {
    mode: AutoCompaction,
    /// Sampled revisions, oldest first.
    samples: VecDeque<i64>,
    next: Option<Instant>,
    next_compaction: Option<Instant>,
}

impl Compactor {
    fn new(mode: AutoCompaction) -> Self {
        Self { mode, samples: VecDeque::new(), next: None, next_compaction: None }
    }

    /// The revision to compact now, if one is due.
    fn due(&mut self, now: Instant, revision: i64) -> Option<i64> {
        match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Revision(keep) => {
                let next = *self.next.get_or_insert(now + REVISION_MODE_INTERVAL);
                if now < next {
                    return None;
                }
                self.next = Some(now + REVISION_MODE_INTERVAL);
                Some(revision - keep).filter(|revision| *revision > 0)
            }
            AutoCompaction::Periodic(period) => self.periodic(now, revision, period),
        }
    }

    /// After the first whole period: the revision one period ago, then again every period or hour.
    fn periodic(&mut self, now: Instant, revision: i64, period: Duration) -> Option<i64> {
        let interval = period.min(PERIOD_MAX);
        let sampling = interval / SAMPLES_PER_PERIOD;
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + sampling);
        let due = *self.next_compaction.get_or_insert(now + period);
        let kept = (period.as_nanos() / sampling.as_nanos().max(1)) as usize;
        self.samples.push_back(revision);
        while self.samples.len() > kept + 1 {
            self.samples.pop_front();
        }
        if now < due {
            return None;
        }
        self.next_compaction = Some(now + interval);
        self.samples.front().copied()
    }
}

/// The command that takes back a lease's remembered remainder after a renewal.
pub(super) fn forget_remaining(id: i64) -> Command {
    let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl: 0 }];
    Command::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
}
