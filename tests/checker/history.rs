//! A history: what clients asked and heard, and what the store has kept, as JSON lines.
//!
//! | line | what it says |
//! |---|---|
//! | `{"op": Op}` | one request, from call to return |
//! | `{"log": Event}` | one change the store has kept; all of them, in order, from revision 2 on |
//! | `{"watch": Watch}` | a watch was begun |
//! | `{"heard": Heard}` | one response of a watch, in the order of arrival |
//! | `{"until": {"watch": 1, "revision": 9}}` | the watch should have heard everything up to there |
//! | `{"compact": Compaction}` | somebody asked for a compaction |
//! | `{"lease": LeaseOp}` | one request about a lease |
//! | `{"ended": {"lease": 7, "at": 90}}` | by then the end of a lease had been decided |
//! | `{"calm": 80}` | from then on there was one leader, and nothing failed any more |
//!
//! ```text
//! {"op":{"client":1,"call":10,"return":25,"request":{"put":{"key":"a","value":"1-1"}},
//!        "outcome":{"answered":{"revision":2,"reply":"put"}}}}
//! {"op":{"client":2,"call":12,"return":30,"request":{"range":{"key":"a","end":"b"}},"outcome":
//!        {"answered":{"revision":2,"reply":{"range":{"count":1,"rows":[
//!          {"key":"a","value":"1-1","create":2,"mod":2,"version":1}]}}}}}}
//! {"log":{"put":{"key":"a","value":"1-1","create":2,"mod":2,"version":1}}}
//! {"heard":{"watch":1,"at":40,"revision":3,"events":[{"delete":{"key":"a","mod":3}}]}}
//! ```
//!
//! - Times are nanoseconds of one monotonic clock for the whole history.
//! - A value is written by one operation only: that is how a write without an answer is known
//!   again. A recorder may put something shorter in place of long values, the same everywhere.
//! - `outcome` is an answer, `"refused"` (it surely did not happen) or `"unknown"`; without a
//!   return, `return` is the time at which the client gave up, or missing.
//! - Keys are text; `end` is as in a range request: missing for one key, `"\u0000"` for no end.
//! - A response without events tells progress, up to its revision, unless its `kind` is another. A
//!   watch that began at no revision has `start` 0 and begins after the revision of its first
//!   response. Progress of a whole stream is entered for each watch on it that was created.
//! - A recorder may leave out what its client does not show: `kind`s, or compactions if there are
//!   none. `previous` has a row or null for each event if the watch asked for `prev_kv`.
//! - Lines of operations may come in any order, and watches are told apart by number.

mod lines;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use lines::{parse, read, write};

/// Everything known of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub ops: Vec<Op>,
    pub log: Vec<Event>,
    pub watches: Vec<Watch>,
    pub compactions: Vec<Compaction>,
    pub leases: Vec<LeaseOp>,
    pub ended: Vec<Ended>,
    pub calm: Option<u64>,
    /// By how many millionths the clocks of members may differ from those of clients.
    pub drift_ppm: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Op {
    pub client: u64,
    pub call: u64,
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    pub request: Request,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Put { key: String, value: String },
    Delete(Span),
    Range(Range),
    Txn(Txn),
}

/// One key, or the keys from one to another.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Span {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Range {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Rows at most; 0 is all of them.
    #[serde(default)]
    pub limit: usize,
    #[serde(default)]
    pub serializable: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Txn {
    #[serde(default)]
    pub compare: Vec<Compare>,
    #[serde(default)]
    pub success: Vec<Request>,
    #[serde(default)]
    pub failure: Vec<Request>,
}

/// A condition on one key; `is` is one of `=`, `!=`, `<`, `>`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Compare {
    pub key: String,
    pub is: String,
    pub target: Target,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(String),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answered(Answer),
    Refused,
    Unknown,
}

/// The header's revision, and the answer to the request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Answer {
    pub revision: i64,
    pub reply: Reply,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Put,
    Delete { deleted: usize },
    Range { count: usize, rows: Vec<Row> },
    Txn { succeeded: bool, replies: Vec<Reply> },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Row {
    pub key: String,
    pub value: String,
    pub create: i64,
    #[serde(rename = "mod")]
    pub modified: i64,
    pub version: i64,
}

/// A change of one key.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Put(Row),
    Delete {
        key: String,
        #[serde(rename = "mod")]
        modified: i64,
    },
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Watch {
    pub id: u64,
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    pub start: i64,
    /// Filters: kinds of events it does not want.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_put: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_delete: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub prev_kv: bool,
    /// Whether large responses may come in pieces.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fragments: bool,
    /// When it was asked for, and the one process that feeds it, if it is only one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub begun: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub server: u64,
    #[serde(skip)]
    pub heard: Vec<Heard>,
    #[serde(skip)]
    pub until: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Heard {
    pub watch: u64,
    pub at: u64,
    /// The header's.
    pub revision: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: Kind,
    #[serde(default)]
    pub events: Vec<Event>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<Option<Row>>,
}

/// What a response of a watch is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Events, or without any, progress.
    #[default]
    Plain,
    /// Events, of which more follow in the next response.
    Fragment,
    Created,
    Canceled,
    /// Canceled, because history before that revision is gone.
    Compacted(i64),
}

/// A request to compact; it may have been refused.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Compaction {
    pub revision: i64,
    pub call: u64,
    /// When it was acknowledged.
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// The process that was asked, if it is known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub server: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeaseOp {
    pub lease: i64,
    pub call: u64,
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    pub ask: LeaseAsk,
    pub heard: LeaseHeard,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseAsk {
    Grant,
    KeepAlive,
    Revoke,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseHeard {
    /// It was granted or renewed for so many seconds.
    Lives(i64),
    /// It was revoked, or there is none of that number.
    Gone,
    Unknown,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ended {
    pub lease: i64,
    pub at: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Op {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.end.map_or("...".to_owned(), |end| end.to_string());
        write!(out, "client {} [{}..{end}] ", self.client, self.call)?;
        write!(out, "{:?} => {:?}", self.request, self.outcome)
    }
}

impl Request {
    /// Whether it could change anything.
    pub fn may_write(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Delete(_) => true,
            Self::Range(_) => false,
            Self::Txn(txn) => txn.success.iter().chain(&txn.failure).any(Self::may_write),
        }
    }

    /// Whether an old state may answer it.
    pub fn may_lag(&self) -> bool {
        matches!(self, Self::Range(range) if range.serializable)
    }

    /// All puts and deletes in it, whether or not they would be executed.
    pub fn changes<'a>(&'a self, found: &mut Vec<&'a Self>) {
        match self {
            Self::Put { .. } | Self::Delete(_) => found.push(self),
            Self::Range(_) => {}
            Self::Txn(txn) => {
                txn.success.iter().chain(&txn.failure).for_each(|request| request.changes(found));
            }
        }
    }
}

impl Event {
    pub fn key(&self) -> &str {
        match self {
            Self::Put(row) => &row.key,
            Self::Delete { key, .. } => key,
        }
    }

    pub fn revision(&self) -> i64 {
        match self {
            Self::Put(row) => row.modified,
            Self::Delete { modified, .. } => *modified,
        }
    }
}

/// Whether a key lies in a range, as etcd reads `key` and `range_end`.
pub fn within(key: &str, from: &str, end: Option<&str>) -> bool {
    match end {
        None => key == from,
        Some("\0") => key >= from,
        Some(end) => key >= from && key < end,
    }
}
