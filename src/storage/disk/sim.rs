//! The simulated disk: files in memory that crash, tear, fail and fill up as a seed says.
//!
//! Every file has two images, the one programs see and the one the medium holds, and a list of the
//! changes in between; directory entries likewise. `sync` and `sync_dir` move changes over; a
//! [`Crash`] decides, for each change still on its way, whether it made it.
//!
//! ```text
//!   write_at, set_len ──► visible ──── pending ────► durable ◄── what a crash leaves
//!   create, rename    ──► names   ──── pending ────► durable names
//!                                  sync / sync_dir
//! ```
//!
//! Invariants:
//! - Same seed, same calls, same outcome. There is no clock and no thread in here.
//! - Data, length and names are lost independently of each other unless synced.
//! - A handle from before a crash is dead: every call on it fails.
//! - Operations that change anything are numbered from 1, reads from 1 of their own, so that a
//!   test can stop or fail at each of them in turn.
//!
//! Deliberately absent: latency (time belongs to the world that owns the disk), hard links, and the
//! loss of directories, which `create_dir` makes durable. One that was removed is there again after
//! a crash if a file in it is.

mod crash;
mod inode;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

pub use crash::{Crash, Seed};
use inode::Inode;

use super::{Disk, DiskFile};

/// What a file system hands out at a time; capacity is counted in these.
const BLOCK: u64 = 4096;

/// A disk in memory. Clones share it; [`SimDisk::fork`] copies it.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<World>>);

#[derive(Clone, Debug)]
struct World {
    seed: Seed,
    /// Incremented by every crash; a handle remembers the life it was opened in.
    life: u64,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    renames: Vec<Rename>,
    directories: BTreeSet<PathBuf>,
    operations: u64,
    reads: u64,
    failures: BTreeSet<u64>,
    read_failures: BTreeSet<u64>,
    stop: Option<u64>,
    capacity: Option<u64>,
}

/// A change of directory entries that no `sync_dir` has covered yet. A creation has no `from`, a
/// removal no `to`.
#[derive(Clone, Debug)]
struct Rename {
    inode: u64,
    from: Option<PathBuf>,
    to: Option<PathBuf>,
}

/// How a numbered operation is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// EIO.
    Fails,
    /// Takes effect as far as an unsynced change can, but nobody hears of it.
    Stops,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
}

impl SimDisk {
    /// An empty disk with only the root directories.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            seed: Seed::new(seed),
            life: 0,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renames: Vec::new(),
            directories: BTreeSet::from([PathBuf::new(), PathBuf::from("/")]),
            operations: 0,
            reads: 0,
            failures: BTreeSet::new(),
            read_failures: BTreeSet::new(),
            stop: None,
            capacity: None,
        })))
    }

    /// A copy that goes its own way from here. Handles stay with the original.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// How many changing operations were begun.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// How many reads were begun.
    pub fn reads(&self) -> u64 {
        self.0.lock().reads
    }

    /// The machine stops during operation `number`: it is issued, its end is never seen, and
    /// everything after it fails until [`SimDisk::crash`].
    pub fn stop_at(&self, number: u64) {
        self.0.lock().stop = Some(number);
    }

    /// Operation `number` ends with EIO. A write may have written a part; a sync loses an unknown
    /// part of what it was to write, for good, and the next sync succeeds without it.
    pub fn fail_at(&self, number: u64) {
        self.0.lock().failures.insert(number);
    }

    /// Read `number` ends with EIO.
    pub fn fail_read_at(&self, number: u64) {
        self.0.lock().read_failures.insert(number);
    }

    /// Limits the blocks of all files together; what does not fit ends with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    /// Bytes of the blocks in use.
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// Cuts the power and puts it back: what was not synced meets its fate, handles die.
    pub fn crash(&self, how: Crash) {
        self.0.lock().crash(how);
    }

    /// Turns the given bits of one byte, as a medium does that is growing old.
    pub fn flip(&self, path: &Path, offset: u64, bits: u8) -> io::Result<()> {
        let mut world = self.0.lock();
        let inode = world.find(path)?;
        world.inode(inode)?.flip(offset, bits)
    }

    /// Puts a durable file in place, and its directory, without counting operations.
    pub fn plant(&self, path: &Path, contents: &[u8]) {
        let mut world = self.0.lock();
        world.make_dirs(path.parent().unwrap_or(Path::new("")));
        let inode = world.add(Inode::durable(contents));
        world.names.insert(path.to_owned(), inode);
        world.durable_names.insert(path.to_owned(), inode);
    }

    fn handle(&self, inode: u64, life: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), inode, life })
    }
}

