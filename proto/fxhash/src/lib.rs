//! The hashers that raft-rs and sled ask for, under the name of a crate no longer maintained.
//!
//! raft-rs 0.7.0 and sled 0.34 depend on `fxhash` (RUSTSEC-2025-0057) and use one type of it each,
//! for maps in memory. `rustc-hash` 1.1 computes the same function, so the order in which raft-rs
//! walks its peers is unchanged, and is the same in every process: no seed, no surprise for the
//! simulator.

pub use rustc_hash::FxHasher;

/// The name sled knows it by; on 64-bit machines, the only ones kvorum runs on, it is the same.
pub use rustc_hash::FxHasher as FxHasher64;
