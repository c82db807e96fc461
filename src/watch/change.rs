//! What the hub is told: the changes of one revision, as the store hands them out.

use bytes::Bytes;

use crate::error::Fault;

pub use crate::mvcc::{Change, Changes, Kind};

/// The encoded row a change replaced, as of the revision before it; `None` when compaction took it.
pub type Lookup<'a> = dyn FnMut(&Change) -> Result<Option<Bytes>, Fault> + 'a;
