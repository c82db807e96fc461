//! Keys and values: what they look like, and the randomness they are made of.
//!
//! Keys look like Kubernetes': a few namespaces, then a name that shares nothing with its
//! neighbours, so that no store profits from compressing 64 bytes that differ in the last digit.
//! Values are random bytes that follow from a seed: what was written can be told from the seed,
//! and nothing compresses.

use bytes::Bytes;

pub const KEY_BYTES: usize = 64;
/// Where all keys of the loader are.
pub const PREFIX: &str = "/registry/pods/";
/// The end of the range of all keys under `PREFIX`.
pub const PREFIX_END: &str = "/registry/pods0";
const NAMESPACES: u64 = 100;

/// A set of keys, in the order the store keeps them.
pub struct Keys(Vec<Bytes>);

impl Keys {
    /// The first `count` keys.
    pub fn new(count: u64) -> Self {
        let mut keys: Vec<Bytes> = (0..count).map(key).collect();
        keys.sort();
        Self(keys)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, index: usize) -> Bytes {
        self.0[index].clone()
    }
}

/// One of the keys there are.
pub fn key(number: u64) -> Bytes {
    let mut random = Random::new(number);
    let (high, low) = (random.next(), random.next());
    let namespace = number % NAMESPACES;
    let mut key = format!("{PREFIX}namespace-{namespace:04}/{high:016x}{low:016x}{high:016x}");
    key.truncate(KEY_BYTES);
    key.into()
}

/// The bytes that follow from a seed.
pub fn value(seed: u64, bytes: usize) -> Bytes {
    let mut random = Random::new(seed);
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend(random.next().to_le_bytes());
    }
    value.truncate(bytes);
    value.into()
}

/// Numbers that look random (splitmix64), the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
