//! Watch: who is told of which change, in which order, and how far behind they are.
//!
//! A [`Hub`] is a state machine owned by one thread. The applier's changes go in, in order; so do
//! the requests of watch streams. Responses for streams come out, and now and then a request to
//! read history. It waits for nothing and nobody: a stream that does not read costs its queue and
//! one number per watcher.
//!
//! ```text
//!  applier ─ publish, compacted, restored ─┐     ┌─ Send ──► a queue per stream ─► edge
//!  edges ─── open, create, cancel, … ──────┼► hub┤                                  │
//!                                          │     └─ CatchUp ─► reader of history    │
//!                                          ├◄─ caught_up(Page) ──────┘              │
//!                                          └◄─ room(Taken) ─────────────────────────┘
//! ```
//!
//! # The idea
//!
//! Every watcher has one number, `next`: no event before it will be sent to it any more. Whether it
//! is live, starts in the future, lies behind a slow stream or replays last week, the rule is the
//! same: send what matches, from `next` on, whole revisions only, and move `next`. So nothing is
//! sent twice, left out or reordered, whichever of three sources an event comes from:
//!
//! - **publishing**, for who is live: one search per event (`groups`, `intervals`), one
//!   encoding per event (`batch`), one small struct per watcher;
//! - **what is recent**, the last few thousand revisions kept in memory with their encodings
//!   (`recent`): for who was slow for a moment, or starts right after a list;
//! - **history**, by jobs that many watchers share (`catchup`): for who is further behind.
//!
//! # Invariants
//!
//! 1. A stream's queue never holds more than its bound and the response that met the bound, but for
//!    answers to the client's own requests: edges stop reading requests while a queue is full.
//! 2. The events of one revision that concern a watcher come in one response, or in one row of
//!    fragments.
//! 3. Progress at R comes after every event up to R, and never before a watcher's start (etcd
//!    #15220, #20221). It is for synced streams only: no watcher behind, none still to start.
//! 4. A watcher is canceled by compaction only if it needs what is gone.
//! 5. Same inputs, same outputs: no clock, no chance, no order of hashing.
//!
//! # For the edge
//!
//! Per gRPC stream: take a fresh [`StreamId`], register its queue's sender with the watch thread
//! together with [`Hub::open`], and end with [`Hub::close`], always. Then two loops:
//!
//! - *Requests.* Check authorization before `create` (not for a start below 0, which is refused
//!   first); say no with [`Hub::refuse`] and the text `rpc error: code = … desc = …`. Pass the
//!   published store's revision and compact revision as they are when the hub handles the request.
//!   Stop reading requests while the queue is above its bound.
//! - *Responses.* Take a [`Delivery`], write [`Delivery::response`] under a header with the
//!   cluster's, the member's and the term's ids, and give the delivery to [`Receipts::take`]; pass
//!   what that returns to [`Hub::room`]. Nothing else is needed to keep a stream fed.
//!
//! The queue itself needs no bound of its own, the hub keeps it; bound it well above
//! [`Limits::stream_responses`] to be safe, and close the stream if that is ever met.
//!
//! The watch thread calls [`Hub::tick`] no later than [`Hub::next_tick_ms`], and after every input
//! does what [`Hub::work`] says. Jobs may be done on the same thread or another, in any order; the
//! store must be published before its changes are, so that a page is never older than the hub.
//!
//! # Deliberately absent
//!
//! etcd's loop that looks for unsynced watchers ten times a second: here room and pages are events.
//! Its victims: a response that does not fit is not made. Sending of `ErrNoLeader` to streams that
//! ask for a leader: the edge's. Permission checks after creation, as in etcd.

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
pub mod model;
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
