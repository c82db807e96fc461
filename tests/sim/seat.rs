//! A member's seat: its machine, which outlives its processes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kvorum::config::Config;
use kvorum::members::{self, Members};
use kvorum::node::{BootError, Connect, Damage, Heard, Joined, Told};
use kvorum::raft::Flow;
use kvorum::sim::{Died, Ground, Member, Part, Skew};
use kvorum::storage::disk::sim::{Crash, SimDisk};
use kvorum::storage::layout::Layout;
use kvorum::storage::state::drop_dead;
use kvorum::storage::wal;
use parking_lot::Mutex;

use super::clients::Services;
use super::network::{Link, Wire};
use super::panics::words;
use super::profile::Profile;
use super::tasks::Life;

/// Why a process ended of itself.
#[derive(Clone, Debug)]
pub struct Death {
    pub why: String,
    /// Whether the member must not come back under its id.
    pub forgot: bool,
    /// Whether the next start reads all of the state, as it may be damaged.
    pub suspects: bool,
}

impl From<Died> for Death {
    fn from(died: Died) -> Self {
        let Died { why, forgot, suspects } = died;
        Self { why, forgot, suspects }
    }
}

/// Why a process did not come about.
pub enum Unstarted {
    Died {
        why: String,
        panicked: bool,
    },
    /// The member must not come back under its id.
    Forgotten(String),
    /// It needs another member's state.
    Damaged(Box<Damage>),
}

/// A machine with a disk, and the process on it, if it runs.
pub struct Seat {
    pub number: usize,
    pub id: u64,
    config: Config,
    segment_bytes: u64,
    tight_watches: bool,
    tight_memory: bool,
    cache_bytes: usize,
    /// How much faster than the world's its clock runs.
    skew_ppm: i64,
    pub disk: SimDisk,
    pub process: Option<Process>,
    lives: u64,
    /// Whether the disk was told to fail, so that the process may die of it.
    pub harmed: bool,
    /// Whether the disk has been full since the process began, or is.
    pub is_full: bool,
    /// Whether the member that was here has been removed, and none has taken its place.
    pub is_empty: bool,
    /// Whether what was damaged here is being made good; nothing starts meanwhile.
    pub heals: bool,
    /// What the member that was here has forgotten, as far as it noted that.
    pub forgot: Option<String>,
    /// Whether the newest start did not come to its end.
    pub failed_to_start: bool,
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
    /// When each part wants its next turn, as far as that is known.
    pub wakes: [Option<u64>; Part::ALL.len()],
    /// Whether something has happened to it since that was asked.
    pub is_touched: bool,
    /// When each part takes its next turn, of those that were asked to.
    pub turns: [Option<u64>; Part::ALL.len()],
    pub stopping: bool,
    /// How entries reached the others when it was last seen to lead.
    pub flows: BTreeMap<u64, Flow>,
}

/// The clock of a machine.
fn skew(profile: &Profile, chance: u64) -> i64 {
    let widest = profile.skew_ppm as i64;
    (chance >> 32) as i64 % (2 * widest + 1) - widest
}

