//! The handle: what edges may ask of a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flume::Sender;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{oneshot, watch};

use super::accounts::Account;
use super::applier::{self, Job};
use super::arrivals::Arrivals;
use super::checkpointer;
use super::driver::Input;
use super::errands::Errands;
use super::forgotten::Promises;
use super::ids::Ids;
use super::membership::Membership;
use super::progress::{Progress, Standing};
use super::proposals::Proposal;
use super::queues::{Queues, Untaken};
use super::replace::Replacements;
use super::snapshots::{Receiving, Sending};
use super::{Clock, clock, fatal, watches};
use crate::error::{Error, Failure};
use crate::lease::Deadlines;
use crate::limits;
use crate::machine::{self, Machine, Reply};
use crate::members::{self, Member, Members};
use crate::metrics::Metrics;
use crate::mvcc::{HashKv, Reader, View};
use crate::pb::internal_raft_request::Command;
use crate::pb::{
    AlarmRequest, AlarmType, InternalRaftRequest, RequestHeader, ResponseHeader,
    alarm_request::AlarmAction,
};
use crate::planted::{Mistake, planted};
use crate::storage::engine;

/// How long to wait for a member to be ready before asking whether it ever will be.
const READY_PATIENCE: Duration = Duration::from_millis(100);

/// How long to wait for the engine before asking whether it waits for space.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);

/// What requests are measured against.
#[derive(Clone, Debug)]
pub struct Limits {
    pub request_bytes_max: usize,
    pub txn_ops_max: usize,
    pub min_lease_ttl: i64,
    pub quota_bytes: Option<i64>,
    /// The quota as status tells it: etcd shows a negative one as it was given.
    pub quota_shown: i64,
    pub request_timeout: Duration,
    pub election_timeout: Duration,
    pub unary_warning: Duration,
    /// Whether to refuse changes of members that the cluster cannot bear.
    pub strict_reconfig: bool,
    /// Whether to replace members that lost their log and ask for it.
    pub auto_replace: bool,
    pub watch: crate::watch::Limits,
}

/// How much room the state takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the engine's files.
    pub allocated_bytes: i64,
    /// Bytes of live rows.
    pub in_use_bytes: i64,
    /// The quota, etcd's default if none is set.
    pub quota_bytes: i64,
}

/// A node, as everybody but its own threads sees it.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub cluster_id: u64,
    pub member_id: u64,
    pub limits: Limits,
    pub ids: Ids,
    pub streams: AtomicU64,
    pub clock: Clock,
    pub errands: Errands,
    pub progress: Arc<Progress>,
    pub reader: Reader,
    pub membership: Membership,
    pub receiving: Receiving,
    pub sending: Sending,
    pub peer_urls: Vec<String>,
    pub promises: Promises,
    pub replacements: Replacements,
    pub deadlines: Arc<Mutex<Deadlines>>,
    pub metrics: Arc<Metrics>,
    pub driver: Sender<Input>,
    pub queues: Queues,
    pub readers: Arrivals,
    pub applier: Sender<Job>,
    pub checkpointer: Sender<checkpointer::Job>,
    pub watches: Sender<watches::Input>,
    /// See [`Handle::leader_losses`].
    pub losses: watch::Receiver<u64>,
    /// Turns true when the node is ready to serve.
    pub ready: watch::Receiver<bool>,
}

/// The answer to a submitted command.
pub struct Answer {
    reply: oneshot::Receiver<Result<Reply, Error>>,
}

impl Answer {
    /// Waits, but not for ever.
    pub async fn wait(self, patience: Duration) -> Result<Reply, Error> {
        match tokio::time::timeout(patience, self.reply).await {
            Ok(answer) => answer.unwrap_or(Err(Error::Stopped)),
            Err(_) => Err(Error::Timeout),
        }
    }
}

impl Handle {
    /// This member's id.
    pub fn member_id(&self) -> u64 {
        self.shared.member_id
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.shared.cluster_id
    }

    /// What requests are measured against.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// The counters of this member.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The clock leases are timed by.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Where consensus stands.
    pub fn progress(&self) -> Standing {
        self.shared.progress.read()
    }

    /// The newest revision readers see.
    pub fn revision(&self) -> i64 {
        self.shared.reader.revision()
    }

    /// The members as of the newest entry whose answer left.
    pub fn members(&self) -> Arc<Members> {
        self.shared.membership.get()
    }

    pub(super) fn deadlines(&self) -> &Mutex<Deadlines> {
        &self.shared.deadlines
    }

