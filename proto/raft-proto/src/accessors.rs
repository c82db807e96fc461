//! Accessors in the manner of rust-protobuf 2, which raft-rs is written in, and the checks that
//! follow a decode.
//!
//! - Getters never panic. [`protobuf::Message::check`] refuses unknown enumeration values when
//!   bytes become a message; a number that was put there by hand reads as the type's zero.
//!   For a [`Message`] that zero is `MsgHup`, which raft-rs refuses from the network.

use std::mem;

use bytes::Bytes;
use protobuf::ProtobufError;

use crate::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
    Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata, UPDATE_NODE,
};

/// Accessors of numbers and booleans, which are read by value.
macro_rules! scalar {
    ($owner:ty, $($field:ident: $type:ty, $get:ident, $set:ident;)+) => {
        impl $owner {
            $(
                #[inline]
                pub fn $get(&self) -> $type {
                    self.$field
                }

                #[inline]
                pub fn $set(&mut self, value: $type) {
                    self.$field = value;
                }
            )+
        }
    };
}

/// Accessors of a list or a byte string, which is read by reference and may be taken out.
macro_rules! sequence {
    ($owner:ty, $($field:ident: $type:ty as $view:ty, $get:ident, $set:ident, $mut:ident,
     $take:ident;)+) => {
        impl $owner {
            $(
                #[inline]
                pub fn $get(&self) -> &$view {
                    &self.$field
                }

                #[inline]
                pub fn $set(&mut self, value: $type) {
                    self.$field = value;
                }

                #[inline]
                pub fn $mut(&mut self) -> &mut $type {
                    &mut self.$field
                }

                #[inline]
                pub fn $take(&mut self) -> $type {
                    mem::take(&mut self.$field)
                }
            )+
        }
    };
}

/// Accessors of a nested message, whose absence reads as its default.
macro_rules! nested {
    ($owner:ty, $field:ident: $type:ty = $absent:expr, $get:ident, $set:ident, $mut:ident,
     $take:ident) => {
        impl $owner {
            #[inline]
            pub fn $get(&self) -> &$type {
                static ABSENT: $type = $absent;
                self.$field.as_ref().unwrap_or(&ABSENT)
            }

            #[inline]
            pub fn $set(&mut self, value: $type) {
                self.$field = Some(value);
            }

            #[inline]
            pub fn $mut(&mut self) -> &mut $type {
                self.$field.get_or_insert_default()
            }

            #[inline]
            pub fn $take(&mut self) -> $type {
                self.$field.take().unwrap_or_default()
            }
        }
    };
}

/// The reading accessor of an enumeration, which lies in its field as a number. prost derives the
/// writing one.
macro_rules! enumeration {
    ($owner:ty, $field:ident: $type:ty = $zero:expr, $get:ident) => {
        impl $owner {
            #[inline]
            pub fn $get(&self) -> $type {
                <$type>::try_from(self.$field).unwrap_or($zero)
            }
        }
    };
}

enumeration!(Entry, entry_type: EntryType = EntryType::EntryNormal, get_entry_type);
enumeration!(Message, msg_type: MessageType = MessageType::MsgHup, get_msg_type);
enumeration!(ConfChangeV2,
    transition: ConfChangeTransition = ConfChangeTransition::Auto, get_transition);
enumeration!(ConfChangeSingle,
    change_type: ConfChangeType = ConfChangeType::AddNode, get_change_type);

scalar!(Entry,
    term: u64, get_term, set_term;
    index: u64, get_index, set_index;
);
scalar!(SnapshotMetadata,
    term: u64, get_term, set_term;
    index: u64, get_index, set_index;
);
scalar!(Message,
    to: u64, get_to, set_to;
    from: u64, get_from, set_from;
    term: u64, get_term, set_term;
    log_term: u64, get_log_term, set_log_term;
    index: u64, get_index, set_index;
    commit: u64, get_commit, set_commit;
    commit_term: u64, get_commit_term, set_commit_term;
    request_snapshot: u64, get_request_snapshot, set_request_snapshot;
    reject: bool, get_reject, set_reject;
    reject_hint: u64, get_reject_hint, set_reject_hint;
    priority: i64, get_priority, set_priority;
);
scalar!(HardState,
    term: u64, get_term, set_term;
    vote: u64, get_vote, set_vote;
    commit: u64, get_commit, set_commit;
);
scalar!(ConfState, auto_leave: bool, get_auto_leave, set_auto_leave;);

