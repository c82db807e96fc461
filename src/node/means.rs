//! What a node takes from the machine it runs on, in one place, so that a simulation can be that
//! machine.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::applier;
use super::errands::Errands;
use crate::config::Config;
use crate::limits;
use crate::storage::disk::{Disk, RealDisk, Unsynced};
use crate::storage::wal;

/// Disk, chance, the time of day, and who does errands. Monotonic time is [`super::clock`]'s.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub disk: Arc<dyn Disk>,
    pub log: wal::Options,
    pub room: applier::Room,
    /// What the engine may keep of what it has read.
    pub cache_bytes: usize,
    /// Differs from start to start and from member to member.
    pub seed: u64,
    /// Milliseconds of 1970 at the start.
    pub wall_ms: u64,
    pub errands: Errands,
}

impl Means {
    /// Those of this machine.
    pub fn of_this_machine(config: &Config) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            disk: disk(config),
            log: wal::Options::default(),
            room: applier::Room::default(),
            cache_bytes: limits::ENGINE_CACHE_BYTES,
            seed: rand::random(),
            wall_ms: wall.as_millis() as u64,
            errands: Errands::default(),
        }
    }
}

/// The disk a member lives on, which is waited for unless somebody said not to.
fn disk(config: &Config) -> Arc<dyn Disk> {
    if !config.unsafe_no_fsync {
        return Arc::new(RealDisk);
    }
    tracing::warn!(
        "--unsafe-no-fsync: nothing waits for the disk. Writes that were acknowledged are lost if \
         this machine loses power or crashes, and its data may not be readable afterwards"
    );
    Arc::new(Unsynced(Arc::new(RealDisk)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_waits_for_its_disk_unless_told_not_to() {
        let waits =
            |unsafe_no_fsync| disk(&Config { unsafe_no_fsync, ..Config::default() }).syncs();
        assert!(waits(false));
        assert!(!waits(true));
    }
}