    /// Waits until the member is among others, or alone, and they know where it is.
    pub async fn ready(&self) -> Result<(), super::BootError> {
        let mut ready = self.shared.ready.clone();
        loop {
            let told = ready.wait_for(|ready| *ready);
            match tokio::time::timeout(READY_PATIENCE, told).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(super::BootError::NotReady),
                Err(_) if self.is_removed() => return Err(super::BootError::Removed),
                Err(_) => {}
            }
        }
    }

    /// A header at the newest revision.
    pub fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.shared.cluster_id,
            member_id: self.shared.member_id,
            revision: self.revision(),
            raft_term: self.shared.progress.term.load(Ordering::Acquire),
        }
    }

    /// Fills in what a header that knows its revision lacks.
    pub fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = match header {
            Some(header) if header.revision != 0 => header.revision,
            _ => self.revision(),
        };
        *header = Some(ResponseHeader { revision, ..self.header() });
    }

    /// As [`Handle::complete`], for a header that is there on the last of several messages only.
    pub fn complete_last(&self, header: &mut Option<ResponseHeader>) {
        if header.is_some() {
            self.complete(header);
        }
    }

    /// Proposes a command and waits for its answer, but not for ever: a client whose time is up is
    /// told so, and its command may still take effect, as etcd's may.
    pub async fn propose(&self, command: Command) -> Result<Reply, Error> {
        let since_ms = self.shared.clock.now_ms();
        let answer = self.submit(command);
        let answer = self.patiently(answer, since_ms).await;
        if let Err(error) = &answer {
            self.note_failure(error);
        }
        answer
    }

    /// Counts a command that came to nothing, as far as its sender knows. What was refused at once
    /// is counted by whoever refused it.
    pub(super) fn note_failure(&self, error: &Error) {
        let late = matches!(
            error,
            Error::NotTaken
                | Error::Timeout
                | Error::TimeoutDueToLeaderFail
                | Error::TimeoutDueToConnectionLost
        );
        if late {
            self.shared.metrics.proposals_failed.inc();
        }
    }

    async fn patiently(&self, answer: Answer, since_ms: u64) -> Result<Reply, Error> {
        let answer = answer.wait(self.shared.limits.request_timeout).await;
        if answer == Err(Error::Timeout) { Err(self.why_late(since_ms)) } else { answer }
    }

    /// Changes the members; all of them after that.
    pub async fn change_members(&self, change: members::Change) -> Result<Vec<Member>, Error> {
        let since_ms = self.shared.clock.now_ms();
        let (reply, answer) = oneshot::channel();
        let change = super::membership::worded(self.shared.ids.request(), change);
        self.tell_driver(Input::ProposeChange { change, reply })?;
        match self.patiently(Answer { reply: answer }, since_ms).await? {
            Reply::Members(members) => Ok(members),
            _ => unreachable!("a change of members is answered with them"),
        }
    }

    /// What an answer that did not come most likely waits for, in etcd's terms.
    fn why_late(&self, since_ms: u64) -> Error {
        let Shared { progress, limits, clock, .. } = &*self.shared;
        let leader = progress.leader.load(Ordering::Acquire);
        if leader == 0 && progress.leaderless_ms.load(Ordering::Acquire) < since_ms {
            // It was held all the time, and raft never saw it.
            return Error::NotTaken;
        }
        let elected_ms = progress.elected_ms.load(Ordering::Acquire);
        let lost_ms = elected_ms.saturating_sub(2 * limits.election_timeout.as_millis() as u64);
        if since_ms > lost_ms && since_ms < elected_ms {
            return Error::TimeoutDueToLeaderFail;
        }
        let age = Duration::from_millis(clock.now_ms().saturating_sub(since_ms));
        let heard = |id: u64| {
            let since = self.shared.membership.peers().active_since(id);
            id == self.member_id() || since.is_some_and(|since| clock::since(since) > age)
        };
        let is_cut_off = if leader == self.member_id() {
            let members = self.members();
            let voters = || members.iter().filter(|member| !member.is_learner);
            voters().filter(|member| heard(member.id)).count() <= voters().count() / 2
        } else {
            leader != 0 && !heard(leader)
        };
        if is_cut_off { Error::TimeoutDueToConnectionLost } else { Error::Timeout }
    }

    pub(super) fn tell_driver(&self, input: Input) -> Result<(), Error> {
        Ok(self.shared.queues.offer(&self.shared.driver, input)?)
    }

    /// Whether this member leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.shared.progress.leader.load(Ordering::Acquire) == self.member_id()
    }

    /// Counts how often this member has missed a leader for three election timeouts. Only a change
    /// from now on is one.
    pub fn leader_losses(&self) -> watch::Receiver<u64> {
        let mut losses = self.shared.losses.clone();
        losses.mark_unchanged();
        losses
    }

    /// Whether the node is being stopped.
    pub(super) fn is_stopping(&self) -> bool {
        self.shared.progress.stopping.load(Ordering::Acquire)
    }

    /// Proposes a command; the answer may be waited for, or not.
    pub fn submit(&self, command: Command) -> Answer {
        self.submit_in(None, command)
    }

    /// Proposes what only a leader knows: if this member does not lead that term any more it is
    /// refused, and never forwarded to a successor that knows better.
    pub(super) fn submit_in(&self, reign: Option<u64>, command: Command) -> Answer {
        let (sender, reply) = oneshot::channel();
        if let Err((error, sender)) = self.try_submit(reign, command, sender) {
            let _ = sender.send(Err(error));
        }
        Answer { reply }
    }

    fn try_submit(
        &self,
        reign: Option<u64>,
        command: Command,
        reply: oneshot::Sender<Result<Reply, Error>>,
    ) -> Result<(), (Error, oneshot::Sender<Result<Reply, Error>>)> {
        let standing = self.progress();
        if standing.committed.saturating_sub(standing.applied) > limits::APPLY_LAG_MAX {
            return Err((Error::RequestTooManyRequests, reply));
        }
        let header = RequestHeader { id: self.shared.ids.request(), ..RequestHeader::default() };
        let request = InternalRaftRequest { header: Some(header), id: 0, command: Some(command) };
        let payload = request.encode_to_vec();
        if payload.len() > self.shared.limits.request_bytes_max {
            return Err((Error::RequestTooLarge, reply));
        }
        let proposal = Proposal { payload: payload.into(), request, reply, reign };
        let offered = self.shared.queues.offer(&self.shared.driver, Input::Propose(proposal));
        offered.map_err(|untaken| {
            let (input, error) = match untaken {
                Untaken::Full(input) => (input, Error::RequestTooManyRequests),
                Untaken::Stopped(input) => (input, Error::Stopped),
            };
            match *input {
                Input::Propose(proposal) => (error, proposal.reply),
                _ => unreachable!("a proposal was sent"),
            }
        })
    }

    /// Refuses a command that would take the state over its quota, and raises NOSPACE.
    pub async fn reserve(&self, command: &Command) -> Result<(), Error> {
        let quota_bytes = self.shared.limits.quota_bytes.unwrap_or(i64::MAX);
        let cost = machine::cost_bytes(command);
        let full = self.shared.progress.is_disk_full();
        if cost == 0 {
            return Ok(());
        }
        let live_bytes = self.settle(self.shared.reader.live_bytes().map_err(Failure::Fault))?;
        if !full && live_bytes + cost < quota_bytes {
            return Ok(());
        }
        let alarm = AlarmRequest {
            member_id: self.shared.member_id,
            action: AlarmAction::Activate as i32,
            alarm: AlarmType::Nospace as i32,
        };
        tracing::warn!(quota_bytes, disk_full = full, "no space: raising NOSPACE");
        self.propose(Command::Alarm(alarm)).await?;
        Err(Error::NoSpace)
    }

    /// Returns when this member's applied state shows everything acknowledged before the call.
    ///
    /// A member that is alone and has applied its whole log may answer at once: whatever anybody
    /// was shown, was applied here first. The driver closes this door with every change of role,
    /// and when another member is added, be it a learner.
    pub async fn read_barrier(&self) -> Result<(), Error> {
        let open = self.shared.progress.read_open.load(Ordering::Acquire);
        if open || planted(Mistake::ReadWithoutQuestion) {
            return Ok(());
        }
        let (reply, opened) = oneshot::channel();
        if self.shared.readers.come(reply)? {
            self.tell_driver(Input::Readers)?;
        }
        match tokio::time::timeout(self.shared.limits.request_timeout, opened).await {
            Ok(answer) => answer.unwrap_or(Err(Error::Stopped)),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Reads from the newest published state.
    pub fn read<T>(&self, read: impl FnOnce(&View) -> Result<T, Failure>) -> Result<T, Error> {
        self.settle(read(&self.shared.reader.view()))
    }

    /// The newest published rows, for reads that pin what they need themselves.
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// A failed read as a client sees it; a fault stops the process.
    pub fn settle<T>(&self, read: Result<T, Failure>) -> Result<T, Error> {
        match read {
            Ok(value) => Ok(value),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Fault(fault)) => fatal(&fault),
        }
    }

    /// Asks the machine on its own thread, between two batches.
    pub async fn inspect<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let question: applier::Question = Box::new(move |machine| {
            let _ = reply.send(question(machine));
        });
        let _ = self.shared.applier.send(Job::Ask(question));
        answer.await.map_err(|_| Error::Stopped)
    }

    /// A random lease id.
    pub fn lease_id(&self) -> i64 {
        self.shared.ids.lease()
    }

    /// Opens a watch stream; what waits in it is charged to an account.
    pub(crate) fn watch(&self, account: Account) -> super::WatchStream {
        let shared = &self.shared;
        let (inbox, progress) = (shared.watches.clone(), shared.progress.clone());
        super::WatchStream::open(&shared.streams, inbox, progress, &shared.limits.watch, account)
    }

    /// Returns when everything applied before the call is in the engine; refused while the engine
    /// waits for space, which may be for long.
    pub async fn flush(&self) -> Result<(), Error> {
        let (reply, mut flushed) = oneshot::channel();
        let _ = self.shared.applier.send(Job::Flush(reply));
        loop {
            match tokio::time::timeout(FLUSH_PATIENCE, &mut flushed).await {
                Ok(flushed) => return flushed.map_err(|_| Error::Stopped),
                Err(_) if self.shared.progress.is_state_disk_full() => return Err(Error::NoSpace),
                Err(_) => {}
            }
        }
    }

    /// A view of the engine with everything applied before the call.
    pub async fn engine_view(&self) -> Result<Box<dyn engine::View>, Error> {
        self.flush().await?;
        let view = self.shared.reader.engine().view();
        self.settle(view.map_err(Failure::Fault))
    }

    /// Returns when every compaction accepted before the call has removed its rows, durably.
    pub async fn compaction_finished(&self) -> Result<(), Error> {
        let (reply, finished) = oneshot::channel();
        let _ = self.shared.applier.send(Job::AwaitCompaction(reply));
        finished.await.map_err(|_| Error::Stopped)?;
        self.flush().await
    }

    /// The hash of the rows as of a revision, 0 for the newest; the same on every member.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let started = Instant::now();
        let reader = self.shared.reader.clone();
        let hashing = self.shared.errands.aside(move || reader.hash_kv(revision));
        let hash = self.settle(hashing.await.ok_or(Error::Stopped)?);
        self.shared.metrics.mvcc_hash_rev_seconds.observe(started.elapsed().as_secs_f64());
        hash
    }

    /// The hash of everything, tables and all.
    pub async fn hash(&self) -> Result<u32, Error> {
        let rows = self.engine_view().await?;
        let hashing = self.shared.errands.aside(move || crate::storage::state::hash(&*rows));
        self.settle(hashing.await.ok_or(Error::Stopped)?.map_err(Failure::Fault))
    }

    /// Rewrites the engine's files without what they no longer need, while requests go on.
    pub async fn defragment(&self) -> Result<(), Error> {
        self.flush().await?;
        let (reply, finished) = oneshot::channel();
        let _ = self.shared.checkpointer.send(checkpointer::Job::Defragment(reply));
        finished.await.map_err(|_| Error::Stopped)
    }

    /// How much room the state takes.
    pub fn sizes(&self) -> Result<Sizes, Error> {
        let size = self.shared.reader.engine().size_bytes().map_err(Failure::Fault);
        Ok(Sizes {
            allocated_bytes: self.settle(size)? as i64,
            in_use_bytes: self.settle(self.shared.reader.live_bytes().map_err(Failure::Fault))?,
            quota_bytes: self.shared.limits.quota_shown,
        })
    }

    /// Sets the gauges that mirror state.
    pub fn refresh_metrics(&self) {
        let (metrics, standing) = (self.metrics(), self.progress());
        metrics.has_leader.set(i64::from(standing.leader != 0));
        metrics.is_leader.set(i64::from(standing.leader == self.member_id()));
        metrics.is_learner.set(i64::from(self.is_learner()));
        metrics.proposals_committed.set(standing.committed as i64);
        metrics.proposals_applied.set(standing.applied as i64);
        metrics.proposals_pending.set(self.shared.progress.pending.load(Ordering::Relaxed) as i64);
        let view = self.shared.reader.view();
        metrics.mvcc_revision.set(view.revision());
        metrics.mvcc_compact_revision.set(view.compact_revision());
        metrics.mvcc_keys.set(view.keys());
        if let Ok(sizes) = self.sizes() {
            metrics.db_total_bytes.set(sizes.allocated_bytes);
            metrics.db_in_use_bytes.set(sizes.in_use_bytes);
            metrics.quota_bytes.set(sizes.quota_bytes as f64);
        }
    }
}