sequence!(Entry, data: Bytes as [u8], get_data, set_data, mut_data, take_data;);
sequence!(Snapshot, data: Bytes as [u8], get_data, set_data, mut_data, take_data;);
sequence!(Message,
    entries: Vec<Entry> as [Entry], get_entries, set_entries, mut_entries, take_entries;
    context: Bytes as [u8], get_context, set_context, mut_context, take_context;
);
sequence!(ConfState,
    voters: Vec<u64> as [u64], get_voters, set_voters, mut_voters, take_voters;
    learners: Vec<u64> as [u64], get_learners, set_learners, mut_learners, take_learners;
    voters_outgoing: Vec<u64> as [u64],
        get_voters_outgoing, set_voters_outgoing, mut_voters_outgoing, take_voters_outgoing;
    learners_next: Vec<u64> as [u64],
        get_learners_next, set_learners_next, mut_learners_next, take_learners_next;
);
sequence!(ConfChangeV2,
    changes: Vec<ConfChangeSingle> as [ConfChangeSingle],
        get_changes, set_changes, mut_changes, take_changes;
);

const NO_CONF_STATE: ConfState = ConfState {
    voters: Vec::new(),
    learners: Vec::new(),
    voters_outgoing: Vec::new(),
    learners_next: Vec::new(),
    auto_leave: false,
};
const NO_METADATA: SnapshotMetadata = SnapshotMetadata { conf_state: None, index: 0, term: 0 };
const NO_SNAPSHOT: Snapshot = Snapshot { data: Bytes::new(), metadata: None };

nested!(SnapshotMetadata, conf_state: ConfState = NO_CONF_STATE,
    get_conf_state, set_conf_state, mut_conf_state, take_conf_state);
nested!(Snapshot, metadata: SnapshotMetadata = NO_METADATA,
    get_metadata, set_metadata, mut_metadata, take_metadata);
nested!(Message, snapshot: Snapshot = NO_SNAPSHOT,
    get_snapshot, set_snapshot, mut_snapshot, take_snapshot);

impl Snapshot {
    /// Whether this stands for no snapshot at all: index 0 precedes every log.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.get_metadata().index == 0
    }
}

fn refuse_unless(known: bool, field: &'static str, value: i32) -> Result<(), ProtobufError> {
    if known { Ok(()) } else { Err(ProtobufError::UnknownEnum { field, value }) }
}

/// Messages without enumerations have nothing to check.
macro_rules! unchecked {
    ($($type:ty),+) => {
        $(impl protobuf::Message for $type {
            fn check(&self) -> Result<(), ProtobufError> {
                Ok(())
            }
        })+
    };
}

unchecked!(SnapshotMetadata, Snapshot, HardState, ConfState);

impl protobuf::Message for Entry {
    fn check(&self) -> Result<(), ProtobufError> {
        refuse_unless(EntryType::is_valid(self.entry_type), "Entry.type", self.entry_type)
    }
}

impl protobuf::Message for Message {
    fn check(&self) -> Result<(), ProtobufError> {
        refuse_unless(MessageType::is_valid(self.msg_type), "Message.type", self.msg_type)?;
        self.entries.iter().try_for_each(protobuf::Message::check)
    }
}

impl protobuf::Message for ConfChange {
    fn check(&self) -> Result<(), ProtobufError> {
        let known = self.change_type == UPDATE_NODE || ConfChangeType::is_valid(self.change_type);
        refuse_unless(known, "ConfChange.type", self.change_type)
    }
}

impl protobuf::Message for ConfChangeSingle {
    fn check(&self) -> Result<(), ProtobufError> {
        let known = ConfChangeType::is_valid(self.change_type);
        refuse_unless(known, "ConfChangeSingle.type", self.change_type)
    }
}

impl protobuf::Message for ConfChangeV2 {
    fn check(&self) -> Result<(), ProtobufError> {
        let known = ConfChangeTransition::is_valid(self.transition);
        refuse_unless(known, "ConfChangeV2.transition", self.transition)?;
        self.changes.iter().try_for_each(protobuf::Message::check)
    }
}
