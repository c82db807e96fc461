//! chapter
pub mod model;

mod batch;
mod catchup;
mod change;
mod delivery;
mod feed;
mod fragment;
mod groups;
mod hub;
mod intervals;
mod limits;
mod recent;
mod stream;
mod watcher;
pub mod world;

pub use catchup::{Job, JobId, Page, PageWriter, Visit};
pub use change::{Change, Changes, Kind, Lookup};
pub use delivery::{Body, Delivery, NO_WATCH, Output, Receipts, Refusal, StreamId, Taken};
pub use hub::{Counts, Hub, Now};
pub use limits::Limits;

#[cfg(test)]
mod tests;
