//! A member without threads, for the simulation of whole clusters in `tests/sim`.
//!
//! It is put together like any member, from the same parts; but nobody starts threads. Whoever
//! owns it asks which [`Part`] wants to take its turn and when, lets it, and polls its errands.
//! Compiled where debug assertions are, so that nothing that is released has it.
//!
//! Deliberately absent: everything above the node. Clients are the simulation's own.

mod errands;
mod skew;
mod watching;

use std::any::Any;
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flume::{Receiver, TryRecvError};
use tokio::sync::mpsc;

use super::applier::{self, Applier, Room};
use super::boot::{self, BootError, Connect, Told};
use super::checkpointer::{self, Checkpointer, Wants};
use super::driver::{self, Driver};
use super::launch::{Assembly, Wires};
use super::means::Means;
use super::rebuild::{self, Damage};
use super::transport::Outgoing;
use super::watches::{self, History, Watches};
use super::{Handle, clock, corruption, duties};
use crate::config::Config;
use crate::error::{Error, Fault};
use crate::raft::{Entry, Status};
use crate::storage::disk::Disk;
use crate::storage::layout::{Found, Layout};
use crate::storage::state::Place;
use crate::storage::wal;
use crate::watch;

pub(super) use errands::Lent;
pub use errands::{Errand, Errands};
pub(super) use skew::shown;
pub use skew::{Skew, keep_time};
pub use watching::Watching;

/// How often whoever waits for a whole state looks whether it comes.
const HAND_OUT_POLL: Duration = Duration::from_millis(2);

/// What a simulated member stands on.
#[derive(Clone, Debug)]
pub struct Ground {
    pub disk: Arc<dyn Disk>,
    /// Differs from start to start and from member to member.
    pub seed: u64,
    /// Milliseconds of 1970.
    pub wall_ms: u64,
    pub skew: Skew,
    /// The size of a segment of the log.
    pub segment_bytes: u64,
    /// Whether watch streams and what is kept for them have narrow bounds.
    pub tight_watches: bool,
    /// Whether each applied entry must be in the engine before the next one is applied.
    pub tight_memory: bool,
    /// What the engine may keep of what it has read.
    pub cache_bytes: usize,
}

/// How much of everything waits in a member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Inputs of clients and of peers in the driver's inbox.
    pub inbox: (usize, usize),
    /// Proposals that found no leader, and their bytes.
    pub held: (usize, usize),
    /// Proposals whose end is not known, the held ones included.
    pub waiting: usize,
    pub messages_held: usize,
    pub questions_held: usize,
    pub readers: usize,
    /// Entries of the log in memory.
    pub entries: u64,
    /// Whether readers are answered at once, though others may have applied more.
    pub reads_beside_others: bool,
    /// Clients that wait for what went to the leader.
    pub expected: usize,
    /// Jobs of the applier that are put off.
    pub postponed: usize,
    pub watch_streams: usize,
    pub watch_queued: u64,
}

/// What takes turns in a member; in production each has a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Driver,
    Log,
    Applier,
    Checkpointer,
    Watches,
    History,
}

impl Part {
    pub const ALL: [Part; 6] =
        [Part::Driver, Part::Log, Part::Applier, Part::Checkpointer, Part::Watches, Part::History];
}

/// A member.
pub struct Member {
    skew: Skew,
    handle: Handle,
    wires: Wires,
    errands: Errands,
    inputs: Receiver<driver::Input>,
    driver: Option<Driver>,
    jobs: Receiver<applier::Job>,
    applier: Option<Applier>,
    checkpoints: Receiver<checkpointer::Job>,
    checkpointer: Option<Checkpointer>,
    /// When the checkpointer last had no space.
    paused: Instant,
    changes: Receiver<watches::Input>,
    watches: Option<Watches>,
    history: History,
    watch_limits: watch::Limits,
    committed: Vec<Entry>,
    /// Closes when the member does.
    _corruption: mpsc::Sender<()>,
}

impl Member {
    /// Starts a member as a process would, up to its listeners.
    pub fn start(
        config: &Config,
        ground: Ground,
        told: Told,
        connect: Connect,
    ) -> Result<Self, BootError> {
        keep_time(Some(ground.skew));
        let errands = Errands::default();
        let options = wal::Options { segment_bytes: ground.segment_bytes, prefill: false };
        let tight = Room { due: 1, full: 1 };
        let means = Means {
            disk: ground.disk,
            log: options,
            room: if ground.tight_memory { tight } else { Room::default() },
            cache_bytes: ground.cache_bytes,
            seed: ground.seed,
            wall_ms: ground.wall_ms,
            errands: super::errands::Errands { simulated: Some(errands.clone()) },
        };
        let data_dir = config.data_dir();
        create_dir(&*means.disk, &data_dir)?;
        let layout = Layout::new(&data_dir, config.wal_dir.as_deref());
        let found = layout.inspect(&*means.disk)?;
        let is_new = found == Found::Nothing;
        let assembly = match boot::take_up(config, &layout, &means, found, (told, connect)) {
            Err(BootError::Fault(fault)) if !is_new => {
                return Err(boot::judge(&layout, &means.disk, fault));
            }
            taken => taken?,
        };
        Self::animate(assembly, errands, ground.skew, ground.tight_watches)
            .map_err(BootError::Fault)
    }

