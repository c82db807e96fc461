//! The subcommands: offline tools with etcdutl's flags, read by clap.
//!
//! etcdutl's lock timeout and memory-map size are taken and have nothing to act on: kvorum reads a
//! snapshot through a window and locks no file for it.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use super::url::{Url, print_list};
use super::{Config, FoundingError, StorageEngine, initial_cluster};

/// What a subcommand asks for.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Tool {
    /// Show the versions.
    Version,
    /// Look at a snapshot, or restore one.
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Check a data directory that no process uses.
    Verify(Verify),
}

/// Tools on a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Snapshot {
    /// Show what is in a snapshot.
    Status(Status),
    /// Make a member's data directory from a snapshot.
    Restore(Box<Restore>),
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Status {
    /// The snapshot.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "simple")]
    pub write_out: WriteOut,
    #[command(flatten)]
    idle: Idle,
}

/// The forms of etcdutl that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteOut {
    Simple,
    Json,
    Table,
    Fields,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Restore {
    /// The snapshot.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The directory to make; NAME.etcd if it is not given.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Another directory for the write-ahead log alone.
    #[arg(long, value_name = "DIR")]
    pub wal_dir: Option<PathBuf>,
    /// The member's name, for people.
    #[arg(long, default_value = "default")]
    pub name: String,
    /// The members of the new cluster as name=url pairs.
    #[arg(long, value_name = "PAIRS", default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// A word that keeps clusters with the same URLs apart.
    #[arg(long, value_name = "WORD", default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// Where the members of the new cluster are told to reach this one.
    #[arg(long, value_name = "URLS", default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,
    /// Take a file without a hash, which a copy of a data directory has not.
    #[arg(long)]
    pub skip_hash_check: bool,
    /// How far to raise the newest revision.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub bump_revision: u64,
    /// Compact everything up to the raised revision; goes with --bump-revision.
    #[arg(long)]
    pub mark_compacted: bool,
    /// What shall hold the state.
    #[arg(long, value_enum, default_value = "redb")]
    storage_engine: Engine,
    #[command(flatten)]
    idle: Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    Redb,
    Sled,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Verify {
    /// The data directory.
    #[arg(value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where its write-ahead log is, if it is elsewhere.
    #[arg(long, value_name = "DIR")]
    pub wal_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
struct Idle {
    /// Taken for etcdutl's sake; no file is locked.
    #[arg(long, value_name = "DURATION", hide = true)]
    timeout: Option<String>,
    /// Taken for etcdutl's sake; no file is mapped.
    #[arg(long, value_name = "BYTES", hide = true)]
    initial_memory_map_size: Option<u64>,
}

#[derive(Parser)]
#[command(name = "kvorum", about = "Tools beside the member: they work on files, offline.")]
struct CommandLine {
    #[command(subcommand)]
    tool: Tool,
}

/// A text instead of a tool: help that was asked for, or what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub text: String,
    /// Whether the text is what was asked for.
    pub is_help: bool,
}

/// Why a restore is not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Url(#[from] super::UrlError),
    #[error(transparent)]
    Founding(#[from] FoundingError),
}

/// Whether a first argument names a subcommand.
pub fn is_tool(word: &str) -> bool {
    word == "help" || CommandLine::command().find_subcommand(word).is_some()
}

/// Reads the arguments after the program's name.
pub fn parse(arguments: &[String]) -> Result<Tool, Usage> {
    let arguments = std::iter::once("kvorum").chain(arguments.iter().map(String::as_str));
    match CommandLine::try_parse_from(arguments) {
        Ok(line) => Ok(line.tool),
        Err(error) => Err(Usage { text: error.render().to_string(), is_help: !error.use_stderr() }),
    }
}

impl Restore {
    /// The member to be, as a configuration: name, directories, engine and founding members.
    pub fn config(&self) -> Result<Config, RestoreError> {
        let config = Config {
            name: self.name.clone(),
            data_dir: self.data_dir.clone().unwrap_or_default(),
            wal_dir: self.wal_dir.clone(),
            initial_advertise_peer_urls: print_list(&Url::parse_list(
                &self.initial_advertise_peer_urls,
            )?),
            initial_cluster: initial_cluster::parse(&self.initial_cluster)?,
            initial_cluster_token: self.initial_cluster_token.clone(),
            storage_engine: match self.storage_engine {
                Engine::Redb => StorageEngine::Redb,
                Engine::Sled => StorageEngine::Sled,
            },
            ..Config::default()
        };
        config.verify_founding()?;
        Ok(config)
    }
}
