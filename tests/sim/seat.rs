//! A member's seat: its machine, which outlives its processes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kvorum::config::Config;
use kvorum::members::{self, Members};
use kvorum::node::{Connect, Joined};
use kvorum::raft::Entry;
use kvorum::sim::{Ground, Member, Part};
use kvorum::storage::disk::sim::{Crash, SimDisk};
use kvorum::storage::layout::Layout;
use kvorum::storage::wal::{Options, Wal};
use parking_lot::Mutex;

use super::clients::Services;
use super::network::{Link, Wire};
use super::profile::Profile;
use super::tasks::Life;

/// A machine with a disk, and the process on it, if it runs.
pub struct Seat {
    pub number: usize,
    pub id: u64,
    config: Config,
    segment_bytes: u64,
    pub disk: SimDisk,
    pub process: Option<Process>,
    lives: u64,
    /// Whether the disk was told to fail, so that the process may die of it.
    pub harmed: bool,
    /// Whether the disk has been full since the process began, or is.
    pub is_full: bool,
    /// Whether the member that was here has been removed, and none has taken its place.
    pub is_empty: bool,
    /// How the member that is here was told of the others, if it joined them.
    joined: Option<Joined>,
    /// Until when the process stands still, in microseconds.
    pub paused_until_us: u64,
}

/// One run of the member.
pub struct Process {
    pub life: Life,
    pub member: Member,
    pub services: Services,
    /// When each part takes its next turn, of those that were asked to.
    pub turns: [Option<u64>; Part::ALL.len()],
    pub stopping: bool,
}

fn url(number: usize) -> String {
    format!("http://m{number}:2380")
}

impl Seat {
    pub fn new(number: usize, profile: &Profile, disk_seed: u64) -> Self {
        let named = |number: usize| (format!("m{number}"), url(number));
        let heartbeat_interval = Duration::from_millis(profile.heartbeat_ms);
        let config = Config {
            name: format!("m{number}"),
            data_dir: format!("/m{number}").into(),
            initial_advertise_peer_urls: vec![url(number)],
            initial_cluster: (0..profile.members).map(named).collect(),
            heartbeat_interval,
            election_timeout: 10 * heartbeat_interval,
            snapshot_catchup_entries: profile.catchup_entries,
            strict_reconfig_check: false,
            compact_hash_check_time: Some(Duration::from_secs(5)),
            compaction_batch_limit: profile.compaction_batch,
            watch_progress_notify_interval: Duration::from_secs(2),
            metrics_extensive: false,
            ..Config::default()
        };
        let id = members::member_id(&[url(number)], &config.initial_cluster_token);
        Self {
            number,
            id,
            config,
            segment_bytes: profile.segment_bytes,
            disk: SimDisk::new(disk_seed),
            process: None,
            lives: 0,
            harmed: false,
            is_full: false,
            is_empty: false,
            joined: None,
            paused_until_us: 0,
        }
    }

    /// Starts a process; what hindered it, otherwise.
    pub fn start(
        &mut self,
        wire: &Arc<Mutex<Wire>>,
        seed: u64,
        wall_ms: u64,
    ) -> Result<(), String> {
        assert!(self.process.is_none(), "one process at a time");
        self.lives += 1;
        let ground = Ground {
            disk: Arc::new(self.disk.clone()),
            seed,
            wall_ms,
            segment_bytes: self.segment_bytes,
        };
        let (own, wire) = (self.id, wire.clone());
        let connect: Connect = Box::new(move |_| Ok(Arc::new(Link { own, wire })));
        let (config, joined) = (&self.config, self.joined.clone());
        let started =
            catch_unwind(AssertUnwindSafe(|| Member::start(config, ground, joined, connect)));
        let member = match started {
            Ok(Ok(member)) => member,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(panic) => return Err(words(&*panic)),
        };
        let node = member.handle();
        let services = Services {
            kv: kvorum::sim::kv(node.clone()),
            lease: kvorum::sim::lease(node.clone()),
            node,
        };
        let life = Life { seat: self.number, number: self.lives };
        let turns = [None; Part::ALL.len()];
        self.process = Some(Process { life, member, services, turns, stopping: false });
        Ok(())
    }

    /// Lets a part of the process take its turn; what killed the process, if something did.
    pub fn turn(&mut self, part: Part) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let member = &mut process.member;
        match catch_unwind(AssertUnwindSafe(|| member.turn(part))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(panic) => Err(words(&*panic)),
        }
    }

    /// Ends the process; what it had not synced meets its fate.
    pub fn die(&mut self, how: Crash) {
        // While it is dropped it must not reach the disk any more.
        self.disk.stop_at(self.disk.operations());
        let process = self.process.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(process)));
        self.disk.crash(how);
        self.harmed = false;
        self.paused_until_us = 0;
    }

    /// Makes room for another member: a new machine with an empty disk.
    pub fn vacate(&mut self, disk_seed: u64) {
        self.die(Crash::LoseAll);
        self.disk = SimDisk::new(disk_seed);
        self.is_empty = true;
    }

    /// Lets a member in that was added under `id`.
    pub fn occupy(&mut self, cluster_id: u64, members: Members) {
        self.joined = Some(Joined { cluster_id, member_id: self.id, members });
        self.is_empty = false;
    }

    /// What the disk may hold from here on; all it likes if nothing is said.
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.disk.set_capacity(bytes);
        self.is_full |= bytes.is_some();
    }

    /// Whether a process may die here without being to blame.
    pub fn excuses(&self) -> bool {
        self.harmed || self.is_full
    }

    /// Whether an entry would be there if the machine lost power now.
    pub fn holds_durably(&self, entry: &Entry) -> Result<bool, String> {
        let disk = self.disk.fork();
        disk.crash(Crash::LoseAll);
        let layout = Layout::new(&self.config.data_dir(), None);
        let options = Options { segment_bytes: self.segment_bytes, prefill: false };
        let opened = Wal::open(Arc::new(disk), &layout.wal, None, options);
        let (_, log) = opened.map_err(|fault| format!("m{}: {fault}", self.number))?;
        let has = |known: &kvorum::storage::wal::Entry| {
            (known.index, known.term) == (entry.index, entry.term)
        };
        Ok(log.snapshot.index >= entry.index || log.entries.iter().any(has))
    }
}

/// What a panic said.
pub fn words(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(died) = panic.downcast_ref::<kvorum::sim::Died>() {
        return died.0.clone();
    }
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
    format!("panic: {text}")
}
