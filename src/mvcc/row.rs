//! A row: an encoded `mvccpb.KeyValue`, the form in which a change is stored, sent and hashed.
//!
//! Rows are written once, at apply, and travel as these bytes to the engine, to every reader and
//! to every watcher. They are byte-identical to what etcd's encoder produces (fields in the order
//! of their numbers, zeroes left out), because members compare hashes over them.
//!
//! | change | stored row | event row |
//! |---|---|---|
//! | put | all fields | the same bytes |
//! | delete | `key` alone | `key` and `mod_revision` |

use bytes::{BufMut, Bytes};

use super::index::Facts;
use crate::error::Fault;
use crate::storage::engine::Table;

/// The tag bytes of KeyValue's fields: field number and wire type.
mod tag {
    pub const KEY: u8 = 1 << 3 | 2;
    pub const CREATE_REVISION: u8 = 2 << 3;
    pub const MOD_REVISION: u8 = 3 << 3;
    pub const VERSION: u8 = 4 << 3;
    pub const VALUE: u8 = 5 << 3 | 2;
    pub const LEASE: u8 = 6 << 3;
}

/// A row's fields, borrowed from its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

impl<'a> Fields<'a> {
    /// Reads a row.
    pub fn decode(row: &'a [u8]) -> Result<Self, Fault> {
        // The row key is not at hand; the first bytes of the row lead to it as well.
        let start = &row[..row.len().min(64)];
        Self::parse(row).ok_or_else(|| Fault::row(Table::Key.name(), start, "not a KeyValue"))
    }

    fn parse(mut rest: &'a [u8]) -> Option<Self> {
        let mut fields = Self::default();
        while !rest.is_empty() {
            let tag = take_varint(&mut rest)?;
            match u8::try_from(tag).unwrap_or(0) {
                tag::KEY => fields.key = take_bytes(&mut rest)?,
                tag::CREATE_REVISION => fields.create_revision = take_varint(&mut rest)? as i64,
                tag::MOD_REVISION => fields.mod_revision = take_varint(&mut rest)? as i64,
                tag::VERSION => fields.version = take_varint(&mut rest)? as i64,
                tag::VALUE => fields.value = take_bytes(&mut rest)?,
                tag::LEASE => fields.lease = take_varint(&mut rest)? as i64,
                _ => skip(tag, &mut rest)?,
            }
        }
        Some(fields)
    }

    /// The row these fields make.
    pub fn encode(&self) -> Bytes {
        let mut row = Vec::with_capacity(self.encoded_len());
        self.encode_to(&mut row);
        Bytes::from(row)
    }

    /// Appends the row these fields make.
    pub fn encode_to(&self, row: &mut Vec<u8>) {
        put_bytes(tag::KEY, self.key, row);
        put_number(tag::CREATE_REVISION, self.create_revision, row);
        put_number(tag::MOD_REVISION, self.mod_revision, row);
        put_number(tag::VERSION, self.version, row);
        put_bytes(tag::VALUE, self.value, row);
        put_number(tag::LEASE, self.lease, row);
    }

    fn encoded_len(&self) -> usize {
        let bytes =
            |b: &[u8]| if b.is_empty() { 0 } else { 1 + varint_len(b.len() as u64) + b.len() };
        let number = |n: i64| if n == 0 { 0 } else { 1 + varint_len(n as u64) };
        bytes(self.key)
            + number(self.create_revision)
            + number(self.mod_revision)
            + number(self.version)
            + bytes(self.value)
            + number(self.lease)
    }

    /// The fields the index knows of a live key: all but value and lease.
    pub fn of(key: &'a [u8], facts: Facts) -> Self {
        Self {
            key,
            create_revision: facts.create_revision,
            mod_revision: facts.revision.main,
            version: facts.version,
            ..Self::default()
        }
    }
}

/// Where the key lies in a row that starts with it, as every row written here does.
pub(crate) fn key_of(row: &Bytes) -> Bytes {
    let mut rest = &row[..];
    match rest.first() {
        Some(&tag::KEY) => {
            rest = &rest[1..];
            take_bytes(&mut rest).map_or_else(Bytes::new, |key| row.slice_ref(key))
        }
        _ => Bytes::new(),
    }
}

fn put_bytes(tag: u8, bytes: &[u8], row: &mut Vec<u8>) {
    if !bytes.is_empty() {
        row.put_u8(tag);
        put_varint(bytes.len() as u64, row);
        row.put_slice(bytes);
    }
}

fn put_number(tag: u8, number: i64, row: &mut Vec<u8>) {
    if number != 0 {
        row.put_u8(tag);
        put_varint(number as u64, row);
    }
}

fn put_varint(mut number: u64, row: &mut Vec<u8>) {
    while number >= 0x80 {
        row.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    row.put_u8(number as u8);
}

fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

/// Steps over a field of a later schema.
fn skip(tag: u64, rest: &mut &[u8]) -> Option<()> {
    match tag & 7 {
        0 => take_varint(rest).map(|_| ()),
        1 => rest.split_at_checked(8).map(|(_, after)| *rest = after),
        2 => take_bytes(rest).map(|_| ()),
        5 => rest.split_at_checked(4).map(|(_, after)| *rest = after),
        _ => None,
    }
}
