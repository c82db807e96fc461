//! Every key the tables hold beside user revisions, and the small values behind them.
//!
//! The layout is etcd's bbolt schema, byte for byte, so that a snapshot is the same rows in another
//! container and a hash over them agrees. Values that are protobuf messages or member JSON belong
//! to the floor that owns them; here are only the keys and the values that are a number, a flag, a
//! text or the raft configuration.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `consistent_index`, `term` | 8 bytes big-endian |
//! | meta | `confState` | JSON, see [`ConfState`] |
//! | meta | `scheduledCompactRev`, `finishedCompactRev` | a revision, 17 bytes |
//! | meta | `storageVersion` | text, `3.7.0` |
//! | cluster | `clusterVersion` | text, `3.7.0` |
//! | cluster | `downgrade` | JSON, owned by `members` |
//! | auth | `authEnabled` | one byte, 0 or 1 |
//! | auth | `authRevision` | 8 bytes big-endian |
//! | lease | 8 bytes big-endian lease id | protobuf, owned by `lease` |
//! | members | lower-case hex id, no padding | JSON, owned by `members` |
//! | members_removed | lower-case hex id, no padding | `removed` |
//! | alarm | a marshalled `AlarmMember` | empty |
//! | authUsers, authRoles | the name | protobuf, owned by `auth` |
//! | key | a revision, see `mvcc` | protobuf, owned by `mvcc` |
//!
//! Invariants:
//! - Encoding and decoding are inverse; what would encode differently does not decode.
//! - Bytes from disk never panic: they decode or they are a [`Fault::Row`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::engine::{Table, Write};
use crate::error::Fault;

/// meta: the raft index of the newest entry whose effects the tables hold.
pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
/// meta: the term of that entry.
pub const TERM: &[u8] = b"term";
/// meta: the raft configuration as of that entry.
pub const CONF_STATE: &[u8] = b"confState";
/// meta: the revision a compaction was accepted for.
pub const SCHEDULED_COMPACT_REV: &[u8] = b"scheduledCompactRev";
/// meta: the revision up to which compaction has removed rows.
pub const FINISHED_COMPACT_REV: &[u8] = b"finishedCompactRev";
/// meta: the schema version, as text.
pub const STORAGE_VERSION: &[u8] = b"storageVersion";
/// cluster: the agreed cluster version, as text.
pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
/// cluster: the downgrade job, if one runs.
pub const DOWNGRADE: &[u8] = b"downgrade";
/// auth: whether authentication is on.
pub const AUTH_ENABLED: &[u8] = b"authEnabled";
/// auth: the revision of users, roles and their grants.
pub const AUTH_REVISION: &[u8] = b"authRevision";
/// members_removed: the value of every row.
pub const REMOVED: &[u8] = b"removed";

/// Length of a revision without the tombstone mark.
const REVISION_BYTES: usize = 17;
/// Between a revision's main and sub parts.
const REVISION_SEPARATOR: u8 = b'_';

/// The raft configuration, in the JSON etcd stores it in.
///
/// etcd leaves empty lists out and always writes `auto_leave`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfState {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters_outgoing: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners_next: Vec<u64>,
    #[serde(default)]
    pub auto_leave: bool,
}

impl ConfState {
    /// The value of [`CONF_STATE`].
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("integers and booleans have a JSON form")
    }

    /// The configuration a [`CONF_STATE`] row holds.
    pub fn decode(value: &[u8]) -> Result<Self, Fault> {
        // serde would also take the fields from an array.
        let object = Some(value).filter(|value| value.starts_with(b"{"));
        object
            .and_then(|value| serde_json::from_slice(value).ok())
            .ok_or_else(|| Fault::row(Table::Meta.name(), CONF_STATE, "not a raft configuration"))
    }
}

/// The two rows that say how far the tables have come; every batch carries them.
pub fn applied(index: u64, term: u64) -> [Write; 2] {
    let put = |key, value| Write::Put {
        table: Table::Meta,
        key: Bytes::from_static(key),
        value: Bytes::copy_from_slice(&encode_u64(value)),
    };
    [put(CONSISTENT_INDEX, index), put(TERM, term)]
}

/// The value of `consistent_index`, `term` and `authRevision`.
pub fn encode_u64(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number in row `key` of `table`.
pub fn decode_u64(table: Table, key: &[u8], value: &[u8]) -> Result<u64, Fault> {
    let bytes = value.try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| Fault::row(table.name(), key, "not 8 bytes"))
}

/// The value of `scheduledCompactRev` and `finishedCompactRev`: the revision (main, 0).
pub fn encode_compact_revision(main: i64) -> [u8; REVISION_BYTES] {
    assert!(main >= 0, "revisions are not negative");
    let mut value = [0; REVISION_BYTES];
    value[..8].copy_from_slice(&main.to_be_bytes());
    value[8] = REVISION_SEPARATOR;
    value
}

/// The main revision in row `key` of the meta table.
pub fn decode_compact_revision(key: &[u8], value: &[u8]) -> Result<i64, Fault> {
    let main = value.first_chunk().map_or(-1, |main| i64::from_be_bytes(*main));
    if main < 0 || value != encode_compact_revision(main) {
        return Err(Fault::row(Table::Meta.name(), key, "not a compaction revision"));
    }
    Ok(main)
}

/// The value of `authEnabled`.
pub fn encode_flag(on: bool) -> [u8; 1] {
    [u8::from(on)]
}

/// The flag in row `key` of `table`.
pub fn decode_flag(table: Table, key: &[u8], value: &[u8]) -> Result<bool, Fault> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Fault::row(table.name(), key, "not a flag")),
    }
}

/// The text in row `key` of `table`: a version.
pub fn decode_text<'a>(table: Table, key: &[u8], value: &'a [u8]) -> Result<&'a str, Fault> {
    std::str::from_utf8(value).map_err(|_| Fault::row(table.name(), key, "not UTF-8"))
}

/// The key of a lease.
pub fn lease_key(id: i64) -> [u8; 8] {
    id.to_be_bytes()
}

/// The lease a key of the lease table names.
pub fn lease_id(key: &[u8]) -> Result<i64, Fault> {
    let bytes = key.try_into();
    bytes.map(i64::from_be_bytes).map_err(|_| Fault::row(Table::Lease.name(), key, "not 8 bytes"))
}

/// The key of a member, present or removed.
pub fn member_key(id: u64) -> String {
    format!("{id:x}")
}

/// The member a key of `table` (members or members_removed) names.
pub fn member_id(table: Table, key: &[u8]) -> Result<u64, Fault> {
    let text = std::str::from_utf8(key).ok();
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .filter(|id| member_key(*id).as_bytes() == key)
        .ok_or_else(|| Fault::row(table.name(), key, "not a member id"))
}

#[cfg(test)]
mod tests;
