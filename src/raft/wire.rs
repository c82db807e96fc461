//! Messages as peers write them: etcd's `raftpb.Message`.
//!
//! raft-rs descends from etcd's raft and its messages agree with raftpb in the first twelve fields.
//! From 13 on they part: raft-rs has `request_snapshot` where etcd has `vote`, and a number where
//! etcd has nested messages, which would be misread in silence.
//!
//! - Only the twelve common fields cross. raft-rs's extras (commit_term, priority,
//!   request_snapshot) are hints that its protocol does without; they stay at home.
//! - etcd's `vote` and `responses` belong to messages that never leave a process; they are skipped.
//! - Unknown message and entry types are refused here. raft-rs's own codec would panic on them.
//! - Payloads are slices of the received buffer, not copies.

use ::raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};
use bytes::Bytes;
use prost::Message as _;

/// etcd's `raftpb.Message`, as far as it travels.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(int32, tag = "1")]
    msg_type: i32,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(uint64, tag = "3")]
    from: u64,
    #[prost(uint64, tag = "4")]
    term: u64,
    #[prost(uint64, tag = "5")]
    log_term: u64,
    #[prost(uint64, tag = "6")]
    index: u64,
    #[prost(message, repeated, tag = "7")]
    entries: Vec<Entry>,
    #[prost(uint64, tag = "8")]
    commit: u64,
    #[prost(message, optional, tag = "9")]
    snapshot: Option<Snapshot>,
    #[prost(bool, tag = "10")]
    reject: bool,
    #[prost(uint64, tag = "11")]
    reject_hint: u64,
    #[prost(bytes = "bytes", tag = "12")]
    context: Bytes,
}

/// Why bytes from a peer are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWire {
    #[error("not a raftpb.Message: {0}")]
    Wire(String),
    #[error("raftpb.Message has no type numbered {0}")]
    UnknownMessage(i32),
    #[error("raftpb.Entry has no type numbered {0}")]
    UnknownEntry(i32),
}

/// The bytes of a message for a peer.
pub fn encode(message: Message) -> Vec<u8> {
    let wire = Wire {
        msg_type: message.msg_type,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries,
        commit: message.commit,
        snapshot: message.snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
    };
    wire.encode_to_vec()
}

/// Reads a message from a peer. What it says is not yet believed: see `Core::step`.
pub fn decode(bytes: Bytes) -> Result<Message, BadWire> {
    let wire = Wire::decode(bytes).map_err(|error| BadWire::Wire(error.to_string()))?;
    if !MessageType::is_valid(wire.msg_type) {
        return Err(BadWire::UnknownMessage(wire.msg_type));
    }
    let mut entries = wire.entries;
    for entry in &mut entries {
        home(entry)?;
    }
    Ok(Message {
        msg_type: wire.msg_type,
        to: wire.to,
        from: wire.from,
        term: wire.term,
        log_term: wire.log_term,
        index: wire.index,
        entries,
        commit: wire.commit,
        snapshot: wire.snapshot,
        reject: wire.reject,
        reject_hint: wire.reject_hint,
        context: wire.context,
        ..Message::default()
    })
}

/// Reads one log entry, as the msgappv2 stream carries them.
pub fn decode_entry(bytes: Bytes) -> Result<Entry, BadWire> {
    let mut entry = Entry::decode(bytes).map_err(|error| BadWire::Wire(error.to_string()))?;
    home(&mut entry)?;
    Ok(entry)
}

/// The bytes of one log entry, for a peer or for the WAL.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    entry.encode_to_vec()
}

/// Checks the type of an entry and drops the fields that etcd's schema does not have.
fn home(entry: &mut Entry) -> Result<(), BadWire> {
    if !EntryType::is_valid(entry.entry_type) {
        return Err(BadWire::UnknownEntry(entry.entry_type));
    }
    entry.context = Bytes::new();
    entry.sync_log = false;
    Ok(())
}
