//! What a member is told once, at the start: resolved, checked, in the units the code uses.
//!
//! ```text
//! arguments ─▶ gather ─▶ Values ─▶ resolve ─▶ Config ─▶ check ─▶ Start
//! ETCD_*   ─────┘  ▲       ▲                                      (and remarks for the log)
//!                table     └── or, instead of both, the configuration file
//! ```
//!
//! Flags and `ETCD_*` environment, or a file, become a [`Config`]; nothing reads them later. A
//! program that embeds a member fills a [`Config`] itself. Names, defaults and error texts are
//! etcd's.
//!
//! - One [`table`] has every flag. What it has is taken, remarked on, or refused by name; what it
//!   has not is refused too. Nothing an operator writes is dropped in silence.
//! - Nothing here opens a file or a socket; only [`Config::verify_founding`] and [`resolve_url`]
//!   may ask DNS.
//! - The first thing that is wrong is the one reported: one line, exit code 1, or 2 with the usage
//!   when the command line cannot be read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::{limits, logging};

mod certificates;
mod checks;
mod duration;
mod fields;
mod file;
mod flag;
mod fuzz;
mod gates;
mod gather;
pub mod help;
mod initial_cluster;
mod logs;
mod notice;
mod number;
mod refusal;
mod resolve;
mod retention;
mod table;
pub mod tool;
mod url;
mod values;

#[cfg(test)]
mod tests;

pub use certificates::{PeerTls, Tls, TlsVersions};
pub use duration::DurationError;
pub use flag::ValueError;
pub use fuzz::{fuzz_file, fuzz_flags};
pub use gates::GateError;
pub use initial_cluster::{FoundingError, resolve as resolve_url};
pub use notice::Notice;
pub use refusal::Refusal;
pub use url::{Scheme, Url, UrlError, print_list};

/// What a command line asks for.
#[derive(Debug)]
pub enum Intent {
    Help,
    Version,
    Start(Box<Start>),
}

/// Everything needed to start a member.
#[derive(Debug)]
pub struct Start {
    pub config: Config,
    pub logging: logging::Options,
    /// To be logged once there is a log.
    pub notices: Vec<Notice>,
}

/// What a configuration is read from.
pub struct Outside<'a> {
    /// Without the program's name.
    pub arguments: &'a [String],
    pub variables: &'a [(String, String)],
    /// The address this host has towards others, asked for only if it is needed.
    pub default_host: &'a dyn Fn() -> Option<IpAddr>,
    /// Reads the configuration file, if one is named.
    pub read_file: &'a dyn Fn(&str) -> io::Result<String>,
}

/// Reads a command line and its environment.
pub fn read(outside: &Outside<'_>) -> Result<Intent, Refusal> {
    let mut values = match gather::command_line(outside.arguments)? {
        gather::Asked::Help => return Ok(Intent::Help),
        gather::Asked::Version => return Ok(Intent::Version),
        gather::Asked::Run(values) => values,
    };
    let mut notices = Vec::new();
    match gather::file(&values, outside.variables) {
        Some(path) => {
            let text =
                (outside.read_file)(&path).map_err(|error| Refusal::no_file(&path, &error))?;
            values = file::read(&text, &mut notices)?;
            notices.push(Notice::File(path));
        }
        None => gather::environment(&mut values, outside.variables, &mut notices)?,
    }
    gather::modernize(&mut values, &mut notices);
    gather::settle(&values, &mut notices)?;
    let logging = logs::options(&values, &mut notices)?;
    let config = resolve::config(&values, outside.default_host, &mut notices)?;
    config.check()?;
    if values.text("data-dir").is_empty() {
        notices.push(Notice::DefaultDataDir(config.data_dir().display().to_string()));
    }
    Ok(Intent::Start(Box::new(Start { config, logging, notices })))
}

