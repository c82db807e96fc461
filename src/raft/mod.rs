//! Agreement: members of a cluster append the same commands to the same log.
//!
//! One member leads for a term, elected by a majority. It appends what is proposed to its log and
//! sends it to the others; an entry that a majority has on disk is committed, will never change,
//! and may be applied. Whoever becomes leader next has all committed entries, because it needs the
//! votes of a majority and nobody votes for a shorter log. The algorithm is raft-rs's, which is
//! etcd's (Ongaro's thesis, with PreVote and CheckQuorum); this room makes it etcd's on the wire
//! and in the log, and keeps it from doing harm.
//!
//! [`Core`] is a value with inputs and outputs. It has no thread, clock, disk, socket or randomness
//! of its own: the driver lets time pass (`tick`), hands it what arrives (`step`, `propose`, …) and
//! does what it wants (`work`). The same inputs give the same work, which is what makes the
//! simulation in `tests` worth its name.
//!
//! ```text
//!            tick  step  propose  read_index  transfer_leader  …
//!               ↓    ↓      ↓          ↓             ↓
//!             ┌─────────────────── Core ───────────────────┐
//!   guard ──▶ │  raft-rs ── Log (window of the log)        │
//!             │     ↓                                      │
//!             │  Outbox (what may leave before a write?)   │
//!             └──────────────────┬─────────────────────────┘
//!                              work()
//!          messages     persist     committed     reads   standing
//!             ↓            ↓            ↓            ↓        ↓
//!          network    WAL, fsync    applier      readers   duties
//!                          │            │
//!                  on_persisted(n)   apply_conf_change(i), on_applied(i)
//! ```
//!
//! # The contract
//!
//! The driver owns the core alone. After every batch of inputs it calls `work()` until there is
//! none, and for each piece of [`Work`]:
//!
//! 1. It sends `messages` at once, in order, without waiting for the write. What must wait is not
//!    among them. When a queue to a peer is full it drops the message and calls
//!    `report_unreachable`; raft repeats what matters.
//! 2. It appends `persist` to the WAL: snapshot mark, entries, hard state, in this order, as one
//!    record group after all earlier ones. When it and everything before it is durable it calls
//!    `on_persisted(number)`. Several writes may be under way, and one report may cover many. A
//!    write that fails is the end of the process.
//! 3. It gives `committed` to the applier, in order. Applying may lag behind.
//! 4. It tells the readers of `reads` that they may look once the state machine has applied the
//!    index; those of `reads_lost` ask again, as do all who have waited long.
//! 5. Before it reports a conf change as applied it brings it to `apply_conf_change`, unless the
//!    state machine rejects it, and stores the returned conf state in one transaction with the
//!    applied index. Then, as after other entries, `on_applied(index)`.
//! 6. A `persist` with a snapshot is durable when the state machine's files are. The driver then
//!    drops what the applier still has queued up to the snapshot's index, and calls
//!    `on_persisted(number)` and `on_applied(index)`.
//! 7. A message of type Snapshot names a state, it does not hold it. The sender puts in the index,
//!    term and conf state of what it really sends, which may be newer, and reports the end with
//!    `report_snapshot`, always: a deadline counts as a failure. Without a report the peer is sent
//!    nothing any more.
//! 8. It stops the node on [`Refusal::LogLost`] and on every `Fault`.
//!
//! A member that is removed ([`ConfApplied::removed`]) asks for nothing any more, but should go on
//! answering for some election timeouts before it stops: of two voters the survivor may not have
//! heard yet that it is alone, and needs the other's vote once more.
//!
//! # Starting
//!
//! A founding member starts with [`conf::bootstrap`]: as in etcd, one committed conf change per
//! member at index 1 to n, so that indexes and terms are those of a cluster that etcd founded. One
//! that joins starts with nothing and hears from the leader. One that returns starts with the state
//! machine's applied index and conf state, and whatever the WAL holds ([`Boot`]).
//!
//! # What raft-rs must be kept from
//!
//! Most of these panic in raft-rs 0.7.0; the others are silent, which is worse. Each has a script
//! in `testscripts` or a test.
//!
//! - *Input is trusted* (`guard.rs`). Unknown types, gaps between entries, commits beyond the log,
//!   requests without an entry, messages without a term.
//! - *A leader that removes itself* leads on for ever or panics. It may not propose that, and steps
//!   down when it applies it.
//! - *A sole voter campaigns* and asserts that its log is durable. It waits until it is.
//! - *A member campaigns while it installs a snapshot* and misses entries that are gone. It waits.
//! - *A second conf change* becomes an empty entry, reported as success. The leader refuses it
//!   until the first is applied, whoever proposed it.
//! - *A follower's messages all wait for its disk.* Only promises do (`work.rs`), so reads do not
//!   take as long as a write.
//! - *A sole voter speaks to its learners* in a term that is not on its disk. It waits.
//! - *The last but one voter goes* when it hears of its removal; if the other then forgot that this
//!   was committed, it would wait for ever. So the leader writes that commit before it tells.
//! - *Reads vanish*: without a leader, before its first commit, when two look alike. The first two
//!   are refused, and none look alike (`reads.rs`).
//! - *Election timeouts* come from the operating system's randomness. They are set again after
//!   every call: in an order of the voters while there is a leader to lose, else by lot from a seed
//!   and the term.
//! - *A snapshot is offered* to whom it does not contain, and ignored for ever (`log.rs`).
//!
//! # Deliberately absent
//!
//! - Lease-based reads: they are stale even with perfect clocks.
//! - Joint configurations: etcd's log has none.
//! - Batching of proposals and reads, and back-pressure: the driver collects proposals into one
//!   call, lets reads share a question, and refuses while `Status` shows commit far ahead of
//!   applied.
//! - Authentication of peers: `from` is believed.
//!
//! The driver in `node` is the only caller; `peer` uses [`wire`].

mod boot;
pub mod conf;
mod core;
mod drain;
mod fuzz;
mod guard;
mod log;
mod reads;
mod status;
pub mod wire;
mod work;

#[cfg(test)]
mod tests;

pub use self::boot::Boot;
pub use self::core::{ConfApplied, Core, Proposed, Refusal, scramble};
pub use self::fuzz::fuzz_step;
pub use self::guard::Malformed;
pub use self::log::Boundary;
pub use self::status::{Flow, Progress, Status};
pub use self::work::{Persist, ReadId, Role, Standing, Work};
pub use ::raft::eraftpb::{
    ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};
