//! redb's storage through the disk seam, and the file's place on that disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::redb::StorageBackend;
use parking_lot::Mutex;

use crate::error::Fault;
use crate::storage::disk::{Disk, DiskFile};

/// Suffix of an engine that is being made.
const UNFINISHED: &str = ".tmp";
/// Suffix of the mark that writing to an engine failed.
const SUSPECT: &str = ".suspect";

/// Where an engine's file is.
#[derive(Debug)]
pub struct Place {
    disk: Arc<dyn Disk>,
    path: Mutex<PathBuf>,
}

impl Place {
    pub fn new(disk: &Arc<dyn Disk>, path: &Path) -> Arc<Self> {
        Arc::new(Self { disk: Arc::clone(disk), path: Mutex::new(path.to_owned()) })
    }

    pub fn path(&self) -> PathBuf {
        self.path.lock().clone()
    }

    pub fn exists(&self) -> bool {
        self.disk.exists(&self.path())
    }

    /// Makes a file under another name, for [`Place::finish`].
    pub fn begin(&self) -> Result<Arc<dyn DiskFile>, Fault> {
        let unfinished = beside(&self.path(), UNFINISHED);
        self.clear(&unfinished)?;
        let created = self.disk.create(&unfinished);
        created.map_err(|source| Fault::io("create", &unfinished, source))
    }

    /// Gives the file made by [`Place::begin`] its name.
    pub fn finish(&self) -> Result<(), Fault> {
        let path = self.path();
        let renamed = self.disk.rename(&beside(&path, UNFINISHED), &path);
        renamed.map_err(|source| Fault::io("name", &path, source))
    }

    /// Opens the file, believing the medium if the cache cannot be believed.
    pub fn open(&self) -> Result<Arc<dyn DiskFile>, Fault> {
        let path = self.path();
        let file = self.disk.open(&path).map_err(|source| Fault::io("open", &path, source))?;
        let suspect = beside(&path, SUSPECT);
        if self.disk.exists(&suspect) {
            file.settle().map_err(|source| Fault::io("settle", &path, source))?;
            self.clear(&suspect)?;
        }
        // Whoever gave the file its name may have died before the name was durable.
        self.sync_name()?;
        Ok(file)
    }

    /// Takes away whatever file is here.
    pub fn empty(&self) -> Result<(), Fault> {
        let path = self.path();
        self.clear(&path)?;
        self.clear(&beside(&path, SUSPECT))
    }

    /// Gives the file another name.
    pub fn rename(&self, to: &Path) -> Result<(), Fault> {
        let mut path = self.path.lock();
        self.disk.rename(&path, to).map_err(|source| Fault::io("name", to, source))?;
        to.clone_into(&mut path);
        drop(path);
        self.sync_name()
    }

    fn sync_name(&self) -> Result<(), Fault> {
        let path = self.path();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        self.disk.sync_dir(parent).map_err(|source| Fault::io("sync", parent, source))
    }

    fn clear(&self, path: &Path) -> Result<(), Fault> {
        if self.disk.exists(path) {
            self.disk.remove(path).map_err(|source| Fault::io("clear away", path, source))?;
        }
        Ok(())
    }

    /// Marks the file: writing to it failed. As good as it gets, the disk is failing; the mark
    /// need not outlive the cache it warns of, so it is not synced.
    fn suspect(&self) {
        drop(self.disk.create(&beside(&self.path(), SUSPECT)));
    }
}

/// The name of a file that belongs to the one at `path`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What redb reads and writes.
#[derive(Debug)]
pub struct Backend {
    pub file: Arc<dyn DiskFile>,
    pub place: Arc<Place>,
}

impl Backend {
    /// Marks the file after a failure that redb may not tell anybody about.
    fn watch(&self, done: io::Result<()>) -> io::Result<()> {
        done.inspect_err(|_| self.place.suspect())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch(self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch(self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch(self.file.write_at(offset, data))
    }
}
