//! The state machine: one command in, one answer and its changes out.
//!
//! ```text
//! entry ─▶ decode ─▶ gate ─▶ kv | txn | lease | alarm | members ─▶ Outcome
//!                    │refused                                       reply, changes, lease effects
//! ```
//!
//! Every member applies the same entries in the same order and must arrive at the same state, so
//! nothing here reads a clock, a file, a flag or a random number: what a command needs was decided
//! before it was proposed.
//!
//! Invariants:
//! - A refused command changes nothing. A transaction is checked whole before its first write.
//! - Applying cannot fail in part: either an [`Outcome`], or a [`Fault`] that stops the node.
//! - Everything that changed leaves through [`Machine::take_checkpoint`], with the applied index
//!   and term beside it; the checkpointer commits all of it or nothing.
//!
//! Deliberately absent: waiting clients, threads, metrics. The applier (`node::applier`) owns the
//! machine and deals with them.

mod counts;
mod fuzz;
mod gate;
mod kv;
mod lease;
mod members;
mod restore;
mod txn;

use std::sync::Arc;

use crate::alarm::Alarms;
use crate::error::{Error, Failure, Fault};
use crate::lease::Book;
use crate::marks::{Mark, mark};
use crate::members::{Member, Members};
use crate::mvcc::{Batch, Changes, Image, Reader, Revision, Store};
use crate::pb::internal_raft_request::Command;
use crate::pb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionResponse, DeleteRangeResponse,
    InternalRaftRequest, LeaseGrantResponse, LeaseRevokeResponse, PutResponse, RangeResponse,
    ResponseHeader, TxnResponse, alarm_request::AlarmAction,
};
use crate::planted::{Mistake, planted};
use crate::storage::engine::{Engine, Write};
use crate::storage::keys::{self, ConfState};

pub use counts::Counts;
pub use fuzz::fuzz_entries;
pub use gate::cost_bytes;
pub use txn::{is_serializable, is_write, read_only};

/// What a committed entry carries for the machine.
#[derive(Clone, Debug)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    pub request: InternalRaftRequest,
}

/// The answer to a command, of the command's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    Alarm(AlarmResponse),
    /// All members after a change of them.
    Members(Vec<Member>),
    /// The command has no answer of its own.
    Done,
}

/// What a lease went through; whoever keeps deadlines wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    Granted { id: i64, ttl: i64 },
    Revoked { id: i64 },
    Checkpointed { id: i64, remaining_ttl: i64 },
}

/// What applying one entry amounted to.
#[derive(Debug)]
pub struct Outcome {
    pub reply: Result<Reply, Error>,
    /// Rows that changed; `None` when the revision did not move.
    pub changes: Option<Changes>,
    pub leases: Vec<LeaseEffect>,
    pub counts: Counts,
}

impl Outcome {
    fn of(reply: Result<Reply, Error>) -> Self {
        Self { reply, changes: None, leases: Vec::new(), counts: Counts::default() }
    }
}

/// What the machine is told once: facts of this member that decide answers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub member_id: u64,
    /// Bytes of live rows at which writes are answered with NOSPACE; `None` is no limit.
    pub quota_bytes: Option<i64>,
    /// How many learners there may be at a time; the same on all members, or they fall apart.
    pub learners_max: usize,
}

/// All replicated state of a member.
pub struct Machine {
    settings: Settings,
    store: Store,
    leases: Book,
    alarms: Alarms,
    /// Shared with whoever looks at the members from outside.
    members: Arc<Members>,
    cluster_version: Option<String>,
    conf_state: ConfState,
    applied: Applied,
    /// Rows of tables other than `key`, changed since the last take.
    writes: Vec<Write>,
}

/// How far the machine has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub index: u64,
    pub term: u64,
}

/// Everything that changed between two checkpoints. It reaches the engine whole or not at all.
#[derive(Debug)]
pub struct Checkpoint {
    pub applied: Applied,
    rows: Batch,
    rest: Vec<Write>,
    image: Option<Image>,
}

impl Checkpoint {
    /// The writes of one engine commit: rows, other tables, and how far they bring the machine.
    pub fn writes(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        self.rows.writes(&mut writes);
        if planted(Mistake::RowsBehindIndex) && self.applied.index.is_multiple_of(3) {
            writes.pop();
        }
        writes.append(&mut self.rest);
        writes.extend(keys::applied(self.applied.index, self.applied.term));
        writes
    }

    /// The newest row in it.
    pub fn revision(&self) -> Revision {
        self.rows.revision()
    }

    /// The image that was asked for. It may be written when the writes are committed.
    pub fn take_image(&mut self) -> Option<Image> {
        self.image.take()
    }
}

impl Machine {
    /// The state an engine holds; an image of the rows, if there is one, makes it quick.
    pub fn open(
        engine: Arc<dyn Engine>,
        settings: Settings,
        image: Option<Image>,
    ) -> Result<Self, Fault> {
        restore::open(engine, settings, image)
    }

    /// Puts the state another engine holds, a later one of the same history, in place of this one.
    pub fn install(&mut self, engine: Arc<dyn Engine>) -> Result<(), Fault> {
        restore::install(self, engine)
    }

    /// How far the machine has come.
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// The leases, for readers on the machine's thread.
    pub fn leases(&self) -> &Book {
        &self.leases
    }

    /// The members; whoever needs them longer clones the pointer.
    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// The alarms in force.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The agreed cluster version, such as `3.7.0`.
    pub fn cluster_version(&self) -> Option<&str> {
        self.cluster_version.as_deref()
    }

