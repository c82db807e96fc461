//! Booting: from a configuration and a directory to a node at work.
//!
//! ```text
//! lock ─▶ inspect ─▶ found, join or recover ─▶ machine and raft core ─▶ launch
//! ```
//!
//! What the engine lacks is in the log: raft hands the rest of the log to the applier as if it had
//! just been committed, and the member is where it was.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::forgotten::{self, Heard};
use super::handle::Handle;
use super::launch::Assembly;
use super::means::Means;
use super::rebuild::{self, Damage};
use super::transport::Transport;
use super::{Node, launch, records};
use crate::config::{Config, FoundingError};
use crate::error::Fault;
use crate::limits;
use crate::machine::{Applied, Machine};
use crate::marks::{Mark, mark};
use crate::members::{Member, Members};
use crate::raft::{self, Boot, Boundary, Core, conf};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::engine::{Engine, Table, Write};
use crate::storage::layout::{Found, Layout, LayoutError};
use crate::storage::state::Place;
use crate::storage::wal::{self, Wal};
use crate::storage::{self, keys};
use crate::version;

/// Why a node does not boot. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error(
        "{} is in use by another process (it holds the lock file); stop that process, or give this \
         one its own --data-dir", .0.display()
    )]
    InUse(PathBuf),
    #[error("cannot use {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Founding(#[from] FoundingError),
    #[error("{} holds a member already; give an empty or absent directory", .0.display())]
    NotEmpty(PathBuf),
    #[error(
        "{} was written by the {found} engine, but --storage-engine is {wanted}; start with \
         --storage-engine={found}", dir.display()
    )]
    OtherEngine { dir: PathBuf, found: String, wanted: &'static str },
    /// Another member's state can be put in its place: see [`super::rebuild`].
    #[error("the state of this member is damaged: {}", .0.fault)]
    Damaged(Box<Damage>),
    /// It must not come back under its id: see [`super::forgotten`].
    #[error("the log or the vote of this member is lost: {0}")]
    Forgotten(String),
    #[error("another member's state is of no use: {0}")]
    Unusable(String),
    #[error("cannot talk to other members: {0}")]
    Peers(io::Error),
    #[error(
        "this member was removed from its cluster; to bring it back, remove its data directory and \
         add it as a new member"
    )]
    Removed,
    #[error("the member stopped before it was ready; see its log")]
    NotReady,
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// An exclusive hold on a data directory, for as long as it lives.
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub fn take(data_dir: &Path) -> Result<Self, BootError> {
        let fail = |source| BootError::Directory { path: data_dir.to_owned(), source };
        let path = data_dir.join("lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(path).map_err(fail)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(BootError::InUse(data_dir.to_owned())),
            Err(error) => Err(fail(error.into())),
        }
    }
}

/// Takes a directory, unless it is somebody else's: there not even a lock file is left behind.
///
/// What else there is to say of it is asked again by whoever holds the lock.
fn claim(layout: &Layout, disk: &dyn Disk) -> Result<DirectoryLock, BootError> {
    match layout.inspect(disk) {
        Err(error @ (LayoutError::Etcd(_) | LayoutError::Foreign { .. })) => Err(error.into()),
        Ok(_) | Err(_) => DirectoryLock::take(&layout.data_dir),
    }
}

/// Everything that storage yields.
pub(super) struct Recovered {
    pub engine: Arc<dyn Engine>,
    pub wal: Wal,
    pub cluster_id: u64,
    pub member_id: u64,
    hard_state: raft::HardState,
    /// The newest mark in the log.
    snapshot: wal::Snapshot,
    /// The entry that the log begins after.
    beginning: Boundary,
    entries: Vec<raft::Entry>,
}

/// What makes the way to the other members, once there is a node to speak for.
pub type Connect = Box<dyn FnOnce(&Handle) -> io::Result<Arc<dyn Transport>> + Send>;

/// What others said before a member begins.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// To one that joins them.
    pub joined: Option<Joined>,
    /// What they heard it promise, should it have been here before.
    pub heard: Heard,
}

pub(super) fn start(config: Config, told: Told, connect: Connect) -> Result<Node, BootError> {
    let data_dir = config.data_dir();
    let means = Means::of_this_machine(&config);
    let create = means.disk.create_dir(&data_dir);
    create.map_err(|source| BootError::Directory { path: data_dir.clone(), source })?;
    let layout = Layout::new(&data_dir, config.wal_dir.as_deref());
    let lock = claim(&layout, &*means.disk)?;
    let found = layout.inspect(&*means.disk)?;
    let is_new = found == Found::Nothing;
    match take_up(&config, &layout, &means, found, (told, connect)) {
        Err(BootError::Fault(fault)) if !is_new => Err(judge(&layout, &means.disk, fault)),
        assembly => Ok(launch::launch(assembly?, lock)),
    }
}

