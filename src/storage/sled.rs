//! The sled state engine: one sled tree in a directory of its own, with the precautions it needs.
//!
//! sled 0.34.7 is selectable, not the default. It promises more than it does, so nothing that was
//! acknowledged may rest on it alone: the log is replayed over whatever older commit it opens with.
//! What it does, and what is done about it here:
//!
//! - `flush` never calls fsync on Linux (sled #1452, #1351, #1077): our own fdatasync follows each
//!   one, on sled's file through a second descriptor.
//! - New files and names in its directory are not synced: they are, here.
//! - Pages over a quarter of a segment go to `blobs/` and are never synced: segments are the
//!   largest there are and values are cut to 128 KiB. 17 of them make a page of 2.2 MiB; the limit
//!   is 4.
//! - A batch is atomic per tree only: there is one tree, and table numbers prefix the keys.
//! - A thread flushes in the background and may die unnoticed: it is off, and sled's error slot is
//!   read after every flush all the same.
//! - A damaged directory panics at open: the panic becomes a fault, where panics unwind.
//! - What a read returns was checked against nothing: every value and every chunk is sealed.
//! - Damage in the log rolls the tree back to an older commit without a word: whoever opens it has
//!   to compare the applied index with where the log begins.
//! - There are no snapshots of a tree: `versions` keeps what commits replace while views need it.
//!
//! Invariants:
//! - One commit is one `apply_batch`.
//! - A chunk row exists exactly as long as the row it belongs to is that long.
//! - Neither views nor commits wait for each other longer than sled makes them.
//!
//! Deliberately absent: compression, subscribers, merge operators, transactions, several trees;
//! a deadline for opening, which needs a thread and belongs to who opens.

mod rows;
mod versions;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::sled::{Batch, Config, Db};
use parking_lot::Mutex;

use self::rows::{chunk_key, head_key, head_of_chunk};
use self::versions::{Undo, Versions};
use self::view::SledView;
use super::engine::{Engine, View, Write};
use crate::error::Fault;

/// sled's own measure of its cache; what it really takes is several times that.
pub const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// The largest sled knows. It cannot change in the life of a directory.
const SEGMENT_BYTES: usize = 1 << 24;

/// sled unlocks its file some time after it is dropped, when its threads get to it.
const LOCK_TRIES: u32 = 1000;
const LOCK_WAIT: Duration = Duration::from_millis(2);

/// The engine in one directory.
pub struct Sled {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
}

/// What views need, too.
struct Shared {
    tree: Db,
    dir: PathBuf,
    versions: Mutex<Versions>,
}

/// What a commit needs for itself.
struct Writer {
    /// Where sled reports what went wrong behind its back.
    config: Config,
    /// A second descriptor of sled's file: fsync is about the file, not the descriptor.
    file: File,
    /// The files already synced under their name.
    synced: BTreeSet<PathBuf>,
    /// Rows stored in chunks, by head key, and into how many.
    chunked: BTreeMap<Vec<u8>, u32>,
    /// Whether what sled flushed is made durable.
    syncs: bool,
}

impl fmt::Debug for Sled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sled").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Sled {
    /// Opens the engine in `dir`, making an empty one if there is none.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Fault> {
        let config = Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .use_compression(false)
            .flush_every_ms(None);
        let tree = open_tree(&config, dir)?;
        let path = dir.join("db");
        let file = File::open(&path).map_err(|source| Fault::io("open", &path, source))?;
        let chunked = find_chunked(&tree, dir)?;
        let mut writer = Writer { config, file, synced: BTreeSet::new(), chunked, syncs: true };
        writer.sync(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_path(parent)?;
        }
        let shared = Shared { tree, dir: dir.to_owned(), versions: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), writer: Mutex::new(writer) })
    }

    /// Leaves it to the system when commits reach the disk.
    pub fn unsynced(self) -> Self {
        self.writer.lock().syncs = false;
        self
    }
}

impl Engine for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Fault> {
        let mut writer = self.writer.lock();
        let shared = &*self.shared;
        let undo = shared.undo(writes)?;
        let batch = writer.batch(writes);
        shared.versions.lock().begin(undo);
        shared.tree.apply_batch(batch).map_err(|error| shared.fault("write to", error))?;
        shared.versions.lock().end();
        shared.tree.flush().map_err(|error| shared.fault("flush", error))?;
        writer.config.global_error().map_err(|error| shared.fault("flush", error))?;
        if writer.syncs { writer.sync(&shared.dir) } else { Ok(()) }
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        Ok(Box::new(SledView::new(Arc::clone(&self.shared))))
    }

    fn size_bytes(&self) -> Result<u64, Fault> {
        let size = self.shared.tree.size_on_disk();
        size.map_err(|error| self.shared.fault("measure", error))
    }

    /// sled does not tell: what it occupies.
    fn used_bytes(&self) -> Result<u64, Fault> {
        self.size_bytes()
    }
}

