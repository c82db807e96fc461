//! Runs the golden scripts in `testscripts/`: what a log does, and what it says when it does not.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use goldenscript::Context;

use crate::error::Fault;
use crate::storage::disk::SimDisk;
use crate::storage::disk::sim::Crash;
use crate::storage::wal::*;

use super::model::{self, OPTIONS};

/// The words of the scripts. Segments are named by their sequence.
#[derive(goldenscript::Command)]
enum Command {
    /// Begins a log of a member: `create member=1`
    Create {
        #[arg(key)]
        member: Option<u64>,
    },
    /// Reads the log back: `open member=1`
    Open {
        #[arg(key)]
        member: Option<u64>,
    },
    /// Writes entries, from an index on, padded to a size: `append a b at=3 term=2 bytes=4000`
    Append {
        values: Vec<String>,
        #[arg(key)]
        at: Option<u64>,
        #[arg(key)]
        term: Option<u64>,
        #[arg(key)]
        bytes: Option<usize>,
    },
    /// Writes a hard state: `state term=2 vote=1 commit=5`
    State {
        #[arg(key)]
        term: u64,
        #[arg(key)]
        vote: u64,
        #[arg(key)]
        commit: u64,
    },
    /// Writes a mark of our own snapshot: `taken 5 term=1`
    Taken {
        index: u64,
        #[arg(key)]
        term: u64,
    },
    /// Writes a mark of the leader's snapshot: `installed 50 term=3`
    Installed {
        index: u64,
        #[arg(key)]
        term: u64,
    },
    /// Makes it durable.
    Sync,
    /// Makes a reserve if there is none.
    Reserve,
    /// Lets segments go: `release 5`
    Release(u64),
    /// Says what fits without asking for space.
    Room,
    /// Limits the disk to what it uses and so many bytes: `space 8192`
    Space(u64),
    /// Stops the machine during an operation from now: `stop 3`
    Stop(u64),
    /// Cuts the power: `crash lose`, or keep, or a seed for torn writes
    Crash(String),
    /// Lists the directory.
    Files,
    /// Turns a bit: `flip 1 offset=600`
    Flip {
        segment: u64,
        #[arg(key)]
        offset: u64,
    },
    /// Removes a segment behind the log's back: `remove 2`
    Remove(u64),
    /// Rewrites the format version of a segment, checksums and all: `version 1 number=2`
    Version {
        segment: u64,
        #[arg(key)]
        number: u64,
    },
    /// Reads everything and changes nothing.
    Verify,
}

struct Script {
    disk: SimDisk,
    dir: PathBuf,
    wal: Option<Wal>,
}

type Output = Result<String, Box<dyn Error>>;

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Output {
        let none = Batch::default();
        match command {
            Command::Create { member } => self.create(*member),
            Command::Open { member } => self.open(*member),
            Command::Append { values, at, term, bytes } => {
                self.entries(values, *at, term.unwrap_or(1), bytes.unwrap_or(0))
            }
            Command::State { term, vote, commit } => {
                let hard_state = HardState { term: *term, vote: *vote, commit: *commit };
                self.append(&Batch { hard_state: Some(hard_state), ..none })
            }
            Command::Taken { index, term } => {
                let mark = Mark::Taken(Snapshot { index: *index, term: *term });
                self.append(&Batch { snapshot: Some(mark), ..none })
            }
            Command::Installed { index, term } => {
                let mark = Mark::Installed(Snapshot { index: *index, term: *term });
                self.append(&Batch { snapshot: Some(mark), ..none })
            }
            Command::Sync => Ok(self.wal()?.sync().map(|()| String::new())?),
            Command::Reserve => Ok(self.wal()?.reserve().map(|()| String::new())?),
            Command::Release(index) => Ok(format!("{} segments\n", self.wal()?.release(*index)?)),
            Command::Room => Ok(format!("{:?}\n", self.wal()?.room())),
            Command::Space(bytes) => self.set(|disk| disk.set_capacity(Some(disk.used() + bytes))),
            Command::Stop(count) => self.set(|disk| disk.stop_at(disk.operations() + count)),
            Command::Crash(fate) => self.crash(fate),
            Command::Files => self.files(),
            Command::Flip { segment, offset } => {
                let path = self.path(*segment)?;
                Ok(self.disk.flip(&path, *offset, 1).map(|()| String::new())?)
            }
            Command::Remove(segment) => {
                let path = self.path(*segment)?;
                Ok(self.disk.remove(&path).map(|()| String::new())?)
            }
            Command::Version { segment, number } => self.version(*segment, *number),
            Command::Verify => self.verify(),
        }
    }
}

impl Script {
    fn new() -> Self {
        Self { disk: SimDisk::new(0), dir: model::dir(), wal: None }
    }

    fn wal(&mut self) -> Result<&mut Wal, Box<dyn Error>> {
        Ok(self.wal.as_mut().ok_or("the log is not open")?)
    }

    fn set(&self, body: impl FnOnce(&SimDisk)) -> Output {
        body(&self.disk);
        Ok(String::new())
    }