/// What a fault at the start of a member comes to: it forgot, it needs another one's state, or it
/// needs an operator.
pub(super) fn judge(layout: &Layout, disk: &Arc<dyn Disk>, fault: Fault) -> BootError {
    if let Some(why) = forgotten::reason(&fault, &layout.wal) {
        return BootError::Forgotten(why);
    }
    if !rebuild::is_damage(&fault, &layout.state) {
        return fault.into();
    }
    // With a log that is whole, others can help.
    let damage = match wal::verify(&**disk, &layout.wal) {
        Ok(log) if log.damage.is_none() => {
            return BootError::Damaged(Box::new(Damage {
                cluster_id: log.identity.cluster_id,
                member_id: log.identity.member_id,
                file: layout.member.join("arriving.db"),
                fault,
            }));
        }
        Ok(log) => log.damage,
        Err(error) => Some(error),
    };
    let lost = damage.and_then(|damage| forgotten::reason(&damage, &layout.wal));
    lost.map_or(fault.into(), BootError::Forgotten)
}

pub(super) fn is_begun(config: &Config) -> bool {
    let layout = Layout::new(&config.data_dir(), config.wal_dir.as_deref());
    !matches!(layout.inspect(&RealDisk), Ok(Found::Nothing))
}

/// Founds, joins or recovers the member, and puts it together.
pub(super) fn take_up(
    config: &Config,
    layout: &Layout,
    means: &Means,
    found: Found,
    (told, connect): (Told, Connect),
) -> Result<Assembly, BootError> {
    let wanted = config.storage_engine.name();
    let mut recovered = match found {
        Found::Nothing => begin(config, layout, means, told.joined.as_ref())?,
        Found::Member { engine } if engine != wanted => {
            let (dir, found) = (config.data_dir(), engine);
            return Err(BootError::OtherEngine { dir, found, wanted });
        }
        Found::Member { .. } => {
            if let Some(why) = forgotten::noted(&layout.member)
                && !config.force_new_cluster
            {
                return Err(BootError::Forgotten(why));
            }
            if place_of(config, layout, means).is_condemned() {
                return Err(damaged(layout, "opening it ended the process before".into()).into());
            }
            rebuild::opens(&layout.state);
            let mut recovered = recover(config, layout, means)?;
            match config.force_new_cluster {
                true => force_alone(&mut recovered)?,
                false => check_promises(&recovered, layout, &told.heard)?,
            }
            recovered
        }
    };
    let place = place_of(config, layout, means);
    if place.is_suspect() {
        tracing::warn!("the state may be damaged: reading all of it, into a new file");
        recovered.engine = place.renew(recovered.engine)?;
        place.clear()?;
        mark(Mark::SuspicionCleared);
    }
    let assembly =
        launch::assemble(config, layout, means, place, recovered, (told.joined, connect))?;
    rebuild::opened(&layout.state);
    Ok(assembly)
}

/// Begins a member in an empty directory: of a new cluster, or of one that runs.
fn begin(
    config: &Config,
    layout: &Layout,
    means: &Means,
    joined: Option<&Joined>,
) -> Result<Recovered, BootError> {
    let disk = &means.disk;
    let (identity, members) = match joined {
        Some(joined) => {
            let Joined { cluster_id, member_id, .. } = *joined;
            // A member that joins hears of everything from the leader, of the members too.
            (wal::Identity { cluster_id, member_id }, Members::default())
        }
        None => {
            let (member_id, members) = founders(config)?;
            let cluster_id = members.founding_cluster_id();
            (wal::Identity { cluster_id, member_id }, members)
        }
    };
    layout.begin(&**disk)?;
    let (wal, hard_state, entries) = found_log(layout, disk, means.log, identity, &members)?;
    let engine = place_of(config, layout, means).create()?;
    engine.commit(&[Write::Put {
        table: Table::Meta,
        key: Bytes::from_static(keys::STORAGE_VERSION),
        value: Bytes::from_static(version::STORAGE.as_bytes()),
    }])?;
    layout.complete(&**disk, config.storage_engine.name())?;
    let wal::Identity { cluster_id, member_id } = identity;
    tracing::info!(
        member_id = format!("{member_id:x}"),
        cluster_id = format!("{cluster_id:x}"),
        members = members.iter().count(),
        "{}",
        if joined.is_some() { "joining a cluster" } else { "founded a new cluster" }
    );
    let snapshot = wal::Snapshot::default();
    let beginning = Boundary::default();
    Ok(Recovered { engine, wal, cluster_id, member_id, hard_state, snapshot, beginning, entries })
}

