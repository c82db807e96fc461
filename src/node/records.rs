//! Raft's entries and hard state as the write-ahead log keeps them, both ways.

use crate::error::Fault;
use crate::machine::Applied;
use crate::planted::{Mistake, planted};
use crate::raft::{Boundary, ConfState, Entry, EntryType, HardState, Persist};
use crate::storage::keys;
use crate::storage::wal::{self, Wal};

/// Appends a write of raft.
pub(super) fn append(wal: &mut Wal, persist: Persist) -> Result<wal::Appended, Fault> {
    let installed = persist.snapshot.as_ref().map(|snapshot| {
        let metadata = snapshot.get_metadata();
        wal::Mark::Installed(wal::Snapshot { index: metadata.index, term: metadata.term })
    });
    let entries = persist.entries.into_iter().map(to_record).collect::<Result<Vec<_>, _>>()?;
    let hard_state = wal::HardState {
        term: persist.hard_state.term,
        vote: if planted(Mistake::VoteForgotten) { 0 } else { persist.hard_state.vote },
        commit: persist.hard_state.commit,
    };
    let batch = wal::Batch { snapshot: installed, entries: &entries, hard_state: Some(hard_state) };
    wal.append(&batch)
}

/// Notes in the log how far the engine has come.
pub(super) fn mark(wal: &mut Wal, applied: Applied) -> Result<wal::Appended, Fault> {
    let snapshot = wal::Snapshot { index: applied.index, term: applied.term };
    wal.append(&wal::Batch { snapshot: Some(wal::Mark::Taken(snapshot)), ..wal::Batch::default() })
}

/// The entry that a log begins after. The term of the entry before the first is on disk only if the
/// newest mark has it; else the first one is that itself, unless the log is whole.
pub(super) fn beginning(log: &wal::Recovered) -> Boundary {
    let wal::Snapshot { index, term } = log.snapshot;
    match log.entries.first() {
        None => Boundary { index, term },
        Some(first) if first.index == index + 1 => Boundary { index, term },
        Some(first) if first.index > 1 => Boundary { index: first.index, term: first.term },
        Some(_) => Boundary::default(),
    }
}

fn to_record(entry: Entry) -> Result<wal::Entry, Fault> {
    let kind = match EntryType::try_from(entry.entry_type) {
        Ok(EntryType::EntryNormal) => wal::EntryKind::Normal,
        Ok(EntryType::EntryConfChange) => wal::EntryKind::ConfChange,
        Ok(EntryType::EntryConfChangeV2) => wal::EntryKind::ConfChangeV2,
        Err(_) => {
            return Err(Fault::Broken(format!(
                "entry {} has no type numbered {}",
                entry.index, entry.entry_type
            )));
        }
    };
    Ok(wal::Entry { term: entry.term, index: entry.index, kind, data: entry.data })
}

/// An entry as raft knows it.
pub(super) fn from_record(entry: wal::Entry) -> Entry {
    let entry_type = match entry.kind {
        wal::EntryKind::Normal => EntryType::EntryNormal,
        wal::EntryKind::ConfChange => EntryType::EntryConfChange,
        wal::EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
    };
    Entry {
        entry_type: entry_type as i32,
        term: entry.term,
        index: entry.index,
        data: entry.data,
        ..Entry::default()
    }
}

/// The hard state as raft knows it.
pub(super) fn hard_state(state: wal::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

/// raft's configuration as the tables keep it.
pub(super) fn stored_conf_state(state: ConfState) -> keys::ConfState {
    keys::ConfState {
        voters: state.voters,
        learners: state.learners,
        voters_outgoing: state.voters_outgoing,
        learners_next: state.learners_next,
        auto_leave: state.auto_leave,
    }
}

/// The configuration as raft knows it.
pub(super) fn conf_state(stored: keys::ConfState) -> ConfState {
    ConfState {
        voters: stored.voters,
        learners: stored.learners,
        voters_outgoing: stored.voters_outgoing,
        learners_next: stored.learners_next,
        auto_leave: stored.auto_leave,
    }
}