impl World {
    /// Numbers a changing operation and says how it ends.
    fn begin(&mut self) -> io::Result<Fate> {
        self.operations += 1;
        match self.stop {
            Some(stop) if self.operations > stop => return Err(stopped()),
            Some(stop) if self.operations == stop => return Ok(Fate::Stops),
            Some(_) | None => {}
        }
        let fails = self.failures.contains(&self.operations);
        Ok(if fails { Fate::Fails } else { Fate::Done })
    }

    fn begin_read(&mut self) -> io::Result<()> {
        if self.stop.is_some_and(|stop| self.operations >= stop) {
            return Err(stopped());
        }
        self.reads += 1;
        if self.read_failures.contains(&self.reads) { Err(Errno::IO.into()) } else { Ok(()) }
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn add(&mut self, inode: Inode) -> u64 {
        let number = self.inodes.last_key_value().map_or(1, |(last, _)| last + 1);
        self.inodes.insert(number, inode);
        number
    }

    fn make_dirs(&mut self, dir: &Path) {
        self.directories.extend(dir.ancestors().map(Path::to_owned));
    }

    /// Changes names as programs see them; the medium hears of it at `sync_dir`.
    fn rename(&mut self, inode: u64, from: Option<&Path>, to: Option<&Path>) {
        let rename = Rename { inode, from: from.map(Path::to_owned), to: to.map(Path::to_owned) };
        rename.apply(&mut self.names);
        self.renames.push(rename);
    }

    /// Makes the pending changes that `keep` names durable, in order, and forgets the others.
    fn settle_names(&mut self, mut keep: impl FnMut(&Rename) -> bool) {
        for rename in std::mem::take(&mut self.renames) {
            if keep(&rename) {
                rename.apply(&mut self.durable_names);
            }
        }
    }

    /// Whether a change is of a directory below this one that was removed.
    fn is_gone(&self, rename: &Rename, dir: &Path) -> bool {
        let parent = rename.from.as_deref().and_then(Path::parent);
        parent.is_some_and(|parent| parent.starts_with(dir) && !self.directories.contains(parent))
    }

    fn used(&self) -> u64 {
        let blocks = |inode: &u64| self.inodes.get(inode).map_or(0, Inode::blocks);
        self.names.values().map(blocks).sum::<u64>() * BLOCK
    }

    /// Takes blocks for the bytes `from..to` of a file, or says that there are none left.
    fn reserve(&mut self, inode: u64, from: u64, to: u64) -> io::Result<()> {
        let used = self.used();
        let capacity = self.capacity;
        let inode = self.inode(inode)?;
        let wanted = inode.missing(from / BLOCK..to.div_ceil(BLOCK));
        if capacity.is_some_and(|capacity| used + wanted * BLOCK > capacity) && wanted > 0 {
            return Err(Errno::NOSPC.into());
        }
        inode.take(from / BLOCK..to.div_ceil(BLOCK));
        Ok(())
    }

    fn crash(&mut self, how: Crash) {
        let mut seed = how.seed();
        self.settle_names(|_| how.keeps(&mut seed));
        for inode in self.inodes.values_mut() {
            inode.crash(how, &mut seed);
        }
        self.names = self.durable_names.clone();
        let linked: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|number, _| linked.contains(number));
        let dirs: Vec<PathBuf> =
            self.names.keys().filter_map(|path| path.parent()).map(Path::to_owned).collect();
        dirs.iter().for_each(|dir| self.make_dirs(dir));
        self.life += 1;
        self.operations = 0;
        self.reads = 0;
        self.stop = None;
        self.failures.clear();
        self.read_failures.clear();
    }
}

impl Rename {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(from) = &self.from
            && names.get(from) == Some(&self.inode)
        {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.inode);
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        [&self.from, &self.to].into_iter().flatten().any(|path| path.parent() == Some(dir))
    }
}

