//! A walk that changes nothing, for `kvorum verify` and for curious people.

use std::path::{Path, PathBuf};

use crate::error::Fault;
use crate::storage::disk::Disk;

use super::segment::Name;
use super::walk::Walk;
use super::{HardState, Identity, Snapshot};

/// What a log on disk looks like. With damage, the rest describes what was read before it.
#[derive(Debug)]
pub struct Report {
    pub identity: Identity,
    pub hard_state: HardState,
    pub snapshot: Snapshot,
    /// Zero if the log has no entries.
    pub first_index: u64,
    pub last_index: u64,
    pub segments: Vec<SegmentReport>,
    /// Segment files that the next open removes.
    pub leftovers: Vec<PathBuf>,
    /// Whether the end is an unfinished write that the next open cuts off.
    pub torn: bool,
    pub damage: Option<Fault>,
}

/// One segment of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    pub path: PathBuf,
    pub sequence: u64,
    pub batches: u64,
    pub entries: u64,
    /// Bytes of the file, and how many of them hold the log.
    pub bytes: u64,
    pub bytes_used: u64,
}

/// Reads a log and says what is in it. Fails only if the directory cannot be listed; anything else
/// that is wrong is in the report.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Report, Fault> {
    let names = disk.list(dir).map_err(|err| Fault::io("list", dir, err))?;
    let mut walk = Walk::new(disk, dir, None);
    let read = walk.run(names.iter().filter_map(|name| Name::parse(name)).collect(), false);
    let segments = walk.visited.iter().map(|visited| SegmentReport {
        path: visited.segment.path.clone(),
        sequence: visited.segment.name.sequence,
        batches: visited.batches,
        entries: visited.entries,
        bytes: visited.segment.bytes,
        bytes_used: visited.end,
    });
    Ok(Report {
        identity: walk.identity,
        hard_state: walk.standing.hard_state,
        snapshot: walk.standing.snapshot,
        first_index: walk.entries.first().map_or(0, |entry| entry.index),
        last_index: walk.standing.last_index,
        segments: segments.collect(),
        leftovers: walk.leftovers,
        torn: walk.torn && read.is_ok(),
        damage: read.err(),
    })
}