    fn animate(
        mut assembly: Assembly,
        errands: Errands,
        skew: Skew,
        tight: bool,
    ) -> Result<Self, Fault> {
        if tight {
            assembly.watches.limits = tightened(assembly.watches.limits);
        }
        let watch_limits = assembly.watches.limits.clone();
        let Assembly { handle, wires, intervals, .. } = assembly;
        let now = clock::now();
        let (inputs, jobs) = (assembly.driver.inbox.clone(), assembly.applier.jobs.clone());
        let checkpoints = assembly.checkpointer.jobs.clone();
        let changes = assembly.watches.inbox.clone();
        let (watches, history) = Watches::new(assembly.watches);
        let applier = Some(Applier::new(assembly.applier, now));
        let driver = Some(Driver::begin(assembly.driver, now)?);
        let (corruption, stopped) = mpsc::channel(1);
        errands.send("duties", Box::pin(duties::run(assembly.duties, assembly.wake)));
        let watch = corruption::run(handle.clone(), intervals, stopped);
        errands.send("corruption-watch", Box::pin(watch));
        Ok(Self {
            skew,
            handle,
            wires,
            errands,
            inputs,
            driver,
            jobs,
            applier,
            checkpoints,
            checkpointer: Some(Checkpointer::new(assembly.checkpointer)),
            paused: now,
            changes,
            watches: Some(watches),
            history,
            watch_limits,
            committed: Vec::new(),
            _corruption: corruption,
        })
    }

    /// From here on this thread asks for the time by this member's clock.
    pub fn keep_time(&self) {
        keep_time(Some(self.skew));
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// When a part wants its next turn, if it ever does unasked. Both times are the world's.
    pub fn wakes_at(&self, part: Part, now: Instant) -> Option<Instant> {
        let due = |shown| Some(self.skew.in_world(shown));
        let at_once = |is_asked: bool| is_asked.then_some(now);
        match part {
            Part::Driver => {
                let driver = self.driver.as_ref()?;
                at_once(!self.inputs.is_empty()).or(due(driver.due()))
            }
            Part::Log => at_once(self.errands.log_is_asked()),
            Part::Applier => {
                let applier = self.applier.as_ref()?;
                at_once(!self.jobs.is_empty()).or(due(applier.due()))
            }
            Part::Checkpointer => match self.checkpointer.as_ref()?.wants() {
                Wants::Job => at_once(!self.checkpoints.is_empty()),
                Wants::JobIfAny => Some(now),
                Wants::Pause => due(self.paused + checkpointer::SPACE_POLL),
            },
            Part::Watches => {
                let watches = self.watches.as_ref()?;
                at_once(!self.changes.is_empty()).or(Some(now + watches.patience()))
            }
            Part::History => at_once(self.history.is_asked()),
        }
    }

    /// Lets a part take a turn.
    pub fn turn(&mut self, part: Part) -> Result<(), Fault> {
        self.keep_time();
        let now = clock::now();
        match part {
            Part::Driver => {
                let Some(driver) = &mut self.driver else { return Ok(()) };
                let first = self.inputs.try_recv().ok();
                if driver.turn(first, now)?.is_stop() {
                    self.driver = None;
                }
            }
            Part::Log => self.errands.log_turn()?,
            Part::Applier => self.applier_turn(now)?,
            Part::Checkpointer => {
                let Some(checkpointer) = &mut self.checkpointer else { return Ok(()) };
                let job = match checkpointer.wants() {
                    Wants::Job | Wants::JobIfAny => self.checkpoints.try_recv().ok(),
                    Wants::Pause => None,
                };
                self.paused = now;
                if checkpointer.turn(job)?.is_stop() {
                    self.checkpointer = None;
                }
            }
            Part::Watches => {
                let Some(watches) = &mut self.watches else { return Ok(()) };
                if watches.turn(self.changes.try_recv().ok())?.is_stop() {
                    self.watches = None;
                }
            }
            Part::History => {
                self.history.turn_if_asked()?;
            }
        }
        Ok(())
    }

    fn applier_turn(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(applier) = &mut self.applier else { return Ok(()) };
        let job = self.jobs.try_recv().ok();
        if let Some(applier::Job::Apply(entries)) = &job {
            self.committed.extend(entries.iter().map(|committed| committed.entry.clone()));
        }
        if applier.turn(job, now)?.is_stop() {
            self.applier = None;
            // As `Node::stop` does once the applier has ended.
            let _ = self.wires.checkpointer.send(checkpointer::Job::Stop);
            let _ = self.wires.driver.send(driver::Input::Stop);
            let _ = self.wires.watches.send(watches::Input::Stop);
        }
        Ok(())
    }

    /// Asks the member to stop, as `Node::stop` does; it has when all parts have.
    pub fn stop(&mut self) {
        self.handle.shared.progress.stopping.store(true, Ordering::Release);
        let _ = self.wires.duties.send(());
        let _ = self.wires.applier.send(applier::Job::Stop);
    }

    pub fn has_stopped(&self) -> bool {
        self.driver.is_none() && self.checkpointer.is_none() && self.watches.is_none()
    }

    /// Errands begun since the last call, to be polled until they are done.
    pub fn take_errands(&mut self) -> Vec<Errand> {
        self.errands.take()
    }

    /// What was given to the applier since the last call.
    pub fn take_committed(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.committed)
    }

