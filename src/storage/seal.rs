//! A checksum behind every stored value, verified on every read.
//!
//! redb and sled check what they need to recover from a crash, not what a read returns: a bit that
//! flips in a leaf later is served as data. The seal covers table, key and value, so it also finds
//! a value that ended up under another row's key.
//!
//! A sealed value is the value followed by the CRC-32C, 4 bytes little-endian, of table number, key
//! and value. Seals are an engine's own affair: views return values without them, snapshots and
//! hashes never see them.

use super::engine::Table;
use crate::error::Fault;

/// Bytes a seal adds to a value.
pub const SEAL_BYTES: usize = 4;

/// Leaves `value` with its seal in `sealed`.
pub fn seal(table: Table, key: &[u8], value: &[u8], sealed: &mut Vec<u8>) {
    sealed.clear();
    sealed.reserve(value.len() + SEAL_BYTES);
    sealed.extend_from_slice(value);
    sealed.extend_from_slice(&checksum(table, key, value).to_le_bytes());
}

/// The value in `sealed`, if it is the one stored under `key`.
pub fn unseal<'a>(table: Table, key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], Fault> {
    match sealed.split_last_chunk() {
        Some((value, seal)) if u32::from_le_bytes(*seal) == checksum(table, key, value) => {
            Ok(value)
        }
        Some(_) => Err(Fault::row(table.name(), key, "the checksum does not match")),
        None => Err(Fault::row(table.name(), key, "it is shorter than its checksum")),
    }
}

fn checksum(table: Table, key: &[u8], value: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&[table as u8]);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, key), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let (key, value) = (b"key", b"some value");
        let mut sealed = Vec::new();
        seal(Table::Key, key, value, &mut sealed);
        assert_eq!(unseal(Table::Key, key, &sealed).expect("sealed above"), value);
        for bit in 0..sealed.len() * 8 {
            let mut rotten = sealed.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(Table::Key, key, &rotten).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(unseal(Table::Key, key, &sealed[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_value_of_another_row_is_found() {
        let mut sealed = Vec::new();
        seal(Table::Key, b"key", b"value", &mut sealed);
        assert!(unseal(Table::Key, b"kez", &sealed).is_err());
        assert!(unseal(Table::Lease, b"key", &sealed).is_err());
        assert!(unseal(Table::Key, b"key", &[0; 16]).is_err(), "a page of zeros");
    }
}
