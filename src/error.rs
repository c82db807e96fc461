//! The two kinds of failure: what a client is told, and what stops the node.
//!
//! - [`Error`] answers a request. Its text is etcd's, byte for byte, because clients match on it
//!   (clientv3 and kube-apiserver map messages, not codes); [`Error::code`] is its gRPC code.
//!   `api::status` is the only place that turns one into a response.
//! - [`Fault`] is IO, corruption or a broken invariant. It is never a response: it stops the node.
//!
//! [`Failure`] is either of them, for code that may meet both. Nothing converts one into the other.

use std::io;
use std::path::{Path, PathBuf};

/// A gRPC status code, by its standard name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// What a client may be told: etcd's `rpctypes` errors and the texts that reach the wire beside
/// them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: invalid client api version")]
    InvalidClientAPIVersion,
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRev,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExist,
    #[error("etcdserver: too large lease TTL")]
    LeaseTTLTooLarge,
    #[error("etcdserver: watch canceled")]
    WatchCanceled,
    #[error("etcdserver: member ID already exist")]
    MemberExist,
    #[error("etcdserver: Peer URLs already exists")]
    PeerURLExist,
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    MemberNotEnoughStarted,
    #[error("etcdserver: given member URLs are invalid")]
    MemberBadURLs,
    #[error("etcdserver: member not found")]
    MemberNotFound,
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    #[error("etcdserver: cluster ID mismatch")]
    ClusterIDMismatch,
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    #[error("etcdserver: too many requests")]
    RequestTooManyRequests,
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    #[error("etcdserver: user name already exists")]
    UserAlreadyExist,
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    #[error("etcdserver: user name not found")]
    UserNotFound,
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExist,
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    #[error("etcdserver: invalid auth token")]
    InvalidAuthToken,
    #[error("etcdserver: invalid auth management")]
    InvalidAuthMgmt,
    #[error("etcdserver: revision of auth store is old")]
    AuthOldRevision,
    #[error("etcdserver: no leader")]
    NoLeader,
    #[error("etcdserver: not leader")]
    NotLeader,
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    #[error("etcdserver: not capable")]
    NotCapable,
    #[error("etcdserver: server stopped")]
    Stopped,
    #[error("etcdserver: request timed out")]
    Timeout,
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutDueToLeaderFail,
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutDueToConnectionLost,
    #[error("etcdserver: request timed out, waiting for the applied index took too long")]
    TimeoutWaitAppliedIndex,
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    #[error("etcdserver: rpc not supported for learner")]
    NotSupportedForLearner,
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    #[error("etcdserver: wrong downgrade target version format")]
    WrongDowngradeVersionFormat,
    #[error("etcdserver: invalid downgrade target version")]
    InvalidDowngradeTargetVersion,
    #[error("etcdserver: cluster version not found during downgrade")]
    ClusterVersionUnavailable,
    #[error("etcdserver: cluster has a downgrade job in progress")]
    DowngradeInProcess,
    #[error("etcdserver: no inflight downgrade job")]
    NoInflightDowngrade,
    #[error("etcdserver: request canceled")]
    Canceled,
    #[error("etcdserver: context deadline exceeded")]
    DeadlineExceeded,
    /// A proposal that no leader was there to take, for as long as its client was to wait.
    #[error("context deadline exceeded")]
    NotTaken,
    /// A renewal that met a leader not yet sure of its leadership.
    #[error("not a primary lessor")]
    NotPrimaryLessor,
    #[error("etcdserver: unknown method")]
    UnknownMethod,
    #[error("etcdserver: request timed out, leader transfer took too long")]
    LeaderTransferTimeout,
    #[error("RangeStream does not support custom sort orders")]
    RangeStreamSort,
    #[error("RangeStream does not support revision filters")]
    RangeStreamFilters,
    /// A part of etcd's API that kvorum does not have yet; the text says which.
    #[error("kvorum: {0} is not available in this version")]
    NotBuilt(&'static str),
}

