//! The window of the log that raft reads, in memory.
//!
//! The durable log is the WAL, which the driver owns; this is the part of it that raft-rs may still
//! ask for: what is not yet applied everywhere, and some history for followers that lag. It answers
//! raft-rs's `Storage` calls and never touches a disk.
//!
//! ```text
//!      boundary                                  last
//!   ……… (i, t) │ i+1  i+2  …  applied  …  …  …  …  │
//!   compacted  │ entries, contiguous                │
//! ```
//!
//! - The (index, term) of the last dropped entry stays known: a follower that stands exactly there
//!   is served entries and not a snapshot (raft-rs's own MemStorage forgets the term).
//! - An applied entry is never replaced, and the boundary never passes what was applied.
//! - A snapshot offer is always (applied, its term, the conf state at that very index), and only to
//!   a member that this conf state contains. An older or foreign offer would be ignored by the
//!   receiver and repeated for ever.

use std::collections::VecDeque;

use ::raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use ::raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use prost::Message as _;

use super::conf;

/// A position in the log: an index and the term of the entry there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    pub index: u64,
    pub term: u64,
}

pub(super) struct Log {
    /// The last entry that is no longer here; (0, 0) before the first.
    boundary: Boundary,
    /// Contiguous from `boundary.index + 1`.
    entries: VecDeque<Entry>,
    /// What raft-rs reads once, when it starts.
    initial: RaftState,
    /// What a snapshot taken now would hold.
    applied: SnapshotMetadata,
}

impl Log {
    /// A log as recovery found it. The caller has checked that `entries` follow `boundary`, and
    /// that `applied` lies within.
    pub fn new(
        boundary: Boundary,
        entries: Vec<Entry>,
        hard_state: HardState,
        conf_state: ConfState,
        applied: u64,
    ) -> Log {
        let mut log = Log {
            boundary,
            entries: entries.into(),
            initial: RaftState::new(hard_state, conf_state.clone()),
            applied: SnapshotMetadata::default(),
        };
        log.set_applied(applied, conf_state);
        log
    }

    pub fn boundary(&self) -> Boundary {
        self.boundary
    }

    pub fn last_index(&self) -> u64 {
        self.boundary.index + self.entries.len() as u64
    }

    /// The term at `index`, from the boundary to the last entry.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.boundary.index)? {
            0 => Some(self.boundary.term),
            distance => self.entries.get(distance as usize - 1).map(|entry| entry.term),
        }
    }

    /// Appends entries, first dropping what they replace.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.applied.index, "an applied entry is never replaced");
        assert!(first.index > self.boundary.index, "a compacted entry is never replaced");
        assert!(first.index <= self.last_index() + 1, "the log has no gaps");
        self.entries.truncate((first.index - self.boundary.index - 1) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// Starts again after a received snapshot.
    pub fn restore(&mut self, boundary: Boundary) {
        assert!(boundary.index > self.applied.index, "a snapshot never takes the state back");
        self.entries.clear();
        self.boundary = boundary;
    }

    /// The index, between `oldest` and `newest`, after which the entries up to `newest` come to at
    /// most `bytes_max`.
    pub fn first_within(&self, oldest: u64, newest: u64, bytes_max: u64) -> u64 {
        let place = |index: u64| index.saturating_sub(self.boundary.index) as usize;
        let (from, to) = (place(oldest), place(newest).min(self.entries.len()));
        let mut bytes = 0;
        let fit = self.entries.range(from.min(to)..to).rev().take_while(|entry| {
            bytes += entry.data.len() as u64;
            bytes <= bytes_max
        });
        newest.saturating_sub(fit.count() as u64).max(oldest)
    }

    /// Drops the entries up to `index`.
    pub fn compact(&mut self, index: u64) {
        if index <= self.boundary.index {
            return;
        }
        assert!(index <= self.applied.index, "only applied entries are compacted");
        let term = self.term_at(index).expect("applied entries above the boundary are present");
        self.entries.drain(..(index - self.boundary.index) as usize);
        self.boundary = Boundary { index, term };
    }

    /// Notes that the state machine stands at `index` under `conf_state`.
    pub fn set_applied(&mut self, index: u64, conf_state: ConfState) {
        assert!(index >= self.applied.index, "the state machine never goes back");
        let term = self.term_at(index).expect("the applied entry or the boundary is present");
        self.applied = SnapshotMetadata { conf_state: Some(conf_state), index, term };
    }
}

impl Storage for Log {
    fn initial_state(&self) -> ::raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        size_bytes_max: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> ::raft::Result<Vec<Entry>> {
        if low <= self.boundary.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last_index() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let size_bytes_max = size_bytes_max.into().unwrap_or(u64::MAX);
        let offset = |index: u64| (index - self.boundary.index - 1) as usize;
        let mut size_bytes = 0u64;
        let wanted = self.entries.range(offset(low)..offset(high)).take_while(|entry| {
            // The first entry goes whatever its size, or a large one would block the log.
            let is_first = size_bytes == 0;
            size_bytes += entry.encoded_len() as u64;
            is_first || size_bytes <= size_bytes_max
        });
        Ok(wanted.cloned().collect())
    }

    fn term(&self, index: u64) -> ::raft::Result<u64> {
        if index < self.boundary.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_at(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> ::raft::Result<u64> {
        Ok(self.boundary.index + 1)
    }

    fn last_index(&self) -> ::raft::Result<u64> {
        Ok(Log::last_index(self))
    }

    /// Only the description of a snapshot; its content travels outside of raft. Any other error
    /// than this one would make raft-rs panic.
    fn snapshot(&self, request_index: u64, to: u64) -> ::raft::Result<Snapshot> {
        let metadata = &self.applied;
        let fits = metadata.index > 0
            && metadata.index >= request_index
            && conf::contains(metadata.get_conf_state(), to);
        if !fits {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(Snapshot { metadata: Some(metadata.clone()), ..Snapshot::default() })
    }
}
