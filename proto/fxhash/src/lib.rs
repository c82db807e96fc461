//! The hasher of raft-rs's maps, under the name of a crate that is no longer maintained.
//!
//! raft-rs 0.7.0 asks for `fxhash` (RUSTSEC-2025-0057) and uses one type of it. `rustc-hash` 1.1
//! computes the same function, so the order in which raft-rs walks its peers is unchanged, and is
//! the same in every process: no seed, no surprise for the simulator.

pub use rustc_hash::FxHasher;
