//! What a message may decode to, told from its bytes before it is decoded.
//!
//! An entry without content takes two bytes on the wire and a hundred in memory, and one voter of a
//! conf state one byte and eight. A bound on the bytes alone would let a sender choose the factor.

use bytes::Bytes;

use super::BadStream;
use crate::limits;
use crate::raft::{Message, wire};

const ENTRIES: u64 = 7;
const SNAPSHOT: u64 = 9;
const SNAPSHOT_METADATA: u64 = 2;

/// Decodes a message whose size in memory is in proportion to its bytes.
pub fn decode_message(bytes: Bytes) -> Result<Message, BadStream> {
    length(bytes.len() as u64)?;
    let (mut entries, mut metadata_bytes) = (0, 0);
    for (tag, content) in Fields(&bytes) {
        match tag {
            ENTRIES => entries += 1,
            SNAPSHOT => {
                let metadata = Fields(content).filter(|(tag, _)| *tag == SNAPSHOT_METADATA);
                metadata_bytes += metadata.map(|(_, content)| content.len()).sum::<usize>();
            }
            _ => {}
        }
    }
    self::entries(entries)?;
    if metadata_bytes > limits::PEER_SNAPSHOT_METADATA_BYTES_MAX {
        return Err(BadStream::Metadata(metadata_bytes));
    }
    Ok(wire::decode(bytes)?)
}

/// A length that a message, or all the entries of a frame, may have.
pub(super) fn length(claimed: u64) -> Result<usize, BadStream> {
    match usize::try_from(claimed) {
        Ok(bytes) if bytes <= limits::PEER_MESSAGE_BYTES_MAX => Ok(bytes),
        _ => Err(BadStream::TooLong(claimed)),
    }
}

/// A number of entries that a message may have.
pub(super) fn entries(claimed: u64) -> Result<u64, BadStream> {
    match claimed <= limits::PEER_MESSAGE_ENTRIES_MAX {
        true => Ok(claimed),
        false => Err(BadStream::TooMany(claimed)),
    }
}

/// The length-delimited fields of a message, in order. It ends where bytes are not a message, which
/// decoding then says.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = varint(&mut self.0)?;
            let skipped = match key & 7 {
                0 => {
                    varint(&mut self.0)?;
                    continue;
                }
                1 => 8,
                2 => usize::try_from(varint(&mut self.0)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let (content, rest) = self.0.split_at_checked(skipped)?;
            self.0 = rest;
            if key & 7 == 2 {
                return Some((key >> 3, content));
            }
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}
