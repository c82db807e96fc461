//! The state engine's place in a member's directory: made, opened, copied beside, replaced.
//!
//! An engine's files live in `state/`; a copy under way lives in `state.new/` and takes the place
//! of the old one by a rename. Whatever a crash leaves in `state.new/` was promised to nobody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::engine::{Engine, Table, View};
use super::redb::Redb;
use super::sled::Sled;
use crate::error::Fault;

/// Which engine a member uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redb,
    Sled,
}

impl Kind {
    /// The name, as `--storage-engine` and the format file spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Redb => "redb",
            Kind::Sled => "sled",
        }
    }
}

/// Where a member's engine is and how it is opened.
#[derive(Clone, Debug)]
pub struct Place {
    pub disk: Arc<dyn Disk>,
    /// The directory `state`.
    pub dir: PathBuf,
    pub kind: Kind,
    pub cache_bytes: usize,
}

impl Place {
    /// Opens the engine, or makes an empty one.
    pub fn open(&self) -> Result<Arc<dyn Engine>, Fault> {
        self.open_in(&self.dir)
    }

    /// Makes an empty engine beside the one in use.
    pub fn create_beside(&self) -> Result<Arc<dyn Engine>, Fault> {
        let beside = self.beside();
        remove_tree(&beside)?;
        self.open_in(&beside)
    }

    /// Puts the copy beside in the place of the engine. Handles to either stay good.
    pub fn replace(&self) -> Result<(), Fault> {
        let (beside, old) = (self.beside(), self.dir.with_extension("old"));
        remove_tree(&old)?;
        let rename = |from: &Path, to: &Path| {
            self.disk.rename(from, to).map_err(|error| Fault::io("rename", from, error))
        };
        rename(&self.dir, &old)?;
        rename(&beside, &self.dir)?;
        let parent = self.dir.parent().unwrap_or(Path::new("."));
        self.disk.sync_dir(parent).map_err(|error| Fault::io("sync", parent, error))?;
        remove_tree(&old)
    }

    /// Takes back a replacement that a crash interrupted, and removes what it left.
    pub fn tidy(&self) -> Result<(), Fault> {
        let old = self.dir.with_extension("old");
        if !self.disk.exists(&self.dir) && self.disk.exists(&old) {
            self.disk.rename(&old, &self.dir).map_err(|error| Fault::io("rename", &old, error))?;
        }
        remove_tree(&old)?;
        remove_tree(&self.beside())
    }

    fn beside(&self) -> PathBuf {
        self.dir.with_extension("new")
    }

    fn open_in(&self, dir: &Path) -> Result<Arc<dyn Engine>, Fault> {
        self.disk.create_dir(dir).map_err(|error| Fault::io("create", dir, error))?;
        Ok(match self.kind {
            Kind::Redb => {
                Arc::new(Redb::open(&*self.disk, &dir.join("redb.db"), self.cache_bytes)?)
            }
            Kind::Sled => {
                Arc::new(Sled::open(&dir.join("sled"), self.cache_bytes as u64)?)
            }
        })
    }
}

/// Removes a directory that holds nothing anybody was promised.
fn remove_tree(dir: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io("remove", dir, error)),
    }
}

/// etcd's hash of a whole database: bucket names, keys and values in order, without the rows of
/// `meta` that differ from member to member.
pub fn hash(view: &dyn View) -> Result<u32, Fault> {
    let mut hash = 0;
    for table in Table::ALL {
        hash = crc32c::crc32c_append(hash, table.name().as_bytes());
        view.scan(table, &[], None, &mut |key, value| {
            let own = table == Table::Meta
                && [super::keys::CONSISTENT_INDEX, super::keys::TERM, super::keys::STORAGE_VERSION]
                    .contains(&key);
            if !own {
                hash = crc32c::crc32c_append(hash, key);
                hash = crc32c::crc32c_append(hash, value);
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
    }
    Ok(hash)
}
