//! How rows lie in the one sled tree: a head per row, and chunks of values too long for one.
//!
//! ```text
//! head    table ‖ key                                       value ‖ 0         ‖ seal
//!                                                           length(8) ‖ 1     ‖ seal
//! chunk   0x80|table ‖ key length(4) ‖ key ‖ number(4)      CHUNK_BYTES of it ‖ seal
//! ```
//!
//! Heads sort as their tables and keys do, and before all chunks. Numbers are big-endian.

use std::ops::RangeFrom;

use ::sled::{Batch, IVec};
use bytes::Bytes;

use super::Shared;
use crate::error::Fault;
use crate::storage::engine::Table;
use crate::storage::seal::{seal, unseal};

/// The longest value in one piece.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// Set in the first byte of a chunk's key.
const CHUNK: u8 = 0x80;
/// Ends a sealed head that holds the value.
const WHOLE: u8 = 0;
/// Ends a sealed head that holds the value's length.
const CHUNKED: u8 = 1;

pub fn head_key(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}

pub fn chunk_key(head: &[u8], number: u32) -> Vec<u8> {
    let (table, key) = head.split_first().expect("a head key starts with its table");
    let length = u32::try_from(key.len()).expect("a key is shorter than a request");
    [&[CHUNK | table], &length.to_be_bytes()[..], key, &number.to_be_bytes()].concat()
}

/// The keys of all chunks.
pub fn chunks() -> RangeFrom<[u8; 1]> {
    [CHUNK]..
}

/// The head key of the row a chunk belongs to, if `key` is a chunk's.
pub fn head_of_chunk(key: &[u8]) -> Option<Vec<u8>> {
    let (table, rest) = key.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (key, number) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    (table & CHUNK != 0 && number.len() == 4).then(|| [&[table & !CHUNK], key].concat())
}

/// Puts a row; returns into how many chunks it went.
pub fn put(batch: &mut Batch, table: Table, key: &[u8], value: &[u8]) -> u32 {
    let head = head_key(table, key);
    let mut sealed = Vec::new();
    if value.len() <= CHUNK_BYTES {
        seal(table, key, &[value, &[WHOLE]].concat(), &mut sealed);
        batch.insert(head, sealed);
        return 0;
    }
    let mut number = 0;
    for chunk in value.chunks(CHUNK_BYTES) {
        let key = chunk_key(&head, number);
        seal(table, &key, chunk, &mut sealed);
        batch.insert(key, &sealed[..]);
        number += 1;
    }
    seal(table, key, &[&(value.len() as u64).to_be_bytes()[..], &[CHUNKED]].concat(), &mut sealed);
    batch.insert(head, sealed);
    number
}

/// A row as read from the tree, not looked at yet.
///
/// Head and chunks are separate reads, and a commit may come between them. So a row is read first,
/// then [`Versions`](super::versions::Versions) are asked, and only what they do not know is
/// decoded.
pub struct Raw {
    head: Option<IVec>,
    chunks: Vec<Option<IVec>>,
}

impl Shared {
    /// Reads the row of a head key.
    pub fn read(&self, head: &[u8]) -> Result<Raw, Fault> {
        let found = self.tree.get(head).map_err(|error| self.fault("read", error))?;
        self.read_chunks(head, found)
    }

    /// Reads what belongs to a head.
    pub fn read_chunks(&self, head: &[u8], found: Option<IVec>) -> Result<Raw, Fault> {
        let mut chunks = Vec::new();
        for number in 0..found.as_ref().map_or(0, |found| chunk_count(found)) {
            let chunk = self.tree.get(chunk_key(head, number));
            let chunk = chunk.map_err(|error| self.fault("read", error))?;
            let missing = chunk.is_none();
            chunks.push(chunk);
            if missing {
                break;
            }
        }
        Ok(Raw { head: found, chunks })
    }
}

/// How many chunks a sealed head speaks of. A damaged one may say anything: the reader stops at the
/// first that is missing, and decoding finds the damage.
fn chunk_count(sealed: &[u8]) -> u32 {
    match sealed {
        [length @ .., CHUNKED, _, _, _, _] => {
            let length = length.try_into().map_or(0, u64::from_be_bytes);
            u32::try_from(length.div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX)
        }
        _ => 0,
    }
}

impl Raw {
    /// Calls `with` with the row's value, if there is a row.
    pub fn with<T>(
        &self,
        table: Table,
        key: &[u8],
        with: impl FnOnce(Option<&[u8]>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Some(head) = &self.head else { return with(None) };
        let damaged = |what| Fault::row(table.name(), key, what);
        match unseal(table, key, head)? {
            [value @ .., WHOLE] => with(Some(value)),
            [length @ .., CHUNKED] => {
                let length = length.try_into().map(u64::from_be_bytes);
                let length = length.map_err(|_| damaged("its length is not one"))?;
                let value = self.assemble(table, key)?;
                if value.len() as u64 != length {
                    return Err(damaged("a chunk is missing"));
                }
                with(Some(&value))
            }
            _ => Err(damaged("it is neither whole nor in chunks")),
        }
    }

    /// The row's value, copied.
    pub fn value(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.with(table, key, |value| Ok(value.map(Bytes::copy_from_slice)))
    }

    fn assemble(&self, table: Table, key: &[u8]) -> Result<Vec<u8>, Fault> {
        let head = head_key(table, key);
        let mut value = Vec::with_capacity(self.chunks.len() * CHUNK_BYTES);
        for (number, chunk) in (0..).zip(self.chunks.iter().flatten()) {
            value.extend_from_slice(unseal(table, &chunk_key(&head, number), chunk)?);
        }
        Ok(value)
    }
}