    fn create(&mut self, member: Option<u64>) -> Output {
        let identity = Identity { cluster_id: 0xc1, member_id: member.unwrap_or(1) };
        let disk = Arc::new(self.disk.clone());
        self.wal = Some(Wal::create(disk, &self.dir, identity, OPTIONS)?);
        self.files()
    }

    fn open(&mut self, member: Option<u64>) -> Output {
        let expected = member.map(|member_id| Identity { cluster_id: 0xc1, member_id });
        let disk = Arc::new(self.disk.clone());
        let (wal, recovered) = Wal::open(disk, &self.dir, expected, OPTIONS)?;
        self.wal = Some(wal);
        let Recovered { hard_state, snapshot, entries, torn, .. } = recovered;
        let mut out = format!("{hard_state:?}\n{snapshot:?}\n");
        for Entry { term, index, data, .. } in &entries {
            let text = String::from_utf8_lossy(data);
            writeln!(out, "{index}@{term} {}", text.trim_end_matches('.'))?;
        }
        if torn {
            writeln!(out, "an unfinished write was cut off")?;
        }
        Ok(out)
    }

    fn entries(&mut self, values: &[String], at: Option<u64>, term: u64, bytes: usize) -> Output {
        let at = at.unwrap_or(self.wal()?.last_index() + 1);
        let entries: Vec<Entry> = values
            .iter()
            .zip(at..)
            .map(|(value, index)| {
                let data = Bytes::from(format!("{value:.<bytes$}"));
                Entry { term, index, kind: EntryKind::Normal, data }
            })
            .collect();
        self.append(&Batch { entries: &entries, ..Batch::default() })
    }

    fn append(&mut self, batch: &Batch<'_>) -> Output {
        let Appended { bytes, switched } = self.wal()?.append(batch)?;
        Ok(format!("{bytes} bytes{}\n", if switched { " in a new segment" } else { "" }))
    }

    fn crash(&mut self, fate: &str) -> Output {
        self.wal = None;
        self.disk.crash(match fate {
            "lose" => Crash::LoseAll,
            "keep" => Crash::KeepAll,
            seed => Crash::Torn(seed.parse()?),
        });
        Ok(String::new())
    }

    fn files(&self) -> Output {
        let names = self.disk.list(&self.dir)?;
        Ok(names.iter().map(|name| format!("{}\n", name.display())).collect())
    }

    fn path(&self, sequence: u64) -> Result<PathBuf, Box<dyn Error>> {
        let names = self.disk.list(&self.dir)?;
        let mut names = names.iter().filter_map(|name| Name::parse(name));
        let name = names.find(|name| name.sequence == sequence).ok_or("no such segment")?;
        Ok(name.path(&self.dir))
    }

    fn version(&mut self, sequence: u64, number: u64) -> Output {
        let path = self.path(sequence)?;
        let file = self.disk.open(&path)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_at(0, &mut bytes)?;
        let length = u32::from_le_bytes(bytes[12..16].try_into()?) as usize;
        let header = &mut bytes[..format::HEAD_BYTES + length];
        header[format::HEAD_BYTES + 8] = u8::try_from(number)?;
        format::seal(header, Link { sequence, ..Link::default() }, 0);
        self.disk.plant(&path, &bytes);
        Ok(String::new())
    }

    fn verify(&self) -> Output {
        let report = verify(&self.disk, &self.dir)?;
        let mut out = String::new();
        for segment in &report.segments {
            let SegmentReport { path, batches, entries, bytes_used, bytes, .. } = segment;
            let name = path.file_name().ok_or("a segment has a name")?.display();
            writeln!(
                out,
                "{name} {bytes_used}/{bytes} bytes, {batches} batches, {entries} entries"
            )?;
        }
        let Report { first_index, last_index, hard_state, torn, leftovers, .. } = &report;
        writeln!(out, "entries {first_index} to {last_index}, {hard_state:?}")?;
        writeln!(out, "torn {torn}, {} leftovers", leftovers.len())?;
        if let Some(fault) = &report.damage {
            writeln!(out, "{fault}")?;
        }
        Ok(out)
    }
}

#[test]
fn scripts() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage/wal/testscripts");
    let mut paths: Vec<_> = fs::read_dir(scripts)
        .expect("the scripts are part of the source")
        .map(|entry| entry.expect("a readable directory").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 9, "scripts are missing");
    for path in paths {
        goldenscript::run(&mut Script::new(), &path)
            .unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    }
}

/// A fault that scripts cannot bring about: the log is asked for where none is.
#[test]
fn a_directory_without_a_log_is_told_apart() {
    let disk = SimDisk::new(0);
    assert!(!model::exists(&disk));
    disk.create_dir(&model::dir()).expect("the disk is well");
    assert!(!model::exists(&disk));
    let fault = model::open(&disk).map(drop).expect_err("there is no log");
    assert!(matches!(fault, Fault::Corrupt { .. }), "{fault}");
}
