//! Conf changes of both generations, seen as one.
//!
//! - raft-rs computes with [`ConfChangeV2`]; etcd writes [`ConfChange`], and so does kvorum.
//! - A change that concerns no voter set (type 2, or a number that decoding would have refused)
//!   becomes a change of node 0, which raft-rs skips, as etcd does with a rejected change.

use std::borrow::Cow;

use crate::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2,
};

/// One step of a configuration change.
pub fn new_conf_change_single(node_id: u64, change: ConfChangeType) -> ConfChangeSingle {
    ConfChangeSingle { change_type: change as i32, node_id }
}

/// A conf change of either generation.
pub trait ConfChangeI {
    fn into_v2(self) -> ConfChangeV2;
    fn as_v2(&self) -> Cow<'_, ConfChangeV2>;
    /// The change in its first-generation form, if it has one.
    fn as_v1(&self) -> Option<&ConfChange>;
}

impl ConfChangeI for ConfChange {
    fn into_v2(self) -> ConfChangeV2 {
        let single = match ConfChangeType::try_from(self.change_type) {
            Ok(change) => new_conf_change_single(self.node_id, change),
            Err(_) => new_conf_change_single(0, ConfChangeType::AddNode),
        };
        ConfChangeV2 { changes: vec![single], context: self.context, ..ConfChangeV2::default() }
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Owned(self.clone().into_v2())
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        Some(self)
    }
}

impl ConfChangeI for ConfChangeV2 {
    fn into_v2(self) -> ConfChangeV2 {
        self
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Borrowed(self)
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        None
    }
}

impl ConfChangeV2 {
    /// Whether this change goes through a joint configuration, and if so, whether raft leaves it
    /// by itself. More than one step always does; a single step only when asked to.
    pub fn enter_joint(&self) -> Option<bool> {
        match self.get_transition() {
            ConfChangeTransition::Auto if self.changes.len() <= 1 => None,
            ConfChangeTransition::Auto | ConfChangeTransition::Implicit => Some(true),
            ConfChangeTransition::Explicit => Some(false),
        }
    }

    /// Whether this change, an empty one, ends a joint configuration.
    pub fn leave_joint(&self) -> bool {
        self.changes.is_empty() && self.get_transition() == ConfChangeTransition::Auto
    }
}
