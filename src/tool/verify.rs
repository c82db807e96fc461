//! `verify`: whether a data directory is whole, told without a member starting on it.
//!
//! The log is read record by record, the engine row by row, also the rows a start has no use for;
//! and the two must overlap, or a start would not find its way from one to the other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};

use crate::limits;
use crate::machine::{Machine, Settings};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::layout::{Found, Layout};
use crate::storage::state::{self, Kind, Place};
use crate::storage::wal;

/// What a whole directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub data_dir: PathBuf,
    pub engine: &'static str,
    pub member_id: u64,
    pub cluster_id: u64,
    pub revision: i64,
    pub compact_revision: i64,
    pub keys: i64,
    pub applied_index: u64,
    pub log_first_index: u64,
    pub log_last_index: u64,
    /// Whether the log ends in a write that was cut short; the next start drops it.
    pub log_torn: bool,
}

/// Checks a directory that no process uses.
pub fn verify(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Verified> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    if !disk.exists(data_dir) {
        bail!("{} does not exist", data_dir.display());
    }
    let layout = Layout::new(data_dir, wal_dir);
    // Before the lock, which is a file: somebody else's directory is left as it is.
    let engine = match layout.inspect(&*disk)? {
        Found::Nothing => bail!("{} holds no member", data_dir.display()),
        Found::Member { engine } => engine,
    };
    let _lock = crate::node::lock(data_dir)?;
    let kind = [Kind::Redb, Kind::Sled].into_iter().find(|kind| kind.name() == engine);
    let kind = kind.ok_or_else(|| anyhow!("this kvorum has no engine {engine:?}"))?;
    let log = wal::verify(&*disk, &layout.wal)?;
    if let Some(damage) = log.damage {
        return Err(damage.into());
    }
    let place = Place { disk, dir: layout.state, kind, cache_bytes: limits::ENGINE_CACHE_BYTES };
    let member_id = log.identity.member_id;
    // No entry is applied here, so no limit matters.
    let settings = Settings { member_id, quota_bytes: None, learners_max: 0 };
    let engine = place.open(log.first_index.saturating_sub(1))?;
    state::read_all(&*engine)?;
    let machine = Machine::open(engine, settings, None)?;
    let applied = machine.applied().index;
    if applied + 1 < log.first_index || applied > log.last_index {
        bail!(
            "the state is as of entry {applied}, but the log holds entries {} to {}: files of \
             different times were put together; restore this member from a snapshot",
            log.first_index,
            log.last_index
        );
    }
    let view = machine.reader().view();
    Ok(Verified {
        data_dir: data_dir.to_owned(),
        engine: kind.name(),
        member_id: log.identity.member_id,
        cluster_id: log.identity.cluster_id,
        revision: view.revision(),
        compact_revision: view.compact_revision(),
        keys: view.keys(),
        applied_index: applied,
        log_first_index: log.first_index,
        log_last_index: log.last_index,
        log_torn: log.torn,
    })
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is whole", self.data_dir.display())?;
        writeln!(f, "member      {:x} of cluster {:x}", self.member_id, self.cluster_id)?;
        writeln!(f, "engine      {}, as of entry {}", self.engine, self.applied_index)?;
        writeln!(f, "revision    {}, compacted {}", self.revision, self.compact_revision)?;
        writeln!(f, "keys        {}", self.keys)?;
        let torn = if self.log_torn { ", then a write cut short" } else { "" };
        writeln!(f, "log         entries {} to {}{torn}", self.log_first_index, self.log_last_index)
    }
}
