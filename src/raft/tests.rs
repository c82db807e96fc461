//! Proof of the room: golden scripts of what each input leads to, and a seeded simulation that
//! tries to break the promises of raft.
//!
//! Both run the same [`world`]: cores over a network, disks and appliers that act when they are
//! told to. The world checks the promises at every step, so a script cannot show a lie either.

mod codec;
mod cores;
mod script;
mod show;
mod simulation;
mod world;