/// What a member that joins a running cluster was told by the others.
#[derive(Clone, Debug)]
pub struct Joined {
    pub cluster_id: u64,
    /// The id that it was added under.
    pub member_id: u64,
    pub members: Members,
}

/// A data directory being founded on rows that exist, for a restore. Nothing counts before
/// [`Founding::complete`].
pub struct Founding {
    layout: Layout,
    disk: Arc<dyn Disk>,
    pub engine: Arc<dyn Engine>,
    pub member_id: u64,
    pub members: Members,
    pub cluster_id: u64,
    /// Where the log stands: the state to be written is as of this entry.
    pub applied: Applied,
    _lock: DirectoryLock,
}

impl Founding {
    /// Takes an empty directory and makes its log and an empty engine.
    pub fn begin(config: &Config) -> Result<Self, BootError> {
        let (member_id, members) = founders(config)?;
        let cluster_id = members.founding_cluster_id();
        let data_dir = config.data_dir();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let create = disk.create_dir(&data_dir);
        create.map_err(|source| BootError::Directory { path: data_dir.clone(), source })?;
        let layout = Layout::new(&data_dir, config.wal_dir.as_deref());
        let lock = claim(&layout, &*disk)?;
        if layout.inspect(&*disk)? != Found::Nothing {
            return Err(BootError::NotEmpty(data_dir));
        }
        layout.begin(&*disk)?;
        let identity = wal::Identity { cluster_id, member_id };
        let (_, hard_state, _) =
            found_log(&layout, &disk, wal::Options::default(), identity, &members)?;
        let engine = place(config, &layout, &disk).create()?;
        let applied = Applied { index: hard_state.commit, term: hard_state.term };
        Ok(Self { layout, disk, engine, member_id, members, cluster_id, applied, _lock: lock })
    }

    /// Makes the directory a member's.
    pub fn complete(self) -> Result<(), BootError> {
        self.layout.complete(&*self.disk, self.engine.name())?;
        Ok(())
    }
}

/// The log of a new cluster, whose founders are added by its first entries, already committed; an
/// empty one if there are none.
fn found_log(
    layout: &Layout,
    disk: &Arc<dyn Disk>,
    options: wal::Options,
    identity: wal::Identity,
    founders: &Members,
) -> Result<(Wal, raft::HardState, Vec<raft::Entry>), Fault> {
    let mut wal = Wal::create(disk.clone(), &layout.wal, identity, options)?;
    let context = |member: &Member| {
        let context = conf::Context {
            id: member.id,
            peer_urls: Some(member.peer_urls.clone()),
            name: member.name.clone(),
            ..conf::Context::default()
        };
        (member.id, context.encode())
    };
    let founders: Vec<_> = founders.iter().map(context).collect();
    if founders.is_empty() {
        wal.sync()?;
        return Ok((wal, raft::HardState::default(), Vec::new()));
    }
    let (hard_state, entries) = conf::bootstrap(founders);
    let persist = raft::Persist {
        number: 0,
        snapshot: None,
        entries: entries.clone(),
        hard_state: hard_state.clone(),
    };
    records::append(&mut wal, persist)?;
    wal.sync()?;
    Ok((wal, hard_state, entries))
}

pub(super) fn place(config: &Config, layout: &Layout, disk: &Arc<dyn Disk>) -> Place {
    let (dir, kind) = (layout.state.clone(), config.storage_engine);
    Place { disk: disk.clone(), dir, kind, cache_bytes: limits::ENGINE_CACHE_BYTES }
}

/// The same, with the means of a running member.
fn place_of(config: &Config, layout: &Layout, means: &Means) -> Place {
    Place { cache_bytes: means.cache_bytes, ..place(config, layout, &means.disk) }
}

/// The id of the member this process is, and all founders, if the configuration may found them.
fn founders(config: &Config) -> Result<(u64, Members), BootError> {
    config.verify_founding()?;
    let members = Members::founding(&config.initial_cluster, &config.initial_cluster_token);
    let member = members.iter().find(|member| member.name == config.name);
    let id = member.expect("a verified founding has this member in it").id;
    Ok((id, members))
}

/// Takes up a directory where its member left it.
fn recover(config: &Config, layout: &Layout, means: &Means) -> Result<Recovered, BootError> {
    let disk = &means.disk;
    let (wal, recovered) = Wal::open(disk.clone(), &layout.wal, None, means.log)?;
    let engine = place_of(config, layout, means).open(recovered.snapshot.index)?;
    let beginning = records::beginning(&recovered);
    reach(layout, &*engine, beginning)?;
    let wal::Identity { cluster_id, member_id } = recovered.identity;
    Ok(Recovered {
        engine,
        wal,
        cluster_id,
        member_id,
        hard_state: records::hard_state(recovered.hard_state),
        snapshot: recovered.snapshot,
        beginning,
        entries: recovered.entries.into_iter().map(records::from_record).collect(),
    })
}

