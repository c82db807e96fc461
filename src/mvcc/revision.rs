//! A revision, and the key it is stored under.
//!
//! A main revision counts write transactions; a sub revision counts the changes inside one. The row
//! of a change is stored under `main` and `sub` in big-endian with `_` between them, so that the
//! engine's key order is the order of history. A deletion's key ends in `t` and its row is a
//! *tombstone*.
//!
//! Revisions are 63-bit on the wire and the sub part never outgrows 30 bits here: a transaction
//! would have to delete a billion keys.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Fault;
use crate::storage::engine::Table;

/// The length of a row key without the tombstone mark.
const KEY_BYTES: usize = 17;
/// The longest row key.
pub(crate) const KEY_BYTES_MAX: usize = KEY_BYTES + 1;
const SEPARATOR: u8 = b'_';
const TOMBSTONE: u8 = b't';

/// The place of one change in history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    pub main: i64,
    pub sub: u32,
}

impl Revision {
    /// The largest sub revision a transaction may reach.
    pub const SUB_MAX: u32 = (1 << 30) - 1;

    /// A revision from its parts.
    pub const fn new(main: i64, sub: u32) -> Self {
        Self { main, sub }
    }

    /// The key a row at this revision is stored under.
    pub fn row_key(self, tombstone: bool) -> Bytes {
        let mut key = BytesMut::with_capacity(KEY_BYTES_MAX);
        self.put_row_key(tombstone, &mut key);
        key.freeze()
    }

    /// Appends the key a row at this revision is stored under.
    pub fn put_row_key(self, tombstone: bool, into: &mut impl BufMut) {
        into.put_i64(self.main);
        into.put_u8(SEPARATOR);
        into.put_u64(u64::from(self.sub));
        if tombstone {
            into.put_u8(TOMBSTONE);
        }
    }

    /// The revision a row key names and whether it is a tombstone's.
    pub fn from_row_key(key: &[u8]) -> Result<(Self, bool), Fault> {
        Self::parse(key).ok_or_else(|| Fault::row(Table::Key.name(), key, "not a revision"))
    }

    fn parse(key: &[u8]) -> Option<(Self, bool)> {
        let (main, rest) = key.split_first_chunk()?;
        let (separator, rest) = rest.split_first()?;
        let (sub, mark) = rest.split_first_chunk()?;
        let main = i64::from_be_bytes(*main);
        let sub = u32::try_from(u64::from_be_bytes(*sub)).ok()?;
        if main < 0 || *separator != SEPARATOR || sub > Self::SUB_MAX {
            return None;
        }
        match mark {
            [] => Some((Self { main, sub }, false)),
            [TOMBSTONE] => Some((Self { main, sub }, true)),
            _ => None,
        }
    }
}
