//! Durable storage: the write-ahead log and the state engine, both behind one disk seam.
//!
//! The log holds what was agreed, in order, and is what an acknowledgement rests on. The engine
//! holds what the log amounts to, some moments behind; it may be rebuilt, the log may not.
//!
//! Invariants:
//! - Every byte goes through [`disk::Disk`] (sled is the exception: it owns its files, and
//!   therefore never carries an acknowledgement).
//! - A failed `sync` is final. Nobody retries it; the node stops.
//! - A checkpoint is one engine commit: rows, applied index and term together or not at all.

pub mod blocks;
pub mod defrag;
pub mod disk;
pub mod engine;
pub mod keys;
pub mod layout;
pub mod mem;
pub mod redb;
mod seal;
pub mod sled;
pub mod state;
pub mod wal;
