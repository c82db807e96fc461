//! The data directory: what is where, and whose it is.
//!
//! ```text
//! <data-dir>/            0700
//!   lock                 held by the process that uses the directory
//!   format               one line: this is kvorum's, which format, which engine
//!   member/wal/          the write-ahead log (or --wal-dir)
//!   member/state/        the state engine's files
//!   quarantine/          what was left of members that were replaced; in --wal-dir, too
//! ```
//!
//! - `format` says *founding* until everything in it exists; a crash before that leaves nothing
//!   anybody was promised, and the next start begins again.
//! - A directory that is not kvorum's is refused, never adopted: an etcd directory above all.

use std::path::{Path, PathBuf};

use super::disk::Disk;
use crate::error::Fault;

/// The format this version writes and the newest it reads.
const FORMAT: u32 = 1;
const FORMAT_BYTES_MAX: u64 = 4096;

/// Where the remains of members are that were replaced here: nobody's business but the operator's.
pub const QUARANTINE: &str = "quarantine";

/// What a data directory turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing is there, or a founding that did not finish.
    Nothing,
    /// A member that ran before, on this engine.
    Member { engine: String },
}

/// Why a directory is not used. The text tells the operator what to do.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error(
        "{} is an etcd data directory. kvorum does not read it in place: take a snapshot with \
         `etcdctl snapshot save FILE` from the running etcd, restore it with \
         `kvorum snapshot restore FILE --data-dir NEW`, and start kvorum on NEW", .0.display()
    )]
    Etcd(PathBuf),
    #[error(
        "{} holds files that are not kvorum's (found {found}); give --data-dir an empty or absent \
         directory", dir.display()
    )]
    Foreign { dir: PathBuf, found: String },
    #[error(
        "{} was written in format {format}, newer than this kvorum reads (format {FORMAT}); start \
         it with the kvorum that wrote it or a later one", path.display()
    )]
    Newer { path: PathBuf, format: u32 },
    #[error(
        "{} is damaged: {text:?} is not a format line; if the rest of the directory is whole, \
         restore this file from a backup, else restore a snapshot", path.display()
    )]
    Damaged { path: PathBuf, text: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The paths of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub data_dir: PathBuf,
    pub member: PathBuf,
    pub wal: PathBuf,
    pub state: PathBuf,
}

impl Layout {
    /// The paths under `data_dir`, with the log elsewhere if `wal_dir` says so.
    pub fn new(data_dir: &Path, wal_dir: Option<&Path>) -> Self {
        let member = data_dir.join("member");
        Self {
            data_dir: data_dir.to_owned(),
            wal: wal_dir.map_or_else(|| member.join("wal"), Path::to_owned),
            state: member.join("state"),
            member,
        }
    }

    fn format_path(&self) -> PathBuf {
        self.data_dir.join("format")
    }

    /// Looks at the directory without changing it.
    pub fn inspect(&self, disk: &dyn Disk) -> Result<Found, LayoutError> {
        let path = self.format_path();
        if !disk.exists(&path) {
            return self.inspect_unmarked(disk);
        }
        let io = |error| Fault::io("read", &path, error);
        let file = disk.open(&path).map_err(io)?;
        let len = file.len().map_err(io)?.min(FORMAT_BYTES_MAX);
        let mut bytes = vec![0; len as usize];
        file.read_at(0, &mut bytes).map_err(io)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let damaged = || LayoutError::Damaged { path: path.clone(), text: text.clone() };
        let mut words = text.split_whitespace();
        if words.next() != Some("kvorum") || words.next() != Some("format") {
            return Err(damaged());
        }
        let format: u32 = words.next().and_then(|word| word.parse().ok()).ok_or_else(damaged)?;
        if format > FORMAT {
            return Err(LayoutError::Newer { path, format });
        }
        match (words.next(), words.next()) {
            (Some("founding"), None) => Ok(Found::Nothing),
            (Some("engine"), Some(engine)) => Ok(Found::Member { engine: engine.to_owned() }),
            _ => Err(damaged()),
        }
    }

    fn inspect_unmarked(&self, disk: &dyn Disk) -> Result<Found, LayoutError> {
        if !disk.exists(&self.data_dir) {
            return Ok(Found::Nothing);
        }
        if disk.exists(&self.member.join("snap")) || disk.exists(&self.member.join("wal")) {
            return Err(LayoutError::Etcd(self.data_dir.clone()));
        }
        let names =
            disk.list(&self.data_dir).map_err(|error| Fault::io("list", &self.data_dir, error))?;
        let ours = ["lock", "lost+found", "format.tmp", QUARANTINE];
        let foreign = names.iter().find(|name| !ours.iter().any(|our| name.as_os_str() == *our));
        match foreign {
            None => Ok(Found::Nothing),
            Some(name) => Err(LayoutError::Foreign {
                dir: self.data_dir.clone(),
                found: name.display().to_string(),
            }),
        }
    }

    /// Marks the directory as being founded and makes its directories, empty.
    pub fn begin(&self, disk: &dyn Disk) -> Result<(), LayoutError> {
        let list = |dir: &Path| {
            let names = disk.list(dir).map_err(|error| Fault::io("list", dir, error))?;
            Ok::<_, Fault>(names.into_iter().filter(|name| name != QUARANTINE).collect::<Vec<_>>())
        };
        if !disk.exists(&self.format_path())
            && disk.exists(&self.wal)
            && let Some(name) = list(&self.wal)?.first()
        {
            let found = name.display().to_string();
            return Err(LayoutError::Foreign { dir: self.wal.clone(), found });
        }
        self.mark(disk, "founding")?;
        for dir in [&self.member, &self.wal, &self.state] {
            disk.create_dir(dir).map_err(|error| Fault::io("create", dir, error))?;
        }
        for name in list(&self.wal)? {
            let path = self.wal.join(name);
            disk.remove(&path).map_err(|error| Fault::io("remove", &path, error))?;
        }
        for dir in [&self.member, &self.data_dir] {
            disk.sync_dir(dir).map_err(|error| Fault::io("sync", dir, error))?;
        }
        Ok(())
    }

    /// Marks the directory as a member's: from here on a restart takes it as it is.
    pub fn complete(&self, disk: &dyn Disk, engine: &str) -> Result<(), Fault> {
        self.mark(disk, &format!("engine {engine}"))
    }

    fn mark(&self, disk: &dyn Disk, state: &str) -> Result<(), Fault> {
        let path = self.format_path();
        let temporary = self.data_dir.join("format.tmp");
        if disk.exists(&temporary) {
            disk.remove(&temporary).map_err(|error| Fault::io("remove", &temporary, error))?;
        }
        let line = format!("kvorum format {FORMAT} {state}\n");
        let write = || {
            let file = disk.create(&temporary)?;
            file.write_at(0, line.as_bytes())?;
            file.sync()?;
            disk.rename(&temporary, &path)?;
            disk.sync_dir(&self.data_dir)
        };
        write().map_err(|error| Fault::io("write", &path, error))
    }
}
