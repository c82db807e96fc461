//! The messages that raft-rs 0.7.0 is compiled against, in kvorum's own making.
//!
//! raft-rs takes its types from a crate named `raft-proto`; a `[patch.crates-io]` entry puts this
//! one in its place. What differs from the published crate, and why:
//!
//! - **prost 0.14 with [`bytes::Bytes`]**: a payload is counted, not copied, on its way from the
//!   socket through the log to every follower. No protoc, no build script.
//! - **etcd's numbers**: `ConfChangeAddLearnerNode` is 3, because 2 is etcd's
//!   `ConfChangeUpdateNode`. Log entries and conf states are therefore etcd's, byte for byte.
//! - **Unknown enumeration values are errors, not panics**: decoding refuses them
//!   ([`protobuf::Message::check`]), and the typed getters are total.
//!
//! Deliberately absent: the text form of conf changes, which only raft-rs's own tests use.
//!
//! These structs are raft-rs's dialect. Fields 13 to 16 of [`eraftpb::Message`] mean something
//! else, or nothing, to etcd; what goes to a peer is translated first (kvorum's `raft/wire.rs`).

mod accessors;
mod conf_change;
mod conf_state;
pub mod eraftpb;

pub use conf_change::{ConfChangeI, new_conf_change_single};
pub use conf_state::conf_state_eq;

/// The names that raft-rs re-exports to its users.
pub mod prelude {
    pub use crate::eraftpb::{
        ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2,
        ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
    };
}
