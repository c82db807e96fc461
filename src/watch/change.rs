//! What the hub is told: the changes of one revision.

use bytes::Bytes;

use crate::error::Fault;

/// Everything one applied command changed, under its one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    pub revision: i64,
    /// In the order of their sub-revisions.
    pub events: Vec<Change>,
}

/// One key put or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Bytes,
    /// The encoded `KeyValue`; for a delete, one with only key and `mod_revision`.
    pub row: Bytes,
    pub kind: Kind,
    /// Whether the put made the key; such an event has no previous row, so none is looked up.
    pub created: bool,
}

/// Whether a key was put or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    Delete,
}

/// The encoded row a change replaced, as of the revision before it; `None` when compaction took it.
pub type Lookup<'a> = dyn FnMut(&Change) -> Result<Option<Bytes>, Fault> + 'a;
