//! What a seed's world is like: how large, how fast, how faulty. Drawn before anything happens.

use kvorum::storage::disk::sim::Seed;

/// The world of a seed.
#[derive(Clone, Debug)]
pub struct Profile {
    pub members: usize,
    pub clients: usize,
    pub keys: u64,
    /// Whether most of what clients ask is what apiservers ask.
    pub kubernetes: bool,
    /// Whether some values are long.
    pub long_values: bool,
    /// For how long faults come, in microseconds.
    pub chaos_us: u64,
    /// The pause of a client between two requests, on average.
    pub think_us: u64,
    /// The shortest way through the network.
    pub latency_us: u64,
    /// What may be added to that.
    pub jitter_us: u64,
    /// Of a thousand messages.
    pub lost: u64,
    pub doubled: u64,
    /// Whether messages stay in order between two members.
    pub in_order: bool,
    /// The longest that a part waits for its turn, mostly.
    pub turn_us: u64,
    /// The pause between two faults, on average; 0 is no faults.
    pub fault_us: u64,
    /// Which faults there are, by weight; see [`Fault`].
    pub weights: [u64; Fault::ALL.len()],
    pub catchup_entries: u64,
    pub segment_bytes: u64,
    pub compaction_batch: usize,
    pub heartbeat_ms: u64,
    /// How many times as long the checkpointer waits.
    pub slowness: u64,
    /// What an engine keeps of what it has read.
    pub cache_bytes: usize,
    /// Beyond which writes raise NOSPACE; 0 is etcd's.
    pub quota_bytes: i64,
    /// Whether watch streams soon have no room.
    pub tight_watches: bool,
    /// By how many millionths the clocks of members run too fast or too slow, at the most.
    pub skew_ppm: u64,
}

/// A checkpoint that takes less is quick.
const CHECKPOINT_QUICK_US: u64 = 50_000;

/// What may go wrong, or is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process dies; its machine goes on.
    Kill,
    /// A machine loses power.
    PowerCut,
    /// All machines lose power at once.
    Blackout,
    /// A process stops in order.
    Stop,
    /// A process stands still.
    Pause,
    /// A member is cut off, one way or both.
    Isolate,
    /// Members hear only their neighbours.
    Ring,
    /// A disk answers an operation with an error.
    DiskError,
    /// A machine stops in the middle of a disk operation.
    PowerCutAtOperation,
    /// A disk has no space left for a while.
    FullDisk,
    /// A member is removed, and another takes its seat.
    Replace,
    Transfer,
    Defragment,
    /// Bits turn on a disk.
    Rot,
    /// A member is added, and none removed.
    Grow,
}

impl Fault {
    pub const ALL: [Fault; 15] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::Blackout,
        Fault::Stop,
        Fault::Pause,
        Fault::Isolate,
        Fault::Ring,
        Fault::DiskError,
        Fault::PowerCutAtOperation,
        Fault::FullDisk,
        Fault::Replace,
        Fault::Transfer,
        Fault::Defragment,
        Fault::Rot,
        Fault::Grow,
    ];
}

impl Fault {
    /// Its name in the journal and in the counts.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::PowerCut => "power cut",
            Fault::Blackout => "blackout",
            Fault::Stop => "stop",
            Fault::Pause => "pause",
            Fault::Isolate => "isolate",
            Fault::Ring => "ring",
            Fault::DiskError => "disk error",
            Fault::PowerCutAtOperation => "cut within",
            Fault::FullDisk => "full disk",
            Fault::Replace => "replace",
            Fault::Transfer => "transfer",
            Fault::Defragment => "defragment",
            Fault::Rot => "bits turn",
            Fault::Grow => "grow",
        }
    }
}

/// One of them.
fn one_of<T: Copy>(seed: &mut Seed, all: &[T]) -> T {
    all[seed.below(all.len() as u64) as usize]
}

impl Profile {
    /// Whether nothing is applied before the checkpoint of what was applied last. Where each takes
    /// long, nobody keeps up, and what is behind would outlast all bounds of the calm.
    pub fn tight_memory(&self) -> bool {
        self.tight_watches
            && self.cache_bytes == 0
            && self.turn_us * self.slowness < CHECKPOINT_QUICK_US
    }

    pub fn draw(seed: &mut Seed) -> Self {
        let calm = seed.below(10) == 0;
        Self {
            members: one_of(seed, &[1, 3, 3, 3, 3, 3, 5]),
            clients: 3 + seed.below(6) as usize,
            keys: 4 + seed.below(20),
            kubernetes: seed.below(4) == 0,
            long_values: seed.below(8) == 0,
            chaos_us: 56_000_000,
            think_us: one_of(seed, &[100_000, 150_000, 250_000]),
            latency_us: one_of(seed, &[100, 500, 2_000, 10_000]),
            jitter_us: one_of(seed, &[100, 2_000, 20_000, 60_000]),
            lost: one_of(seed, &[0, 0, 5, 50, 150]),
            doubled: one_of(seed, &[0, 0, 20, 100]),
            in_order: seed.coin(),
            turn_us: one_of(seed, &[50, 50, 500, 3_000]),
            fault_us: if calm { 0 } else { one_of(seed, &[1_500_000, 4_000_000, 9_000_000]) },
            // A swarm: most worlds have some faults only, and more of those.
            weights: Fault::ALL.map(|_| one_of(seed, &[0, 0, 1, 3])),
            catchup_entries: one_of(seed, &[3, 20, 100, 5000]),
            segment_bytes: one_of(seed, &[8, 16, 64]) * 1024,
            compaction_batch: one_of(seed, &[1, 5, 1000]),
            heartbeat_ms: one_of(seed, &[50, 100, 100]),
            slowness: one_of(seed, &[1, 1, 30, 100]),
            cache_bytes: one_of(seed, &[0, 1 << 24]),
            quota_bytes: one_of(seed, &[0, 0, 6_000, 9_000, 13_000]),
            tight_watches: seed.coin(),
            skew_ppm: one_of(seed, &[0, 0, 200, 50_000]),
        }
    }
}
