//! The state engine's place in a member's directory: made, opened, copied beside, replaced.
//!
//! ```text
//! state/current    the generation in use, one number
//! state/7/         the engine's files of generation 7
//! state/8/         a copy under way; it counts once `current` says so
//! state/suspect    there while the state may be damaged
//! state/condemned  there when it cannot be opened
//! state/index      an image of the index, of whatever generation: their rows are the same
//! ```
//!
//! - `current` is replaced by a rename, so a crash leaves one generation or the other.
//! - A generation that is not the current one was promised to nobody and is removed; unless the log
//!   says that it was installed from a leader's snapshot, and a crash came before `current` did.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::defrag::{Defrag, Progress};
use super::disk::Disk;
use super::engine::{Engine, Table, View, count_bytes};
use super::keys;
use super::redb::Redb;
use super::sled::Sled;
use crate::error::Fault;
use crate::marks::{Mark, mark};

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

/// There while the state may be damaged.
pub const SUSPECT: &str = "suspect";
/// There when opening the state ended a process.
pub const CONDEMNED: &str = "condemned";

/// Where a member's engine is and how it is opened.
#[derive(Clone, Debug)]
pub struct Place {
    pub disk: Arc<dyn Disk>,
    /// The directory `state`.
    pub dir: PathBuf,
    pub kind: Kind,
    pub cache_bytes: usize,
}

/// Bytes of rows that are copied in one commit.
const RENEW_STEP_BYTES: usize = 4 * 1024 * 1024;
/// The length of the longest number in `current`.
const CURRENT_BYTES_MAX: u64 = 20;

impl Place {
    /// Makes the first generation and makes it the current one.
    pub fn create(&self) -> Result<Arc<dyn Engine>, Fault> {
        let (generation, engine) = self.begin()?;
        self.make_current(generation)?;
        Ok(engine)
    }

    /// Makes the first generation, empty, which does not count yet. What was there before does not
    /// come back with a crash.
    pub fn begin(&self) -> Result<(u64, Arc<dyn Engine>), Fault> {
        self.remove_tree(&self.dir)?;
        self.create_dir(&self.dir)?;
        if let Some(parent) = self.dir.parent() {
            let synced = self.disk.sync_dir(parent);
            synced.map_err(|error| Fault::io("sync", parent, error))?;
        }
        Ok((1, self.open_generation(1)?))
    }

    /// Opens the generation that holds what was applied up to `index`, where the log's newest mark
    /// is, and removes what a crash left of others.
    pub fn open(&self, index: u64) -> Result<Arc<dyn Engine>, Fault> {
        let current = self.current()?;
        let mut engine = (current, self.open_generation(current)?);
        if applied(&*engine.1)? < index {
            for number in self.generations()?.into_iter().filter(|number| *number != current) {
                let other = self.open_generation(number)?;
                if applied(&*other)? >= index {
                    mark(Mark::StateBesideTakenUp);
                    self.make_current(number)?;
                    engine = (number, other);
                    break;
                }
            }
        }
        for number in self.generations()?.into_iter().filter(|number| *number != engine.0) {
            self.remove_tree(&self.generation(number))?;
        }
        Ok(engine.1)
    }

    /// Copies the rows of an engine that may be damaged into a fresh generation, which counts from
    /// here on: all of them are read, and what the engine notes beside them is made anew. Without
    /// room for that they are only read.
    pub fn renew(&self, engine: Arc<dyn Engine>) -> Result<Arc<dyn Engine>, Fault> {
        if self.free_bytes()? < 2 * engine.used_bytes()? {
            read_all(&*engine)?;
            return Ok(engine);
        }
        let old = self.current()?;
        let (generation, copy) = self.create_next()?;
        let mut defrag = Defrag::new();
        while defrag.step(&*engine, &*copy, RENEW_STEP_BYTES)? == Progress::More {}
        self.make_current(generation)?;
        drop_dead(engine);
        self.remove(old)?;
        Ok(copy)
    }

    /// Makes an empty generation beside those there are, and says its number.
    pub fn create_next(&self) -> Result<(u64, Arc<dyn Engine>), Fault> {
        let last = self.generations()?.into_iter().max().unwrap_or(0);
        let next = last.max(self.current()?) + 1;
        Ok((next, self.open_generation(next)?))
    }