/// Everything a member can be told. `Config::default()` is what etcd does without flags.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    /// Where all state lives; empty means `<name>.etcd` in the working directory.
    pub data_dir: PathBuf,
    /// A separate directory for the write-ahead log.
    pub wal_dir: Option<PathBuf>,
    pub listen_client_urls: Vec<Url>,
    pub advertise_client_urls: Vec<String>,
    /// Extra addresses that serve HTTP alone (health, metrics); client URLs then serve gRPC alone.
    pub listen_client_http_urls: Vec<Url>,
    /// Addresses for `/metrics` and the health paths alone.
    pub listen_metrics_urls: Vec<Url>,
    pub listen_peer_urls: Vec<Url>,
    pub initial_advertise_peer_urls: Vec<String>,
    /// Founding members: (name, peer URL), a member with several URLs appears several times.
    pub initial_cluster: Vec<(String, String)>,
    /// Where to find the founding members, if they are not said.
    pub discovery: Option<Discovery>,
    pub initial_cluster_state: ClusterState,
    pub initial_cluster_token: String,
    /// Make this member a cluster of its own, with the data it has: the others are lost.
    pub force_new_cluster: bool,
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    /// Stand for election soon after a start if a majority is connected and nobody leads.
    pub initial_election_tick_advance: bool,
    /// Applied entries between raft log compactions.
    pub snapshot_count: u64,
    /// Entries kept behind a compaction for followers that lag.
    pub snapshot_catchup_entries: u64,
    /// Refuse changes of membership that cost quorum.
    pub strict_reconfig_check: bool,
    pub pre_vote: bool,
    pub max_learners: usize,
    /// Have this member replaced if its log or vote is lost, and replace others that ask for it.
    pub auto_replace: bool,
    /// Compare this member's rows with the others' before clients are served.
    pub initial_corrupt_check: bool,
    /// Tell gRPC's health service that this member does not serve while it is defragmented.
    pub stop_serving_on_defrag: bool,
    /// How often the leader compares the hashes that compactions left; `None` is never.
    pub compact_hash_check_time: Option<Duration>,
    /// How often the leader compares all rows of all members; `None` is never.
    pub corrupt_check_time: Option<Duration>,
    /// Bytes of live rows before NOSPACE; 0 is etcd's default of 2 GiB, negative is no limit.
    pub quota_backend_bytes: i64,
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    pub max_concurrent_streams: u32,
    pub auto_compaction: AutoCompaction,
    /// Rows a compaction removes before it lets others work.
    pub compaction_batch_limit: usize,
    pub compaction_sleep_interval: Duration,
    pub watch_progress_notify_interval: Duration,
    /// How long a connection may be silent before the server pings it; zero is never.
    pub grpc_keepalive_interval: Duration,
    pub grpc_keepalive_timeout: Duration,
    pub client_tls: Option<Tls>,
    /// What members show each other, and whom they let in.
    pub peer_tls: Option<PeerTls>,
    /// Serve the JSON gateway beside gRPC.
    pub enable_grpc_gateway: bool,
    /// Web pages that browsers may let read answers, by their origin; `*` is all of them.
    pub cors: Vec<String>,
    /// `--metrics=extensive`: per-method latency histograms too.
    pub metrics_extensive: bool,
    pub storage_engine: StorageEngine,
    /// Does not wait for the disk: what was acknowledged may be lost with the power.
    pub unsafe_no_fsync: bool,
    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,
    /// Threads that serve connections, each with its own runtime; 0 is one per core.
    pub worker_threads: usize,
}

pub use crate::storage::state::Kind as StorageEngine;

/// Whether this member founds its cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    New,
    Existing,
}

/// A domain whose SRV records list the founding members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    pub domain: String,
    /// What follows `_etcd-server` after a dash, to tell clusters of one domain apart.
    pub service_name: String,
    /// Whom to ask; empty is whom this machine asks.
    pub servers: Vec<SocketAddr>,
}

/// When old revisions are compacted without anybody asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    Off,
    /// Keep this much time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(i64),
}

impl Default for Config {
    fn default() -> Self {
        let peer_url = "http://localhost:2380".to_owned();
        Self {
            name: "default".to_owned(),
            data_dir: PathBuf::new(),
            wal_dir: None,
            listen_client_urls: vec![Url::http("localhost:2379")],
            advertise_client_urls: vec!["http://localhost:2379".to_owned()],
            listen_client_http_urls: Vec::new(),
            listen_metrics_urls: Vec::new(),
            listen_peer_urls: vec![Url::http("localhost:2380")],
            initial_advertise_peer_urls: vec![peer_url.clone()],
            initial_cluster: vec![("default".to_owned(), peer_url)],
            discovery: None,
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: "etcd-cluster".to_owned(),
            force_new_cluster: false,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            initial_election_tick_advance: true,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            strict_reconfig_check: true,
            pre_vote: true,
            max_learners: 1,
            auto_replace: false,
            initial_corrupt_check: false,
            stop_serving_on_defrag: false,
            compact_hash_check_time: Some(Duration::from_secs(60)),
            corrupt_check_time: None,
            quota_backend_bytes: 0,
            max_txn_ops: limits::TXN_OPS_MAX,
            max_request_bytes: limits::REQUEST_BYTES_MAX,
            max_concurrent_streams: u32::MAX,
            auto_compaction: AutoCompaction::Off,
            compaction_batch_limit: 1000,
            compaction_sleep_interval: Duration::from_millis(10),
            watch_progress_notify_interval: Duration::from_secs(600),
            grpc_keepalive_interval: Duration::from_secs(7200),
            grpc_keepalive_timeout: Duration::from_secs(20),
            client_tls: None,
            peer_tls: None,
            enable_grpc_gateway: true,
            cors: vec!["*".to_owned()],
            metrics_extensive: false,
            storage_engine: StorageEngine::Redb,
            unsafe_no_fsync: false,
            warning_apply_duration: Duration::from_millis(100),
            warning_unary_request_duration: Duration::from_millis(300),
            worker_threads: 0,
        }
    }
}

impl Config {
    /// Where state lives, with etcd's default applied.
    pub fn data_dir(&self) -> PathBuf {
        if self.data_dir.as_os_str().is_empty() {
            PathBuf::from(format!("{}.etcd", self.name))
        } else {
            self.data_dir.clone()
        }
    }

    /// The quota with etcd's default applied; `None` is no limit.
    pub fn quota_bytes(&self) -> Option<i64> {
        match self.quota_backend_bytes {
            0 => Some(limits::QUOTA_BYTES),
            bytes if bytes < 0 => None,
            bytes => Some(bytes),
        }
    }

    /// How long a proposal or a read barrier may take: 5 s and two election timeouts.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The shortest lease: one and a half election timeouts, in whole seconds, rounded up.
    pub fn min_lease_ttl(&self) -> i64 {
        let millis = self.election_timeout.as_millis() as i64 * 3 / 2;
        (millis + 999) / 1000
    }
}