impl Shared {
    fn fault(&self, action: &'static str, error: ::sled::Error) -> Fault {
        fault(&self.dir, action, error)
    }

    /// The rows `writes` are about to change, as they are now.
    fn undo(&self, writes: &[Write]) -> Result<Undo, Fault> {
        let mut undo = Undo::new();
        for write in writes {
            let head = head_key(write.table(), write.key());
            let old = self.read(&head)?;
            undo.insert(head, old.value(write.table(), write.key())?);
        }
        Ok(undo)
    }
}

impl Writer {
    /// The sled batch that does what `writes` say, chunks included.
    fn batch(&mut self, writes: &[Write]) -> Batch {
        let mut batch = Batch::default();
        for write in writes {
            let head = head_key(write.table(), write.key());
            let stale = self.chunked.remove(&head).unwrap_or(0);
            (0..stale).for_each(|chunk| batch.remove(chunk_key(&head, chunk)));
            match write {
                Write::Put { table, key, value } => {
                    let chunks = rows::put(&mut batch, *table, key, value);
                    if chunks > 0 {
                        self.chunked.insert(head, chunks);
                    }
                }
                Write::Delete { .. } => batch.remove(head),
            }
        }
        batch
    }

    /// Makes what sled flushed durable: its file, and the names and contents of new files.
    fn sync(&mut self, dir: &Path) -> Result<(), Fault> {
        self.file.sync_data().map_err(|source| Fault::io("sync", &dir.join("db"), source))?;
        for dir in [dir, &dir.join("blobs")] {
            let mut grew = false;
            for path in list(dir)? {
                if path.is_file() && !self.synced.contains(&path) {
                    sync_path(&path)?;
                    self.synced.insert(path);
                    grew = true;
                }
            }
            if grew {
                sync_path(dir)?;
            }
        }
        Ok(())
    }
}

fn open_tree(config: &Config, dir: &Path) -> Result<Db, Fault> {
    for _ in 1..LOCK_TRIES {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened.map_err(|panic| corrupt(dir, panic_text(&*panic)))? {
            Ok(tree) => return Ok(tree),
            Err(::sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {}
            Err(error) => return Err(fault(dir, "open", error)),
        }
        thread::sleep(LOCK_WAIT);
    }
    let what = "its lock is held: another process, or a view of an engine closed before";
    Err(Fault::Engine { engine: "sled", what: what.to_owned() })
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = fs::read_dir(dir).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()
    });
    entries.map_err(|source| Fault::io("list", dir, source))
}

/// Syncs a file, or the names in a directory.
fn sync_path(path: &Path) -> Result<(), Fault> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|source| Fault::io("sync", path, source))
}

/// Finds the rows stored in chunks by their chunks.
fn find_chunked(tree: &Db, dir: &Path) -> Result<BTreeMap<Vec<u8>, u32>, Fault> {
    let mut chunked = BTreeMap::new();
    for key in tree.range(rows::chunks()).keys() {
        let key = key.map_err(|error| fault(dir, "read", error))?;
        let head = head_of_chunk(&key).ok_or_else(|| corrupt(dir, "a stray row".to_owned()))?;
        *chunked.entry(head).or_insert(0) += 1;
    }
    Ok(chunked)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("sled panicked: {}", text.unwrap_or("no text"))
}

fn corrupt(dir: &Path, what: String) -> Fault {
    let advice = "Replace this member's data from its peers or a snapshot";
    Fault::Corrupt { path: dir.to_owned(), offset: 0, what, advice }
}

fn fault(dir: &Path, action: &'static str, error: ::sled::Error) -> Fault {
    match error {
        ::sled::Error::Io(source) => Fault::io(action, dir, source),
        ::sled::Error::Corruption { .. } => corrupt(dir, error.to_string()),
        ::sled::Error::CollectionNotFound(_)
        | ::sled::Error::Unsupported(_)
        | ::sled::Error::ReportableBug(_) => {
            Fault::Engine { engine: "sled", what: format!("cannot {action} it: {error}") }
        }
    }
}

#[cfg(test)]
mod tests;
