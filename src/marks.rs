//! States that a night of simulations must have been in, or it has proved little.
//!
//! Each is seldom come to, and each is where such stores have had their bugs. [`mark`] stands where
//! the state is met, here or in the simulated world of `tests/sim`, and notes for its own thread
//! that it was; whoever simulates takes the notes. Without debug assertions nothing is noted.

macro_rules! marks {
    ($($(#[$what:meta])* $name:ident,)*) => {
        /// The states there are.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $($(#[$what])* $name,)*
        }

        impl Mark {
            pub const ALL: &[Mark] = &[$(Mark::$name,)*];
        }
    };
}

marks! {
    // The log and the disk.
    /// The torn tail of a log was cut off.
    TornTailCut,
    /// There was no space to reserve a segment of the log.
    LogWithoutSpare,
    /// A checkpoint waited for space.
    CheckpointWaited,
    /// And was made when there was some.
    CheckpointMadeLater,
    /// And was given up, because the member stopped.
    CheckpointGivenUp,
    /// Nothing was applied until a checkpoint was there, for too much was on its way.
    ApplyAwaitedCheckpoint,
    /// An arriving state found no space.
    SnapshotWithoutSpace,
    /// A process ended because its disk was full.
    FullDiskEndsProcess,
    /// A process ended because it could not sync.
    SyncErrorEndsProcess,
    /// A process ended before it had started.
    CrashAtStart,
    /// And so did the next one.
    CrashAtStartAgain,
    /// A process ended while it installed a state.
    CrashWhileInstalling,
    /// A start took up the state that lay beside, because the log said so.
    StateBesideTakenUp,
    /// A start went on with a compaction.
    CompactionResumed,

    // Defragmentation.
    /// An engine was rewritten.
    Defragmented,
    /// Commits went to both engines meanwhile.
    DefragmentedUnderWrites,
    /// It was for nothing, because a state was installed.
    DefragmentationOvertaken,
    /// It ran while a state was being sent.
    DefragmentedBesideSnapshot,

    // Damage.
    /// A log was refused because bits in it had turned.
    RotFoundInLog,
    /// A state was.
    RotFoundInState,
    /// A state was, because its file was not what had arrived.
    RotFoundOnArrival,
    /// Damage ended a process that was at work.
    RotFoundAtWork,
    /// A suspected state turned out to be whole.
    SuspicionCleared,
    /// A member whose state was damaged went on with another's, under its id.
    ReseededSameId,
    /// A member that had forgotten came back under another id.
    ReseededNewId,
    /// A log was older than what others had heard with it.
    PromiseContradicted,
    /// A leader counted on entries that a member had lost.
    LogLossHeard,

    // Raft.
    /// Leadership changed while readers waited for an answer.
    LeaderChangedUnderReaders,
    /// A reader's question was lost, and put again.
    ReadAskedAgain,
    /// A peer's question came before the leader's first commit.
    ReadHeldForLeader,
    /// A client's proposal found no leader, and was held.
    ProposalHeld,
    /// What a peer had sent here was handed on to the next leader.
    HeldProposalForwarded,
    /// What a peer had sent here was taken by this member, as the next leader.
    HeldProposalTaken,
    /// A proposal did not outlive its leader.
    ProposalLost,
    /// A leader that had been deposed was refused what only a leader may propose.
    PastReignRefused,
    /// A follower that was sent a stream of entries was probed again.
    FollowerProbedAgain,
    /// A leader had to step down, and there was no other.
    LeaderUnseated,
    /// A follower stood because its leader's connections had closed.
    StoodInHaste,
    /// Members that began found that nobody leads, and one stood before its time.
    NobodyLedAtStart,
    /// A leader moved leadership because it was to be removed.
    LeaderSteppedAside,
    /// A member that was to stop gave leadership away.
    LeadershipHandedOver,
    /// Leadership was moved by request.
    LeadershipTransferred,
    /// A change of members was agreed on and had no effect.
    MemberChangeRejected,
    /// A change of members waited for another.
    MemberChangeQueued,
    /// A learner became a voter.
    LearnerPromoted,
    /// A member was added without another's removal.
    ClusterGrown,
    /// A member's peer URLs were changed.
    MemberMoved,
    /// They were not, for another member has them.
    MemberMoveRefused,

    // Whole states.
    /// A state was installed amid a compaction.
    InstalledWhileCompacting,
    /// A state to be installed waited for a checkpoint.
    InstallAwaitedCheckpoint,
    /// A state was installed under open watches.
    InstalledUnderWatches,
    /// A state arrived that raft did not want any more.
    SnapshotUnwanted,
    /// A state broke off on the way.
    SnapshotCut,
    /// A state was refused because another was arriving.
    SnapshotRefusedBusy,
    /// A state was sent again after one that had not arrived.
    SnapshotSentAgain,

    // Rows.
    /// A range was answered at an old revision.
    RangeAtOldRevision,
    /// At the compact revision itself.
    RangeAtCompactRevision,
    /// A range below it was refused.
    RangeCompacted,
    /// A range ahead of the newest revision was refused.
    RangeInFuture,
    /// A transaction that reads below the compact revision was refused.
    TxnCompacted,
    /// The next page of a list was compacted meanwhile.
    PageCompacted,
    /// A compaction was left to somebody who was quicker, as apiservers do.
    CompactionLeft,
    /// A value was longer than a segment of the log.
    ValueLong,
    /// A transaction within a transaction was executed.
    TxnNested,
    /// A compaction at a revision that deleted a key.
    CompactedAtTombstone,
    /// A compaction was accepted while another was removing rows.
    CompactionsQueued,
    /// Members compared their rows as of a compaction, and agreed.
    CompactionsCompared,
    /// Members' hashes of one old revision were compared.
    HashesCompared,
    /// A client was given a whole state.
    StateHandedOut,

    // Watches.
    /// A watcher that was behind lost the history that it needed.
    WatchBehindCompaction,
    /// A watch was asked for below the compact revision.
    WatchBelowCompaction,
    /// A watcher fell behind because its stream was full.
    WatchParked,
    /// A watcher that was behind was fed from history.
    WatchFedFromHistory,
    /// A watch from a revision to come heard it.
    WatchInFuture,
    /// A response came in fragments.
    WatchFragmented,
    /// A stream of several watches was told of progress.
    WatchProgressShared,
    /// A request for progress was answered later, when all of it was sent.
    WatchProgressLater,
    /// A watch that leaves puts or deletes out heard the rest.
    WatchFiltered,
    /// An event came with the row it replaced.
    WatchPrevious,
    /// An event came without it, for compaction was quicker.
    WatchPreviousCompacted,
    /// A client cancelled a watch.
    WatchCancelled,

    // Leases and space.
    /// A lease ran out.
    LeaseExpired,
    /// And took keys with it.
    LeaseTookKeys,
    /// A key moved from one lease to another.
    LeaseKeyMoved,
    /// A new leader took leases over.
    LeasesTakenOver,
    /// A lease was renewed through a follower.
    LeaseRenewedThroughFollower,
    /// A lease was to be renewed that had run out.
    LeaseRenewedTooLate,
    /// A client asked how long a lease lives that had ended.
    LeaseGoneAsked,
    /// NOSPACE was raised.
    NospaceRaised,
    /// And taken back.
    NospaceDisarmed,
    /// A write was applied beyond the quota.
    QuotaExceeded,
}

#[cfg(debug_assertions)]
mod noted {
    use std::cell::Cell;

    use super::Mark;

    thread_local! {
        static NOTED: Cell<u128> = const { Cell::new(0) };
    }

    pub fn note(mark: Mark) {
        NOTED.set(NOTED.get() | 1 << mark as u8);
    }

    /// What was noted on this thread since the last call, as bits by the marks' places.
    pub fn take() -> u128 {
        NOTED.take()
    }

    /// Does something whose marks do not count.
    pub fn unmarked<T>(work: impl FnOnce() -> T) -> T {
        let before = NOTED.get();
        let done = work();
        NOTED.set(before);
        done
    }
}

#[cfg(debug_assertions)]
pub use noted::{take, unmarked};

/// Notes that a state was met.
#[inline(always)]
pub fn mark(mark: Mark) {
    #[cfg(debug_assertions)]
    noted::note(mark);
    #[cfg(not(debug_assertions))]
    let _ = mark;
}
