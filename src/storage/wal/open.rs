//! The two ways to a log that can be appended to: creating one, and reading one back.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::error::Fault;
use crate::marks::{Mark, mark};
use crate::storage::disk::Disk;

use super::format::Link;
use super::segment::{self, Header, Name};
use super::spare::{self, Order, Spare};
use super::standing::Standing;
use super::walk::{Visited, Walk};
use super::{Entry, HardState, Identity, Options, SPARES_MAX, Snapshot, Wal};

/// What a log held when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub identity: Identity,
    pub hard_state: HardState,
    /// The newest snapshot mark; index zero if there was none.
    pub snapshot: Snapshot,
    /// Consecutive, up to the end of the log. They begin at or before `snapshot.index + 1`: what a
    /// released segment still held is there too. Their data are slices of what was read.
    pub entries: Vec<Entry>,
    /// Whether a write that never became durable was cut off, as far as its remains tell.
    pub torn: bool,
}

impl Wal {
    /// Begins a log. Remains of an earlier attempt are cleared away.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: Identity,
        options: Options,
    ) -> Result<Self, Fault> {
        let options = options.rounded();
        disk.create_dir(dir).map_err(|err| Fault::io("create", dir, err))?;
        if Self::exists(&*disk, dir)? {
            return Err(Fault::Broken(format!("a log is created over one in {}", dir.display())));
        }
        let names = disk.list(dir).map_err(|err| Fault::io("list", dir, err))?;
        for name in names.iter().filter(|name| spare::number(name).is_some()) {
            let path = dir.join(name);
            disk.remove(&path).map_err(|err| Fault::io("remove", &path, err))?;
        }
        let order = Order {
            disk: disk.clone(),
            path: dir.join(spare::name(0)),
            bytes: options.segment_bytes,
            prefill: options.prefill,
        };
        let standing = Standing::default();
        let name = Name { sequence: 1, first_index: 1 };
        let header = Header { identity, first_index: 1, previous_end: 0, standing };
        let link = Link { sequence: 1, ..Link::default() };
        let (segment, tail) = segment::begin(&*disk, dir, order.fulfil()?, name, &header, link)?;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            options,
            identity,
            standing,
            released_max: 0,
            segments: VecDeque::from([segment]),
            tail,
            spares: Vec::new(),
            spare_next: 1,
            buffer: Vec::new(),
            failed: false,
        })
    }

    /// Reads a log back. What it returns is durable, whatever happens next.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        expected: Option<Identity>,
        options: Options,
    ) -> Result<(Self, Recovered), Fault> {
        let options = options.rounded();
        let names = disk.list(dir).map_err(|err| Fault::io("list", dir, err))?;
        // A name may be seen that a failed or missing sync never made durable.
        disk.sync_dir(dir).map_err(|err| Fault::io("sync", dir, err))?;
        let mut walk = Walk::new(&*disk, dir, expected);
        walk.run(names.iter().filter_map(|name| Name::parse(name)).collect(), true)?;
        let Walk { identity, standing, entries, visited, tail, torn, leftovers, .. } = walk;
        for path in leftovers {
            disk.remove(&path).map_err(|err| Fault::io("remove", &path, err))?;
        }
        let mut spares = Vec::new();
        let numbers = names.iter().filter_map(|name| spare::number(name));
        for number in numbers.clone() {
            let path = dir.join(spare::name(number));
            if let Some(spare) = Spare::adopt(&*disk, path, options.segment_bytes)? {
                match spares.len() < SPARES_MAX {
                    true => spares.push(spare),
                    false => spare.discard(&*disk)?,
                }
            }
        }
        let mut tail = tail.expect("a log that was read has a tail");
        tail.link.epoch = tail.link.epoch.wrapping_add(1);
        let wal = Self {
            dir: dir.to_owned(),
            options,
            identity,
            standing,
            released_max: standing.snapshot.index,
            segments: visited.into_iter().map(|Visited { segment, .. }| segment).collect(),
            tail,
            spares,
            spare_next: numbers.max().map_or(0, |last| last.wrapping_add(1)),
            buffer: Vec::new(),
            failed: false,
            disk,
        };
        if torn {
            mark(Mark::TornTailCut);
        }
        let Standing { hard_state, snapshot, .. } = standing;
        Ok((wal, Recovered { identity, hard_state, snapshot, entries, torn }))
    }
}