impl Fate {
    fn end<T>(self, value: T) -> io::Result<T> {
        match self {
            Fate::Done => Ok(value),
            Fate::Fails => Err(Errno::IO.into()),
            Fate::Stops => Err(stopped()),
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.0.lock();
        let fate = world.begin()?;
        if fate == Fate::Fails {
            return Err(Errno::IO.into());
        }
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| world.directories.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = world.add(Inode::default());
        world.rename(inode, None, Some(path));
        fate.end(self.handle(inode, world.life))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.0.lock();
        world.begin_read()?;
        Ok(self.handle(world.find(path)?, world.life))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        let fate = world.begin()?;
        let inode = world.find(from)?;
        if fate != Fate::Fails {
            world.rename(inode, Some(from), Some(to));
        }
        fate.end(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        let fate = world.begin()?;
        let inode = world.find(path)?;
        if fate != Fate::Fails {
            world.rename(inode, Some(path), None);
        }
        fate.end(())
    }

    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        let fate = world.begin()?;
        if fate != Fate::Fails {
            let inside = world.names.iter().filter(|(path, _)| path.starts_with(dir));
            let inside: Vec<_> = inside.map(|(path, inode)| (path.clone(), *inode)).collect();
            for (path, inode) in inside {
                world.rename(inode, Some(&path), None);
            }
            world.directories.retain(|other| !other.starts_with(dir));
        }
        fate.end(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let world = self.0.lock();
        let free = |capacity: u64| capacity.saturating_sub(world.used());
        Ok(world.capacity.map_or(u64::MAX, free))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut world = self.0.lock();
        world.begin_read()?;
        if !world.directories.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let paths = world.names.keys().chain(&world.directories);
        let inside = paths.filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()).map(PathBuf::from);
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        let fate = world.begin()?;
        if fate != Fate::Fails {
            world.make_dirs(dir);
        }
        fate.end(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        let fate = world.begin()?;
        if fate == Fate::Done {
            let renames = std::mem::take(&mut world.renames);
            let touches = |rename: &Rename| rename.touches(dir) || world.is_gone(rename, dir);
            let (covered, rest) = renames.into_iter().partition(touches);
            world.renames = covered;
            world.settle_names(|_| true);
            world.renames = rest;
        }
        fate.end(())
    }

    fn exists(&self, path: &Path) -> bool {
        let world = self.0.lock();
        world.names.contains_key(path) || world.directories.contains(path)
    }
}

impl SimFile {
    /// Runs `body` on the file's inode if the handle is from this life.
    fn with<T>(&self, body: impl FnOnce(&mut World, u64) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.0.lock();
        if world.life != self.life {
            return Err(stopped());
        }
        body(&mut world, self.inode)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.with(|world, inode| {
            world.begin_read()?;
            world.inode(inode)?.read(offset, buf)
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|world, inode| {
            let fate = world.begin()?;
            world.reserve(inode, offset, offset + data.len() as u64)?;
            let written = match fate {
                Fate::Done | Fate::Stops => data.len(),
                Fate::Fails => world.seed.below(data.len() as u64 + 1) as usize,
            };
            world.inode(inode)?.write(offset, &data[..written]);
            fate.end(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|world, inode| {
            world.begin_read()?;
            Ok(world.inode(inode)?.len())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|world, inode| {
            let fate = world.begin()?;
            if fate != Fate::Fails {
                world.inode(inode)?.set_len(len);
            }
            fate.end(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.with(|world, inode| {
            let fate = world.begin()?;
            if fate != Fate::Fails {
                world.reserve(inode, 0, len)?;
                let inode = world.inode(inode)?;
                if inode.len() < len {
                    inode.set_len(len);
                }
            }
            fate.end(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world, inode| {
            let fate = world.begin()?;
            let mut seed = world.seed.branch();
            match fate {
                Fate::Done => world.inode(inode)?.sync(),
                Fate::Fails => world.inode(inode)?.fail_sync(&mut seed),
                Fate::Stops => {}
            }
            fate.end(())
        })
    }

    fn settle(&self) -> io::Result<()> {
        self.sync()?;
        self.with(|world, inode| {
            world.inode(inode)?.forget();
            Ok(())
        })
    }
}