pub fn url(number: usize) -> String {
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
            quota_backend_bytes: profile.quota_bytes,
            auto_replace: true,
            metrics_extensive: false,
            ..Config::default()
        };
        let id = members::member_id(&[url(number)], &config.initial_cluster_token);
        Self {
            number,
            id,
            config,
            segment_bytes: profile.segment_bytes,
            tight_watches: profile.tight_watches,
            tight_memory: profile.tight_memory(),
            cache_bytes: profile.cache_bytes,
            skew_ppm: skew(profile, disk_seed),
            disk: SimDisk::new(disk_seed),
            process: None,
            lives: 0,
            harmed: false,
            is_full: false,
            is_empty: false,
            heals: false,
            forgot: None,
            failed_to_start: false,
            joined: None,
            paused_until_us: 0,
        }
    }

    /// Starts a process that others have told what they `heard` of it; what hindered it, otherwise.
    pub fn start(
        &mut self,
        wire: &Arc<Mutex<Wire>>,
        seed: u64,
        wall_ms: u64,
        heard: Heard,
    ) -> Result<(), Unstarted> {
        assert!(self.process.is_none(), "one process at a time");
        if let Some(why) = &self.forgot {
            return Err(Unstarted::Forgotten(why.clone()));
        }
        self.lives += 1;
        let (own, wire) = (self.id, wire.clone());
        let connect: Connect = Box::new(move |_| Ok(Arc::new(Link { own, wire })));
        let told = Told { joined: self.joined.clone(), heard };
        let (config, ground) = (&self.config, self.ground(seed, wall_ms));
        let started =
            catch_unwind(AssertUnwindSafe(|| Member::start(config, ground, told, connect)));
        let member = match started {
            Ok(Ok(member)) => member,
            Ok(Err(BootError::Forgotten(why))) => return Err(Unstarted::Forgotten(why)),
            Ok(Err(BootError::Damaged(damage))) => return Err(Unstarted::Damaged(damage)),
            Ok(Err(error)) => {
                return Err(Unstarted::Died { why: error.to_string(), panicked: false });
            }
            Err(panic) => {
                return Err(Unstarted::Died { why: words(&*panic).why, panicked: true });
            }
        };
        self.failed_to_start = false;
        let node = member.handle();
        let services = Services {
            server: self.lives << 8 | self.number as u64,
            kv: kvorum::sim::kv(node.clone()),
            lease: kvorum::sim::lease(node.clone()),
            cluster: kvorum::sim::cluster(node.clone()),
            node,
        };
        let life = Life { seat: self.number, number: self.lives };
        let turns = [None; Part::ALL.len()];
        self.process = Some(Process {
            life,
            member,
            services,
            wakes: turns,
            is_touched: true,
            turns,
            stopping: false,
            flows: BTreeMap::new(),
        });
        Ok(())
    }

    fn ground(&self, seed: u64, wall_ms: u64) -> Ground {
        Ground {
            disk: Arc::new(self.disk.clone()),
            seed,
            wall_ms,
            segment_bytes: self.segment_bytes,
            tight_watches: self.tight_watches,
            tight_memory: self.tight_memory,
            cache_bytes: self.cache_bytes,
            skew: Skew { since: tokio::time::Instant::now().into_std(), ppm: self.skew_ppm },
        }
    }

    /// Makes the state again from another member's.
    pub fn remake(&self, damage: &Damage) -> Result<(), BootError> {
        kvorum::sim::remake(&self.config, &self.ground(0, 0), damage)
    }

    /// Something happens to the process: its parts may want their turns sooner.
    pub fn touch(&mut self) {
        if let Some(process) = &mut self.process {
            process.is_touched = true;
        }
    }

    /// Lets a part of the process take its turn; what killed the process, if something did.
    pub fn turn(&mut self, part: Part) -> Result<(), Death> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let member = &mut process.member;
        match catch_unwind(AssertUnwindSafe(|| member.turn(part))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(Died::of(&fault).into()),
            Err(panic) => Err(words(&*panic)),
        }
    }

    /// Ends the process; what it had not synced meets its fate.
    pub fn die(&mut self, how: Crash) {
        // While it is dropped it must not reach the disk any more.
        self.disk.stop_at(self.disk.operations());
        drop_dead(self.process.take());
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

    /// Whether an entry would be there if the machine lost power now.
    pub fn holds(&self, index: u64, term: u64) -> Result<bool, String> {
        let disk = self.disk.fork();
        disk.crash(Crash::LoseAll);
        let log = self.open_log(&disk)?;
        let has = |known: &wal::Entry| (known.index, known.term) == (index, term);
        Ok(log.snapshot.index >= index || log.entries.iter().any(has))
    }

    /// What is in the log on a disk.
    pub fn open_log(&self, disk: &SimDisk) -> Result<wal::Recovered, String> {
        let options = wal::Options { segment_bytes: self.segment_bytes, prefill: false };
        let opened = wal::Wal::open(Arc::new(disk.clone()), &self.layout().wal, None, options);
        opened.map(|(_, log)| log).map_err(|fault| format!("m{}: {fault}", self.number))
    }

    /// Where everything is.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.config.data_dir(), None)
    }
}