    fn generations(&self) -> Result<Vec<u64>, Fault> {
        let names = self.disk.list(&self.dir);
        let names = names.map_err(|error| Fault::io("list", &self.dir, error))?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Makes a generation the one that counts.
    pub fn make_current(&self, generation: u64) -> Result<(), Fault> {
        let (path, temporary) = (self.dir.join("current"), self.dir.join("current.tmp"));
        let write = || {
            if self.disk.exists(&temporary) {
                self.disk.remove(&temporary)?;
            }
            let file = self.disk.create(&temporary)?;
            file.write_at(0, generation.to_string().as_bytes())?;
            file.sync()?;
            self.disk.rename(&temporary, &path)?;
            self.disk.sync_dir(&self.dir)
        };
        write().map_err(|error| Fault::io("write", &path, error))
    }

    /// Removes the files of a generation that nobody has open.
    pub fn remove(&self, generation: u64) -> Result<(), Fault> {
        self.remove_tree(&self.generation(generation))
    }

    /// The generation that counts.
    pub fn current(&self) -> Result<u64, Fault> {
        let path = self.dir.join("current");
        let read = || {
            let file = self.disk.open(&path)?;
            let mut text = vec![0; file.len()?.min(CURRENT_BYTES_MAX) as usize];
            file.read_at(0, &mut text)?;
            Ok(text)
        };
        let text = read().map_err(|error| Fault::io("read", &path, error))?;
        std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            Fault::Corrupt {
                path,
                offset: 0,
                what: "it does not hold the number of a generation".into(),
                advice: "If state/ holds one numbered directory, write its number into the file; \
                         else restore this member from a snapshot.",
            }
        })
    }

    /// Whether the state was noted to be damaged, perhaps.
    pub fn is_suspect(&self) -> bool {
        self.disk.exists(&self.dir.join(SUSPECT))
    }

    /// Whether opening the state ended a process.
    pub fn is_condemned(&self) -> bool {
        self.disk.exists(&self.dir.join(CONDEMNED))
    }

    /// Takes the suspicion back: all of the state was read.
    pub fn clear(&self) -> Result<(), Fault> {
        let path = self.dir.join(SUSPECT);
        self.disk.remove(&path).map_err(|error| Fault::io("remove", &path, error))
    }

    /// Where the image of the index is. It may be absent, old or damaged: see `mvcc::Image`.
    pub fn image_path(&self) -> PathBuf {
        self.dir.join("index")
    }

    /// Bytes that files of the engine may still grow by.
    pub fn free_bytes(&self) -> Result<u64, Fault> {
        let free = self.disk.free_bytes(&self.dir);
        free.map_err(|error| Fault::io("measure", &self.dir, error))
    }

    fn generation(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn create_dir(&self, dir: &Path) -> Result<(), Fault> {
        self.disk.create_dir(dir).map_err(|error| Fault::io("create", dir, error))
    }

    /// Removes a directory that holds nothing anybody was promised.
    fn remove_tree(&self, dir: &Path) -> Result<(), Fault> {
        self.disk.remove_tree(dir).map_err(|error| Fault::io("remove", dir, error))
    }

    fn open_generation(&self, number: u64) -> Result<Arc<dyn Engine>, Fault> {
        let dir = self.generation(number);
        self.create_dir(&dir)?;
        Ok(match self.kind {
            Kind::Redb => Arc::new(Redb::open(&self.disk, &dir.join("redb"), self.cache_bytes)?),
            Kind::Sled => {
                let sled = Sled::open(&dir.join("sled"), self.cache_bytes as u64)?;
                Arc::new(if self.disk.syncs() { sled } else { sled.unsynced() })
            }
        })
    }
}

/// Drops what may hold the last of an engine as a panic would: redb then writes nothing more, which
/// could end in one if it is damaged.
pub fn drop_dead<T>(dead: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _dead = dead;
        resume_unwind(Box::new(()));
    }));
}

/// How far the state an engine holds has come.
pub fn applied(engine: &dyn Engine) -> Result<u64, Fault> {
    match engine.view()?.get(Table::Meta, keys::CONSISTENT_INDEX)? {
        Some(value) => keys::decode_u64(Table::Meta, keys::CONSISTENT_INDEX, &value),
        None => Ok(0),
    }
}

/// Reads every row of an engine that nobody writes to: it checks what it returns, and it must
/// return all that was committed.
pub fn read_all(engine: &dyn Engine) -> Result<(), Fault> {
    let view = engine.view()?;
    view.check_found(count_bytes(&*view, Table::ALL)?)
}

/// etcd's hash of a whole database: bucket names, keys and values in order, without the rows of
/// `meta` that differ from member to member.
pub fn hash(view: &dyn View) -> Result<u32, Fault> {
    let mut hash = 0;
    for table in Table::ALL {
        hash = crc32c::crc32c_append(hash, table.name().as_bytes());
        view.scan(table, &[], None, &mut |key, value| {
            let own = table == Table::Meta
                && [keys::CONSISTENT_INDEX, keys::TERM, keys::STORAGE_VERSION].contains(&key);
            if !own {
                hash = crc32c::crc32c_append(hash, key);
                hash = crc32c::crc32c_append(hash, value);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(hash)
}