    /// The rows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The rows, for the applier's housekeeping: publishing and compaction steps.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// A handle for readers on any thread.
    pub fn reader(&self) -> Reader {
        self.store.reader()
    }

    /// Applies one committed entry.
    pub fn apply(&mut self, entry: Entry) -> Result<Outcome, Fault> {
        self.advance(entry.index, entry.term);
        let Some(command) = entry.request.command else { return Ok(Outcome::of(Ok(Reply::Done))) };
        if let Err(error) = gate::admit(self, &command) {
            return Ok(Outcome::of(Err(error)));
        }
        let over_quota = gate::over_quota(self, &command)?;
        if planted(Mistake::ApplyByMember)
            && entry.index.is_multiple_of(50)
            && self.settings.member_id.is_multiple_of(2)
        {
            return Ok(Outcome::of(Err(Error::Timeout)));
        }
        let mut outcome = self.dispatch(command)?;
        if over_quota && outcome.reply.is_ok() {
            mark(Mark::QuotaExceeded);
            // The command was agreed and is applied; only its sender learns that space ran out.
            outcome.reply = Err(Error::NoSpace);
        }
        Ok(outcome)
    }

    /// Steps over an entry that holds no command: a leader's first, or a configuration change.
    pub fn advance(&mut self, index: u64, term: u64) {
        assert!(index == self.applied.index + 1, "entries are applied one after the other");
        self.applied = Applied { index, term };
    }

    /// Everything that changed since the last take, for one commit of the engine, and an image of
    /// the rows as of then, if asked for.
    pub fn take_checkpoint(&mut self, with_image: bool) -> Checkpoint {
        Checkpoint {
            applied: self.applied,
            rows: self.store.take_writes(),
            rest: std::mem::take(&mut self.writes),
            image: with_image.then(|| self.store.image()),
        }
    }

    fn dispatch(&mut self, command: Command) -> Result<Outcome, Fault> {
        match command {
            Command::Range(request) => self.range(&request),
            Command::Put(request) => self.put(request),
            Command::DeleteRange(request) => self.delete_range(&request),
            Command::Txn(request) => self.txn(request),
            Command::Compaction(request) => Ok(Outcome::of(self.compact(request.revision))),
            Command::LeaseGrant(request) => Ok(self.lease_grant(&request)),
            Command::LeaseRevoke(request) => self.lease_revoke(request.id),
            Command::LeaseCheckpoint(request) => Ok(self.lease_checkpoint(&request)),
            Command::Alarm(request) => Ok(Outcome::of(self.alarm(&request))),
            Command::ClusterVersionSet(request) => Ok(self.set_cluster_version(request.ver)),
            Command::ClusterMemberAttrSet(request) => Ok(self.set_member_attributes(request)),
            Command::DowngradeVersionTest(_) => Ok(Outcome::of(Ok(Reply::Done))),
            Command::AuthEnable(_)
            | Command::AuthDisable(_)
            | Command::AuthStatus(_)
            | Command::Authenticate(_)
            | Command::AuthUserAdd(_)
            | Command::AuthUserDelete(_)
            | Command::AuthUserGet(_)
            | Command::AuthUserChangePassword(_)
            | Command::AuthUserGrantRole(_)
            | Command::AuthUserRevokeRole(_)
            | Command::AuthUserList(_)
            | Command::AuthRoleList(_)
            | Command::AuthRoleAdd(_)
            | Command::AuthRoleDelete(_)
            | Command::AuthRoleGet(_)
            | Command::AuthRoleGrantPermission(_)
            | Command::AuthRoleRevokePermission(_) => {
                Ok(Outcome::of(Err(Error::NotBuilt("authentication"))))
            }
            Command::DowngradeInfoSet(_) => {
                Ok(Outcome::of(Err(Error::NotBuilt("cluster downgrade"))))
            }
        }
    }

    fn compact(&mut self, revision: i64) -> Result<Reply, Error> {
        self.store.compact(revision)?;
        let header = Some(revision_header(self.store.revision()));
        Ok(Reply::Compaction(CompactionResponse { header }))
    }

    fn alarm(&mut self, request: &AlarmRequest) -> Result<Reply, Error> {
        let kind = request.alarm;
        let action = AlarmAction::try_from(request.action).map_err(|_| Error::UnknownMethod)?;
        let alarms = match action {
            AlarmAction::Get => self.alarms.list(kind),
            AlarmAction::Activate => {
                if kind == AlarmType::None as i32 {
                    Vec::new()
                } else {
                    self.writes.extend(self.alarms.raise(kind, request.member_id));
                    vec![AlarmMember { member_id: request.member_id, alarm: request.alarm }]
                }
            }
            AlarmAction::Deactivate => match self.alarms.disarm(kind, request.member_id) {
                Some(row) => {
                    self.writes.push(row);
                    vec![AlarmMember { member_id: request.member_id, alarm: request.alarm }]
                }
                None => Vec::new(),
            },
        };
        Ok(Reply::Alarm(AlarmResponse { header: None, alarms }))
    }
}

/// A header that says only the revision; the edge fills in cluster, member and term.
fn revision_header(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}

/// Splits a failure into the answer of a refused command and the fault that stops the node.
fn refused<T>(failure: Result<T, Failure>) -> Result<Result<T, Error>, Fault> {
    match failure {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::Refused(error)) => Ok(Err(error)),
        Err(Failure::Fault(fault)) => Err(fault),
    }
}
