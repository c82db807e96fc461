//! Leases: which exist and what hangs on them, and, on the leader, when they run out.
//!
//! Two rooms that share nothing but lease ids:
//!
//! - [`Book`] is replicated. Every member has the same one after the same log entries: which leases
//!   exist, their time to live, the time left at the last checkpoint, the keys attached. It knows
//!   no time. Its rows are the `lease` table, byte for byte etcd's.
//! - [`Deadlines`] is the leader's alone, in memory, gone when leadership goes. It turns renewals
//!   into later deadlines without a word to anybody, and says which leases to propose revoking.
//!
//! ```text
//!  grant ──► log ──► Book.grant ──► Deadlines.granted        keepalive ──► Deadlines.renewed
//!                                                                             │ (no log entry)
//!  Deadlines.expired ──► revoke ──► log ──► Book.revoke ──► Deadlines.revoked ▼
//!  Deadlines.checkpoints ──► checkpoint ──► log ──► Book.checkpoint ──► Deadlines.checkpointed
//! ```
//!
//! # A lease is never early
//!
//! Whoever was told a time to live may count on it from the moment they asked, whatever leaders do
//! meanwhile. What upholds that:
//!
//! 1. A lease leaves only by a `LeaseRevoke` entry, proposed when its deadline has passed.
//! 2. A new leader starts every deadline afresh, and adds the election timeout: for that long the
//!    old leader may have gone on renewing. It does so once it has applied the first entry of its
//!    own term, so that nothing older comes later.
//! 3. It starts from the checkpointed rest if there is one. So a renewal of a lease with a
//!    checkpoint, written or proposed, first wipes that through the log ([`Renewal::ClearFirst`]).
//! 4. Once revoking was proposed no renewal succeeds, even if the proposal takes long.
//!
//! Checkpoints are on: without them a change of leader grants everybody their full time again, and
//! leases of hours never end where leaders change often (etcd #9888). A lease renewed within the
//! interval is not checkpointed, so keepalives at a third of the time to live stay out of the log
//! for every lease up to a quarter of an hour.
//!
//! Deliberately absent: the clamping of too short a time to live inside [`Book`] (the minimum is a
//! flag of one member; use [`clamp`] before proposing), and any clock: `now` is an argument, in
//! milliseconds of a clock that never goes back.

mod book;
mod deadlines;
pub mod model;

pub use book::{Book, Lease, Revoked, clamp, minimum_ttl};
pub use deadlines::{Checkpoint, Deadlines, Renewal};

#[cfg(test)]
mod tests;
