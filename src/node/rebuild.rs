//! A state that is damaged, made again from another member's.
//!
//! What a member agreed to is in its log, and that is whole: it keeps its id, its vote and its
//! promises. Only what they come to is lost, and any other member has that. So a member that finds
//! its state damaged asks for theirs before it does anything else.
//!
//! ```text
//! damage ─▶ noted, process ends ─▶ start reads everything ─▶ a peer's state ─▶ takes ours' place
//! ```
//!
//! - The damaged files are put aside, never removed: somebody may want to know what happened.
//! - An engine may answer damage with a panic. Whatever ends the process while a state is opened
//!   condemns it; while it is in use, the next start reads all of it first.
//! - The log comes first: if the state is ahead of it, the log says so before the state counts.
//! - A state from before the log's beginning is of no use, and another member is asked.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::boot::{self, BootError, DirectoryLock};
use super::{forgotten, records, snapshots};
use crate::config::Config;
use crate::error::Fault;
use crate::machine::Applied;
use crate::raft::{HardState, Persist, Snapshot, SnapshotMetadata};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::layout::Layout;
use crate::storage::state::{CONDEMNED, Place, SUSPECT};
use crate::storage::wal::{self, Wal};

/// The states of this process's members, to be noted when one of them turns out to be damaged.
/// Whether one is just being opened is its value.
static STATES: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());
/// How often a state is made again at the most: a member that needs it more often has another
/// trouble, which somebody should look at.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What a damaged state must be replaced by.
#[derive(Debug)]
pub struct Damage {
    pub cluster_id: u64,
    pub member_id: u64,
    /// Where the file of another member's state goes.
    pub file: PathBuf,
    pub fault: Fault,
}

/// Whether a fault says that a state is damaged, as far as its directory tells.
pub(super) fn is_damage(fault: &Fault, state: &Path) -> bool {
    match fault {
        Fault::Corrupt { path, .. } => path.starts_with(state) || path.is_relative(),
        Fault::Row { .. } | Fault::Engine { .. } => true,
        Fault::Io { path, source, .. } => path.starts_with(state) && is_of_the_file(source.kind()),
        Fault::Forgotten(_) | Fault::Broken(_) => false,
    }
}

/// Whether an error of the disk is one of what is on it: a rebuild that a crash cut short, or an
/// engine that damage sent to where its file does not reach.
fn is_of_the_file(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData)
}

/// Remembers that a state is being opened: should that end the process, it is damaged.
pub(super) fn opens(state: &Path) {
    STATES.lock().insert(state.to_owned(), true);
}

/// Remembers that a state is in use: should that end the process, it may be damaged.
pub(super) fn opened(state: &Path) {
    STATES.lock().insert(state.to_owned(), false);
}

/// Notes with the states of this process that a fault concerns what the next start must do.
pub(super) fn note(fault: &Fault) {
    if let Fault::Forgotten(why) = fault {
        let states = STATES.lock();
        // Which of several members in one process it was is not known; its next start finds out.
        if let (Some((state, _)), 1) = (states.first_key_value(), states.len()) {
            forgotten::note(state.parent().unwrap_or(state), why);
        }
        return;
    }
    for (state, opens) in STATES.lock().iter().filter(|(state, _)| is_damage(fault, state)) {
        mark(state, *opens);
    }
}

/// The same for a panic, which an engine that meets damage may answer with. For panic hooks.
pub fn note_panic() {
    // A hook must not wait for a lock that its own thread may hold.
    let Some(states) = STATES.try_lock() else { return };
    states.iter().for_each(|(state, opens)| mark(state, *opens));
}

fn mark(state: &Path, opens: bool) {
    let name = if opens { CONDEMNED } else { SUSPECT };
    // The process ends anyway; without the note the next start finds out for itself.
    let _ = std::fs::File::create(state.join(name));
}

/// Makes a member's state from the file that another member gave it.
pub fn rebuild(config: &Config, damage: &Damage) -> Result<(), BootError> {
    let layout = Layout::new(&config.data_dir(), config.wal_dir.as_deref());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let _lock = DirectoryLock::take(&layout.data_dir)?;
    not_again(&layout)?;
    put_aside(&layout)?;
    remake(&boot::place(config, &layout, &disk), &layout, wal::Options::default(), damage)
}

/// Makes the state where there is none any more.
pub(super) fn remake(
    place: &Place,
    layout: &Layout,
    options: wal::Options,
    damage: &Damage,
) -> Result<(), BootError> {
    let disk = &place.disk;
    let (generation, engine) = place.begin()?;
    let file = disk.open(&damage.file);
    let file = file.map_err(|error| Fault::io("open", &damage.file, error))?;
    let applied = snapshots::fill(place, &file, &*engine)
        .map_err(|error| BootError::Unusable(error.to_string()))?;
    let identity = wal::Identity { cluster_id: damage.cluster_id, member_id: damage.member_id };
    let (mut wal, recovered) = Wal::open(disk.clone(), &layout.wal, Some(identity), options)?;
    fit(&mut wal, &recovered, applied)?;
    drop(engine);
    place.make_current(generation)?;
    let _ = disk.remove(&damage.file);
    tracing::info!(index = applied.index, "the state was made again from another member's");
    Ok(())
}

