//! The multi-version store of keys.

pub mod buffer;
mod cache;
mod compact;
pub mod fuzz;
mod hash;
mod history;
mod image;
pub mod index;
pub mod model;
mod pages;
mod range;
pub mod reader;
pub mod revision;
pub mod row;
mod rows;
pub mod state;
pub mod store;
pub mod txn;
mod whole;

#[cfg(test)]
mod tests;

pub use compact::Step;
pub use hash::{HashJob, HashKv};
pub use image::Image;
pub use index::Facts;
pub use pages::Pages;
pub use reader::{Reader, View};
pub use revision::Revision;
pub use state::State;
pub use store::{Batch, Store};
pub use txn::{Change, Changes, Kind, WriteTxn};