impl Error {
    /// The gRPC code etcd sends with this text.
    ///
    /// Two texts go out as `Unknown` although etcd's table gives them another code, because its
    /// server maps them to a client-side type that carries no status; clients have learnt that.
    pub fn code(&self) -> Code {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidClientAPIVersion
            | Self::InvalidSortOption
            | Self::MemberBadURLs
            | Self::RequestTooLarge
            | Self::UserEmpty
            | Self::RoleEmpty
            | Self::AuthFailed
            | Self::PermissionNotGiven
            | Self::InvalidAuthMgmt
            | Self::AuthOldRevision
            | Self::WrongDowngradeVersionFormat
            | Self::InvalidDowngradeTargetVersion => Code::InvalidArgument,
            Self::Compacted | Self::FutureRev | Self::LeaseTTLTooLarge => Code::OutOfRange,
            Self::NoSpace => Code::ResourceExhausted,
            Self::LeaseNotFound | Self::MemberNotFound => Code::NotFound,
            Self::LeaseExist
            | Self::MemberExist
            | Self::PeerURLExist
            | Self::MemberNotLearner
            | Self::LearnerNotReady
            | Self::TooManyLearners
            | Self::ClusterIDMismatch
            | Self::RootUserNotExist
            | Self::RootRoleNotExist
            | Self::UserAlreadyExist
            | Self::UserNotFound
            | Self::RoleAlreadyExist
            | Self::RoleNotFound
            | Self::RoleNotGranted
            | Self::PermissionNotGranted
            | Self::AuthNotEnabled
            | Self::NotLeader
            | Self::NotCapable
            | Self::NotSupportedForLearner
            | Self::BadLeaderTransferee
            | Self::ClusterVersionUnavailable
            | Self::DowngradeInProcess
            | Self::NoInflightDowngrade => Code::FailedPrecondition,
            Self::WatchCanceled | Self::Canceled => Code::Canceled,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::InvalidAuthToken => Code::Unauthenticated,
            Self::NoLeader
            | Self::LeaderChanged
            | Self::Stopped
            | Self::Timeout
            | Self::TimeoutDueToLeaderFail
            | Self::TimeoutDueToConnectionLost
            | Self::TimeoutWaitAppliedIndex
            | Self::Unhealthy => Code::Unavailable,
            Self::Corrupt => Code::DataLoss,
            Self::DeadlineExceeded | Self::NotTaken => Code::DeadlineExceeded,
            Self::RangeStreamSort | Self::RangeStreamFilters | Self::NotBuilt(_) => {
                Code::Unimplemented
            }
            Self::MemberNotEnoughStarted
            | Self::RequestTooManyRequests
            | Self::NotPrimaryLessor
            | Self::UnknownMethod
            | Self::LeaderTransferTimeout => Code::Unknown,
        }
    }
}

/// What stops the node: it cannot go on without breaking a promise.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Bytes on disk are not what was written there.
    #[error("{} is damaged at offset {offset}: {what}. {advice}", path.display())]
    Corrupt { path: PathBuf, offset: u64, what: String, advice: &'static str },
    /// A row of the state engine is not what was written there, or not what its schema says.
    #[error(
        "row {key} of table {table} is damaged: {what}. \
         Replace this member's data from its peers or a snapshot"
    )]
    Row { table: &'static str, key: String, what: &'static str },
    /// The state engine failed.
    #[error("state engine {engine}: {what}")]
    Engine { engine: &'static str, what: String },
    /// This member's log or vote is not what it promised with it: it must not go on under its id.
    #[error("{0}")]
    Forgotten(String),
    /// The program contradicts itself; a bug, never an operator's mistake.
    #[error("broken invariant: {0}")]
    Broken(String),
}

impl Fault {
    /// An IO failure with what was being done and where.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// A damaged row; its key is escaped as Rust escapes bytes.
    pub fn row(table: &'static str, key: &[u8], what: &'static str) -> Self {
        Self::Row { table, key: key.escape_ascii().to_string(), what }
    }
}

/// How an operation that reads the disk may end badly: refused, or with the node at fault.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Refused(#[from] Error),
    #[error(transparent)]
    Fault(#[from] Fault),
}
