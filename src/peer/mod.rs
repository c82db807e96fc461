//! Other members: what they send us and we send them, as etcd's rafthttp does.
//!
//! Each member asks every other for two streams, and is sent that member's messages on them: who
//! wants to hear dials, who has something to say answers.
//!
//! ```text
//!      A                                                B
//!      │── GET /raft/stream/msgapp/A ──────────────────▶│   B's appends to A
//!      │◀═ 200, frames without end ═════════════════════│
//!      │── GET /raft/stream/message/A ─────────────────▶│   B's other messages to A
//!      │◀═ 200, frames without end ═════════════════════│
//!      │◀─ GET /raft/stream/…/B ────────────────────────│   and the other way round
//! ```
//!
//! What there is so far: the bytes of the streams ([`codec`]) and who is let in ([`headers`]). It
//! is not connected to the driver.

pub mod codec;
pub mod headers;

#[cfg(test)]
mod tests;