/// Refuses a state that the log does not lead on from: an engine of which a part is damaged may
/// show what it held long ago.
pub(super) fn reach(layout: &Layout, engine: &dyn Engine, log: Boundary) -> Result<(), Fault> {
    let applied = storage::state::applied(engine)?;
    if applied >= log.index {
        return Ok(());
    }
    let begins = log.index;
    let what = format!("it ends at entry {applied}, but the log begins after entry {begins}");
    Err(damaged(layout, what))
}

/// Damage to a state as a whole.
fn damaged(layout: &Layout, what: String) -> Fault {
    let advice = "Replace this member, or restore it from a snapshot.";
    Fault::Corrupt { path: layout.state.clone(), offset: 0, what, advice }
}

/// Refuses a log that is older than what others were promised with it, from now on.
fn check_promises(recovered: &Recovered, layout: &Layout, heard: &Heard) -> Result<(), BootError> {
    let whose = (recovered.cluster_id, recovered.member_id);
    let Some(promise) = heard.get(&whose) else { return Ok(()) };
    let last = recovered.entries.last().map_or(0, |entry| entry.index);
    let last = last.max(recovered.snapshot.index);
    match forgotten::contradiction(*promise, recovered.hard_state.term, last) {
        None => Ok(()),
        Some(why) => {
            mark(Mark::PromiseContradicted);
            forgotten::note(&layout.member, &why);
            Err(BootError::Forgotten(why))
        }
    }
}

/// Makes the one member that is left a cluster of its own, for the day a majority is lost for good.
///
/// The log is taken as it is, to its end: nobody is left who could say that its last entries were
/// not agreed on, and a client may have been told that they were. What removes the others, and
/// makes this one a voter, is appended to it like any other change of members.
fn force_alone(recovered: &mut Recovered) -> Result<(), Fault> {
    let stored = recovered.engine.view()?.get(Table::Meta, keys::CONF_STATE)?;
    let stored = stored.map(|value| keys::ConfState::decode(&value)).transpose()?;
    let mut state = stored.map(records::conf_state).unwrap_or_default();
    let applied = storage::state::applied(&*recovered.engine)?;
    let unapplied = recovered.entries.iter().filter(|entry| entry.index > applied);
    for entry in unapplied.filter(|entry| entry.entry_type != raft::EntryType::EntryNormal as i32) {
        let change = conf::Change::decode(&entry.data).map_err(|error| {
            Fault::Broken(format!("log entry {} is not a conf change: {error}", entry.index))
        })?;
        state = conf::apply(&state, &change);
    }
    let last = recovered.entries.last().map_or(recovered.snapshot.index, |entry| entry.index);
    let term = recovered.hard_state.term;
    let changes = conf::left_alone(&state, recovered.member_id);
    let entries: Vec<raft::Entry> = (last + 1..)
        .zip(&changes)
        .map(|(index, change)| raft::Entry {
            entry_type: raft::EntryType::EntryConfChange as i32,
            term,
            index,
            data: change.encode(),
            ..raft::Entry::default()
        })
        .collect();
    let commit = last + entries.len() as u64;
    recovered.hard_state.commit = commit;
    let hard_state = recovered.hard_state.clone();
    let persist = raft::Persist { number: 0, snapshot: None, entries: entries.clone(), hard_state };
    records::append(&mut recovered.wal, persist)?;
    recovered.wal.sync()?;
    recovered.entries.extend(entries);
    tracing::warn!(removed = changes.len(), commit, "forced a new cluster of this member alone");
    Ok(())
}

/// The raft core over what was recovered.
pub(super) fn core(
    config: &Config,
    seed: u64,
    recovered: &mut Recovered,
    machine: &Machine,
) -> Result<Core, Fault> {
    let mut entries = std::mem::take(&mut recovered.entries);
    let boundary = recovered.beginning;
    entries.retain(|entry| entry.index > boundary.index);
    let heartbeat_ms = config.heartbeat_interval.as_millis().max(1);
    Core::new(Boot {
        id: recovered.member_id,
        applied: machine.applied().index,
        hard_state: recovered.hard_state.clone(),
        conf_state: records::conf_state(machine.conf_state().clone()),
        entries,
        boundary,
        seed,
        election_tick: (config.election_timeout.as_millis() / heartbeat_ms) as usize,
        heartbeat_tick: 1,
        no_pre_vote: !config.pre_vote,
    })
}
