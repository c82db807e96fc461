//! What the rest of the process may know of consensus at any moment, without asking a thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Numbers the driver and the applier publish and anybody reads.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub leader: AtomicU64,
    pub term: AtomicU64,
    pub committed: AtomicU64,
    pub applied: AtomicU64,
    pub pending: AtomicU64,
    /// Whether the driver wants to be woken when `applied` moves. Set before `applied` is read, and
    /// read after it is set, both sequentially consistent: one of the two sees the other.
    pub awaited: AtomicBool,
    /// Watch streams that are open; while there are none, nobody is told of changes.
    pub streams: AtomicU64,
    /// Whether applied state may be read as it is: see [`super::Handle::read_barrier`].
    pub read_open: AtomicBool,
    /// Whether the log found no space to grow into.
    pub disk_full: AtomicBool,
    /// Whether the state engine waits for space.
    pub state_disk_full: AtomicBool,
    /// Whether this member was removed from the cluster.
    pub removed: AtomicBool,
    /// When this member last learned of a new leader, in milliseconds of the node's clock.
    pub elected_ms: AtomicU64,
    /// Since when there has been no leader, by the same clock; of no meaning while there is one.
    pub leaderless_ms: AtomicU64,
    /// Whether the node is being stopped.
    pub stopping: AtomicBool,
}

/// A reading of [`Progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// 0 if there is none.
    pub leader: u64,
    pub term: u64,
    pub committed: u64,
    pub applied: u64,
}

impl Progress {
    /// That of a member whose state has come to an index.
    pub fn at(applied: u64) -> Self {
        let (committed, applied) = (AtomicU64::new(applied), AtomicU64::new(applied));
        Self { committed, applied, ..Self::default() }
    }

    /// Whether nothing that grows the state should be taken.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Acquire) || self.is_state_disk_full()
    }

    /// Whether the state engine waits for space.
    pub fn is_state_disk_full(&self) -> bool {
        self.state_disk_full.load(Ordering::Acquire)
    }

    /// The numbers now. Applied is read first, so that it never exceeds committed.
    pub fn read(&self) -> Standing {
        let applied = self.applied.load(Ordering::Acquire);
        Standing {
            leader: self.leader.load(Ordering::Acquire),
            term: self.term.load(Ordering::Acquire),
            committed: self.committed.load(Ordering::Acquire).max(applied),
            applied,
        }
    }
}