/// Refuses what was done a short while ago.
fn not_again(layout: &Layout) -> Result<(), BootError> {
    let names = std::fs::read_dir(&layout.member);
    let names = names.map_err(|error| Fault::io("list", &layout.member, error))?;
    for entry in names.flatten() {
        let is_aside = entry.file_name().to_string_lossy().starts_with("damaged-");
        let age = entry.metadata().and_then(|data| data.modified()).ok();
        let age = age.and_then(|at| SystemTime::now().duration_since(at).ok());
        if is_aside && layout.state.exists() && age.is_some_and(|age| age < INTERVAL) {
            return Err(BootError::Unusable(format!(
                "one was taken less than an hour ago, and {} is damaged again. Check this \
                 machine's disk and memory; remove {} to have it tried once more",
                layout.state.display(),
                entry.path().display()
            )));
        }
    }
    Ok(())
}

/// Moves the damaged files out of the way.
fn put_aside(layout: &Layout) -> Result<(), Fault> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = layout.member.join(format!("damaged-{now}"));
    match std::fs::rename(&layout.state, &aside) {
        Ok(()) => {
            tracing::warn!(to = %aside.display(), "the damaged state was put aside");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io("rename", &layout.state, error)),
    }
}

/// Has the log agree with a state that it did not lead to.
fn fit(wal: &mut Wal, log: &wal::Recovered, applied: Applied) -> Result<(), BootError> {
    let before = records::beginning(log);
    if applied.index < before.index {
        return Err(BootError::Unusable(format!(
            "it is as of entry {}, but the log begins after entry {}",
            applied.index, before.index
        )));
    }
    let entry = log.entries.iter().find(|entry| entry.index == applied.index);
    let is_ours = entry.is_some_and(|entry| entry.term == applied.term);
    if is_ours || entry.is_none() && applied.index == before.index {
        return Ok(());
    }
    // What the log has from there on was never agreed on, or is not there: the state stands for it.
    let wal::HardState { term, vote, commit } = log.hard_state;
    let metadata =
        SnapshotMetadata { index: applied.index, term: applied.term, ..Default::default() };
    let newer = applied.term > term;
    let hard_state = HardState {
        term: term.max(applied.term),
        vote: if newer { 0 } else { vote },
        commit: commit.max(applied.index),
    };
    let snapshot = Some(Snapshot { metadata: Some(metadata), ..Snapshot::default() });
    records::append(wal, Persist { number: 0, snapshot, entries: Vec::new(), hard_state })?;
    wal.sync()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::raft::Boundary;
    use crate::storage::disk::SimDisk;
    use crate::storage::disk::sim::{Crash, Seed};
    use crate::storage::engine::{Table, Write};
    use crate::storage::state::Kind;

    fn place(disk: &SimDisk) -> Place {
        let (disk, dir) = (Arc::new(disk.clone()), PathBuf::from("/state"));
        Place { disk, dir, kind: Kind::Redb, cache_bytes: 1 << 20 }
    }

    /// A head that names pages the file does not have makes redb read past its end (simulated seed
    /// 3100100106 of 2026-11-22: the member said so at every start, and was never healed).
    #[test]
    fn whatever_is_wrong_with_the_head_of_a_state_is_damage() {
        let disk = SimDisk::new(1);
        let engine = place(&disk).create().expect("an empty state");
        engine.commit(&[]).expect("a commit");
        let file = Path::new("/state/1/redb");
        drop(engine);
        disk.crash(Crash::KeepAll);
        let mut found = 0;
        for (offset, bit) in (0..320).flat_map(|offset| (0..8).map(move |bit| (offset, 1 << bit))) {
            let damaged = disk.fork();
            damaged.flip(file, offset, bit).expect("a file");
            let place = place(&damaged);
            let open = AssertUnwindSafe(|| place.open(0).map(drop));
            // A panic condemns the state, too.
            if let Ok(Err(fault)) = catch_unwind(open) {
                assert!(is_damage(&fault, &place.dir), "byte {offset}, bit {bit:x}: {fault}");
                found += 1;
            }
        }
        assert!(found > 100, "{found}");
    }

    /// A log of which a segment is released begins with an entry whose predecessor's term nobody
    /// knows: the state must hold that entry (simulated seed 4100000240 of 2026-11-22: one as of
    /// the entry before was taken, and ended the member at every start).
    #[test]
    fn a_state_from_before_the_first_entry_is_of_no_use() {
        let (disk, dir) = (SimDisk::new(1), Path::new("/wal"));
        let seam: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = wal::Options { segment_bytes: 8192, prefill: false };
        let identity = wal::Identity { cluster_id: 1, member_id: 2 };
        let mut log = Wal::create(seam.clone(), dir, identity, options).expect("a log");
        let kind = wal::EntryKind::Normal;
        for index in 1..=40 {
            let entries = [wal::Entry { term: 3, index, kind, data: vec![7; 1000].into() }];
            let hard_state = Some(wal::HardState { term: 3, vote: 2, commit: index });
            log.append(&wal::Batch { snapshot: None, entries: &entries, hard_state })
                .expect("room");
        }
        records::mark(&mut log, Applied { index: 39, term: 3 }).expect("room");
        log.sync().expect("a sync");
        assert!(log.release(20).expect("a release") > 0);
        drop(log);
        let open = || Wal::open(seam.clone(), dir, Some(identity), options).expect("a whole log");
        let (mut log, found) = open();
        let first = found.entries[0].index;
        assert!((2..=21).contains(&first), "{first}");
        let before = Applied { index: first - 1, term: 3 };
        let refused = fit(&mut log, &found, before).expect_err("nothing leads on from there");
        assert!(matches!(&refused, BootError::Unusable(why) if why.contains("begins after")));
        for index in [first, first + 1, 40] {
            fit(&mut log, &found, Applied { index, term: 3 }).expect("the log leads on from there");
        }
        drop(log);
        assert_eq!(open().1, found, "nothing was written");
    }

    /// Damage can make an engine show what it held before (simulated seed 4100001825 of 2026-11-22:
    /// a state without a row, which no start could do anything with).
    #[test]
    fn a_state_that_has_gone_back_is_damage() {
        let layout = Layout::new(Path::new("/data"), None);
        let place = Place { dir: layout.state.clone(), ..place(&SimDisk::new(1)) };
        let engine = place.create().expect("an empty state");
        boot::reach(&layout, &*engine, Boundary::default()).expect("a whole log leads on from it");
        let fault = boot::reach(&layout, &*engine, Boundary { index: 7, term: 2 });
        let fault = fault.expect_err("the log begins later");
        assert!(is_damage(&fault, &layout.state), "{fault}");
        assert!(fault.to_string().contains("ends at entry 0, but"), "{fault}");
    }

    /// A state made again need not have come to where the log's newest mark is, which had whatever
    /// was beside it looked at (simulated seed 5000000506 of 2026-11-22: a power cut brought the
    /// damaged state back).
    #[test]
    fn what_is_made_again_stays_alone() {
        let disk = SimDisk::new(1);
        let old = place(&disk).create().expect("an empty state");
        let (next, engine) = place(&disk).create_next().expect("another");
        place(&disk).make_current(next).expect("it counts");
        drop((old, engine));
        drop(place(&disk).begin().expect("an empty state"));
        for seed in 0..32 {
            let cut = disk.fork();
            cut.crash(Crash::Subset(seed));
            assert!(!cut.exists(Path::new("/state/2/redb")), "crash {seed}");
        }
    }

    /// Damage to what redb notes of its free pages is seen by nobody who only reads (simulated seed
    /// 4200000778 of 2026-11-22: each process read everything, and ended with its first commit).
    #[test]
    fn a_state_that_was_made_new_can_be_written_to() {
        let disk = SimDisk::new(1);
        let engine = place(&disk).create().expect("an empty state");
        let row = |number: u32| Write::Put {
            table: Table::Key,
            key: number.to_be_bytes().to_vec().into(),
            value: vec![number as u8; 900].into(),
        };
        for number in 0..60 {
            engine.commit(&[row(number)]).expect("room");
        }
        std::mem::forget(engine);
        disk.crash(Crash::KeepAll);
        let file = Path::new("/state/1/redb");
        let length = disk.open(file).and_then(|file| file.len()).expect("a file");
        let (mut seed, mut renewed) = (Seed::new(7), 0);
        for _ in 0..1500 {
            let damaged = disk.fork();
            for _ in 0..20 {
                let (offset, bit) = (seed.below(length), 1 << seed.below(8));
                damaged.flip(file, offset, bit).expect("a file");
            }
            let place = place(&damaged);
            let renew = AssertUnwindSafe(|| place.renew(place.open(0)?));
            let Ok(Ok(engine)) = catch_unwind(renew) else { continue };
            renewed += 1;
            engine.commit(&[row(60)]).expect("nothing is wrong any more");
            let view = engine.view().expect("a view");
            for number in 0..=60_u32 {
                let value = view.get(Table::Key, &number.to_be_bytes()).expect("it is whole");
                assert_eq!(value, Some(vec![number as u8; 900].into()), "row {number}");
            }
        }
        assert!(renewed > 100, "{renewed}");
    }
}
