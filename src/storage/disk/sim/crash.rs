//! How a simulated crash treats what was not synced, and the seed that decides.

/// What a power cut does to the changes still on their way. A number is the seed of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// None arrived.
    LoseAll,
    /// All arrived: the process died, the machine did not.
    KeepAll,
    /// Each change of data, length or name arrived or not, whatever the others did.
    Subset(u64),
    /// As `Subset`, but writes are cut at sectors and each sector decides for itself.
    Torn(u64),
    /// As `Torn`, and a sector that was being written may hold noise.
    Garbage(u64),
}

impl Crash {
    pub(super) fn seed(self) -> Seed {
        match self {
            Crash::LoseAll | Crash::KeepAll => Seed::new(0),
            Crash::Subset(seed) | Crash::Torn(seed) | Crash::Garbage(seed) => Seed::new(seed),
        }
    }

    /// Whether one change arrived as a whole.
    pub(super) fn keeps(self, seed: &mut Seed) -> bool {
        match self {
            Crash::LoseAll => false,
            Crash::KeepAll => true,
            Crash::Subset(_) | Crash::Torn(_) | Crash::Garbage(_) => seed.coin(),
        }
    }
}

/// A small generator (splitmix64): the same numbers on every machine, for ever.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it has no end to signal")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is not zero. The bias is of no consequence here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True half of the time.
    pub fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// Noise.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }

    /// A generator of its own for a side activity.
    pub(super) fn branch(&mut self) -> Seed {
        Seed(self.next())
    }
}
