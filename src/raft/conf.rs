//! Configuration changes as etcd writes them into the log.
//!
//! A change of members is an entry of type ConfChange whose data is a V1 `raftpb.ConfChange`, one
//! member at a time, whose context is JSON. raft needs of it only who votes; the rest (URLs, names)
//! is for the members floor.
//!
//! - Four kinds, with etcd's numbers. [`Kind::Update`] changes no voter set, so raft-rs, which has
//!   no name for it, never hears of it.
//! - [`apply`] is a pure function from conf state to conf state. The core runs it beside raft-rs
//!   and asserts that both agree.
//! - Conf states built here are sorted, so that equal configurations are equal bytes.
//!
//! Deliberately absent: V2 (joint) changes. etcd's API never makes one, and an etcd member that
//! meets one in its log panics.

use ::raft::eraftpb::UPDATE_NODE;
use ::raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState};
use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Deserializer, Serialize};

/// What a change does to one member. Promotion of a learner is [`Kind::AddVoter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AddVoter,
    Remove,
    Update,
    AddLearner,
}

/// One change of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The proposer's request id, by which its waiter finds the outcome.
    pub id: u64,
    pub kind: Kind,
    /// The member concerned. 0 is etcd's mark for a change that was rejected.
    pub node: u64,
    /// JSON of [`Context`], or empty for a removal.
    pub context: Bytes,
}

/// Why bytes are not a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    #[error("not a ConfChange: {0}")]
    Wire(String),
    #[error("ConfChange has no type numbered {0}")]
    UnknownKind(i32),
}

impl Kind {
    fn from_number(number: i32) -> Option<Kind> {
        if number == UPDATE_NODE {
            return Some(Kind::Update);
        }
        Some(match ConfChangeType::try_from(number).ok()? {
            ConfChangeType::AddNode => Kind::AddVoter,
            ConfChangeType::RemoveNode => Kind::Remove,
            ConfChangeType::AddLearnerNode => Kind::AddLearner,
        })
    }

    fn number(self) -> i32 {
        match self {
            Kind::AddVoter => ConfChangeType::AddNode as i32,
            Kind::Remove => ConfChangeType::RemoveNode as i32,
            Kind::Update => UPDATE_NODE,
            Kind::AddLearner => ConfChangeType::AddLearnerNode as i32,
        }
    }
}

impl Change {
    /// Reads the data of a ConfChange entry.
    pub fn decode(data: &Bytes) -> Result<Change, BadChange> {
        let wire =
            ConfChange::decode(data.clone()).map_err(|error| BadChange::Wire(error.to_string()))?;
        let kind =
            Kind::from_number(wire.change_type).ok_or(BadChange::UnknownKind(wire.change_type))?;
        Ok(Change { id: wire.id, kind, node: wire.node_id, context: wire.context })
    }

    /// The data of a ConfChange entry.
    pub fn encode(&self) -> Bytes {
        self.to_raft().encode_to_vec().into()
    }

    pub(super) fn to_raft(&self) -> ConfChange {
        ConfChange {
            id: self.id,
            change_type: self.kind.number(),
            node_id: self.node,
            context: self.context.clone(),
        }
    }
}

/// The conf state after `change`.
pub fn apply(state: &ConfState, change: &Change) -> ConfState {
    let mut next = state.clone();
    // Node 0 is etcd's mark for a change that was rejected and passes without effect.
    if change.node != 0 && change.kind != Kind::Update {
        next.voters.retain(|id| *id != change.node);
        next.learners.retain(|id| *id != change.node);
    }
    match change.kind {
        Kind::AddVoter if change.node != 0 => next.voters.push(change.node),
        Kind::AddLearner if change.node != 0 => next.learners.push(change.node),
        Kind::AddVoter | Kind::AddLearner | Kind::Remove | Kind::Update => {}
    }
    sorted(next)
}

/// The changes that leave a member alone, as a voter.
pub fn left_alone(state: &ConfState, own: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    if !state.voters.contains(&own) {
        let context = match contains(state, own) {
            true => Context::promotion(own),
            false => Context { id: own, ..Context::default() },
        };
        let context = context.encode();
        changes.push(Change { id: 0, kind: Kind::AddVoter, node: own, context });
    }
    let others = state.voters.iter().chain(&state.learners).filter(|id| **id != own);
    let remove = |id: &u64| Change { id: 0, kind: Kind::Remove, node: *id, context: Bytes::new() };
    changes.extend(others.map(remove));
    changes
}

/// The same configuration in the order that we write it.
pub(super) fn sorted(mut state: ConfState) -> ConfState {
    state.voters.sort_unstable();
    state.learners.sort_unstable();
    state
}

/// Whether a member votes or learns under this conf state.
pub fn contains(state: &ConfState, id: u64) -> bool {
    state.voters.contains(&id) || state.learners.contains(&id)
}

/// Whether an entry is a conf change, of whichever generation.
pub(super) fn is_conf_entry(entry: &Entry) -> bool {
    entry.entry_type != EntryType::EntryNormal as i32
}

/// The log of a new cluster, the same on each of its founding members: one entry per member at
/// index 1 to n of term 1, already committed, in the order of their ids. The conf state starts
/// empty and the members become voters as these entries are applied, as in etcd, so that indexes
/// agree with a cluster that etcd founded.
///
/// It is safe although the first applied entry makes its member the sole voter: raft does not
/// campaign while committed conf changes wait to be applied, and commit is n from the start.
pub fn bootstrap(mut founders: Vec<(u64, Bytes)>) -> (HardState, Vec<Entry>) {
    founders.sort_unstable_by_key(|(id, _)| *id);
    let entries: Vec<Entry> = (1..)
        .zip(founders)
        .map(|(index, (node, context))| {
            assert_ne!(node, 0, "a member id is never 0");
            let change = Change { id: 0, kind: Kind::AddVoter, node, context };
            Entry {
                entry_type: EntryType::EntryConfChange as i32,
                term: 1,
                index,
                data: change.encode(),
                ..Entry::default()
            }
        })
        .collect();
    (HardState { term: 1, vote: 0, commit: entries.len() as u64 }, entries)
}

/// The JSON in a change's context: etcd's member, and whether this promotes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    pub id: u64,
    /// `null` in a promotion, which changes no URL.
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(
        rename = "clientURLs",
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
    /// Absent unless true, as in the contexts that etcd writes for everything but a promotion.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_promote: bool,
}

impl Context {
    /// The context of a promotion of `id`.
    pub fn promotion(id: u64) -> Context {
        Context { id, is_promote: true, ..Context::default() }
    }

    /// Reads the context of an addition, promotion or update.
    pub fn decode(json: &[u8]) -> Result<Context, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub fn encode(&self) -> Bytes {
        let json = serde_json::to_vec(self).expect("strings and numbers always have a JSON form");
        json.into()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn null_is_empty<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_default())
}
