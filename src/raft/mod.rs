//! Agreement on the log.
mod boot;
pub mod conf;
mod core;
mod drain;
mod guard;
mod log;
mod reads;
mod status;
pub mod wire;
mod work;

#[cfg(test)]
mod tests;

pub use self::boot::Boot;
pub use self::core::{ConfApplied, Core, Proposed, Refusal};
pub use self::guard::Malformed;
pub use self::log::Boundary;
pub use self::status::{Flow, Progress, Status};
pub use self::work::{Persist, ReadId, Role, Standing, Work};
pub use ::raft::eraftpb::{
    ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};