    /// What raft knows; `None` once the driver has stopped.
    pub fn status(&self) -> Option<Status> {
        self.driver.as_ref().map(Driver::status)
    }

    /// Whether a state has been received and is being installed.
    pub fn is_installing(&self) -> bool {
        self.driver.as_ref().is_some_and(Driver::is_installing)
    }

    /// What this member knows of the others' logs; nothing unless it leads.
    pub fn followers(&self) -> Vec<crate::raft::Progress> {
        self.driver.as_ref().map(Driver::followers).unwrap_or_default()
    }

    /// How much waits in it; nothing once it stops.
    pub fn load(&self) -> Load {
        let (Some(driver), Some(applier), Some(watches)) =
            (&self.driver, &self.applier, &self.watches)
        else {
            return Load::default();
        };
        let ((expected, postponed), watches) = (applier.load(), watches.counts());
        let (watch_streams, watch_queued) = (watches.streams, watches.queued);
        Load { expected, postponed, watch_streams, watch_queued, ..driver.load() }
    }

    /// What bounds its watch streams.
    pub fn watch_limits(&self) -> &watch::Limits {
        &self.watch_limits
    }

    /// A watch stream of its own.
    pub fn watch(&self) -> Watching {
        Watching::open(&self.handle, &self.watch_limits)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.errands.clear();
    }
}

/// Bounds that a simulated client reaches.
fn tightened(limits: watch::Limits) -> watch::Limits {
    watch::Limits {
        stream_responses: 4,
        page_revisions: 3,
        scan_rows: 40,
        recent_revisions: 6,
        fragment_bytes: 240,
        ..limits
    }
}

/// The newest state of a member, as it goes to whoever asks for all of it.
pub async fn hand_out(node: Handle) -> Result<Outgoing, Error> {
    let offered = node.shared.sending.offer()?;
    loop {
        match offered.try_recv() {
            Ok(state) => return Ok(state),
            Err(TryRecvError::Disconnected) => return Err(Error::Stopped),
            Err(TryRecvError::Empty) => tokio::time::sleep(HAND_OUT_POLL).await,
        }
    }
}

/// Makes a damaged state again from the file of another member's, as a real start does.
pub fn remake(config: &Config, ground: &Ground, damage: &Damage) -> Result<(), BootError> {
    let layout = Layout::new(&config.data_dir(), config.wal_dir.as_deref());
    let options = wal::Options { segment_bytes: ground.segment_bytes, prefill: false };
    let place = boot::place(config, &layout, &ground.disk);
    let place = Place { cache_bytes: ground.cache_bytes, ..place };
    rebuild::remake(&place, &layout, options, damage)
}

fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), BootError> {
    let created = disk.create_dir(dir);
    created.map_err(|source| BootError::Directory { path: dir.to_owned(), source })
}

thread_local! {
    static SIMULATING: Cell<bool> = const { Cell::new(false) };
}

/// A fault that would have ended a process, as the payload of a panic.
#[derive(Clone, Debug)]
pub struct Died {
    pub why: String,
    /// Whether it means that the member must not come back under its id.
    pub forgot: bool,
    /// Whether it means that the next start must read all of the state.
    pub suspects: bool,
}

impl Died {
    /// Of a fault.
    pub fn of(fault: &Fault) -> Self {
        let suspects = match fault {
            Fault::Corrupt { path, .. } => path.iter().any(|part| part == "state"),
            Fault::Row { .. } | Fault::Engine { .. } => true,
            Fault::Io { .. } | Fault::Forgotten(_) | Fault::Broken(_) => false,
        };
        let forgot = matches!(fault, Fault::Forgotten(_));
        Self { why: fault.to_string(), forgot, suspects }
    }
}

/// From here on a fatal fault on this thread ends in a panic, with [`Died`] in it.
pub fn simulate() {
    SIMULATING.set(true);
    keep_time(None);
}

/// Ends a simulated process, and returns to a real one.
pub(super) fn die(fault: &Fault) {
    if SIMULATING.get() {
        let died: Box<dyn Any + Send> = Box::new(Died::of(fault));
        std::panic::resume_unwind(died);
    }
}
