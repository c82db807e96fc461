//! Mistakes made on purpose, to see whether the simulation finds them.
//!
//! Each is one that a store like this has had, or could have, and is made at one place, which asks
//! [`planted`]. Whoever simulates asks for one of them, for its own thread. Where there are no
//! debug assertions there are no mistakes: the question is `false`, and what it guards is left out.

/// The mistakes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Writes are reported durable that were not synced.
    AckBeforeSync,
    /// A failed sync is taken for a good one.
    SyncErrorIgnored,
    /// The log forgets who was voted for.
    VoteForgotten,
    /// A checkpoint lacks a row that its index says it has.
    RowsBehindIndex,
    /// The engine's commits are not durable when they are said to be.
    EngineUnsynced,
    /// The log lets go of more than the engine has.
    LogReleasedEarly,
    /// Linearizable reads ask nobody.
    ReadWithoutQuestion,
    /// An answer to an old question of the same number counts.
    ReadIdReused,
    /// Clients are answered before readers are shown what was done.
    AnswerBeforeShown,
    /// What was forwarded is offered again after it was handed on.
    ForwardedTwice,
    /// Compaction removes the tombstone at its revision.
    TombstoneDropped,
    /// Comparisons of versions always hold.
    CompareIgnored,
    /// Revoking a lease leaves one of its keys.
    RevokeForgetsKey,
    /// A lease that ran out is renewed.
    LeaseRevived,
    /// Leases end a second early.
    LeaseShort,
    /// Watchers are not told that a state was installed.
    InstallUntold,
    /// Rows of the state before are still found after another was installed.
    CacheKeptOnInstall,
    /// The second half of a batch's changes does not reach watchers.
    EventsLost,
    /// Watchers are told of progress beyond what they were sent.
    ProgressAhead,
    /// A change of members does not outlive a restart.
    ConfStateForgotten,
    /// A state that did not arrive is never sent again.
    SnapshotNeverAgain,
    /// Members fall apart over a row that only one of them has.
    ApplyByMember,
    /// A leader renews leases without asking whether it still leads.
    RenewUnasked,
    /// What only a leader may propose is taken from one that was deposed.
    PastReignTaken,
    /// A new leader waits for what it had asked the last one.
    LastLeaderAwaited,
    /// A checkpoint is made behind one that was given up.
    CommitBehindGivenUp,
    /// What is read of a state that arrived is not held against what arrived.
    StagedUnchecked,
    /// Reads are answered at once beside a learner.
    LearnerUnseen,
}

impl Mistake {
    pub const ALL: [Mistake; 28] = [
        Mistake::AckBeforeSync,
        Mistake::SyncErrorIgnored,
        Mistake::VoteForgotten,
        Mistake::RowsBehindIndex,
        Mistake::EngineUnsynced,
        Mistake::LogReleasedEarly,
        Mistake::ReadWithoutQuestion,
        Mistake::ReadIdReused,
        Mistake::AnswerBeforeShown,
        Mistake::ForwardedTwice,
        Mistake::TombstoneDropped,
        Mistake::CompareIgnored,
        Mistake::RevokeForgetsKey,
        Mistake::LeaseRevived,
        Mistake::LeaseShort,
        Mistake::InstallUntold,
        Mistake::CacheKeptOnInstall,
        Mistake::EventsLost,
        Mistake::ProgressAhead,
        Mistake::ConfStateForgotten,
        Mistake::SnapshotNeverAgain,
        Mistake::ApplyByMember,
        Mistake::RenewUnasked,
        Mistake::PastReignTaken,
        Mistake::LastLeaderAwaited,
        Mistake::CommitBehindGivenUp,
        Mistake::StagedUnchecked,
        Mistake::LearnerUnseen,
    ];
}

#[cfg(debug_assertions)]
mod asked {
    use std::cell::Cell;

    use super::Mistake;

    thread_local! {
        static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    /// Has a mistake made on this thread from here on, or none.
    pub fn plant(mistake: Option<Mistake>) {
        PLANTED.set(mistake);
    }

    pub fn planted(mistake: Mistake) -> bool {
        PLANTED.get() == Some(mistake)
    }
}

#[cfg(debug_assertions)]
pub use asked::plant;

/// Whether a mistake is to be made here.
#[inline(always)]
pub fn planted(mistake: Mistake) -> bool {
    #[cfg(debug_assertions)]
    return asked::planted(mistake);
    #[cfg(not(debug_assertions))]
    {
        let _ = mistake;
        false
    }
}
