//! The three codec calls that raft-rs makes on its messages, answered by prost.
//!
//! raft-rs 0.7.0 is written against rust-protobuf 2 (RUSTSEC-2024-0437: unbounded recursion while
//! decoding). It only ever asks a message for its size, its bytes, and to read bytes, so a trait
//! with these three methods replaces the whole runtime.
//!
//! - Decoding checks enumerations: [`Message::check`] runs after every merge, so that a number
//!   this build does not know is an error at the door and never a panic inside raft-rs.

use std::fmt;

/// Why a message could not be written or read.
#[derive(Debug, Clone, PartialEq)]
pub enum ProtobufError {
    /// The bytes are not a protobuf message of this type.
    Wire(prost::DecodeError),
    /// The bytes are well formed, but an enumeration holds a number without a name.
    UnknownEnum { field: &'static str, value: i32 },
}

impl fmt::Display for ProtobufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtobufError::Wire(error) => error.fmt(f),
            ProtobufError::UnknownEnum { field, value } => {
                write!(f, "{field} has no value numbered {value}")
            }
        }
    }
}

impl std::error::Error for ProtobufError {}

/// A prost message as raft-rs wants to see it.
pub trait Message: prost::Message + Default {
    /// Refuses numbers that are not names of the message's enumerations, at any depth.
    fn check(&self) -> Result<(), ProtobufError>;

    /// The encoded length in bytes. Messages beyond 4 GiB saturate; nothing accepts them anyway.
    fn compute_size(&self) -> u32 {
        u32::try_from(self.encoded_len()).unwrap_or(u32::MAX)
    }

    /// The encoded message.
    fn write_to_bytes(&self) -> Result<Vec<u8>, ProtobufError> {
        Ok(self.encode_to_vec())
    }

    /// Reads `bytes` over `self`. On an error the content of `self` is unspecified.
    fn merge_from_bytes(&mut self, bytes: &[u8]) -> Result<(), ProtobufError> {
        self.merge(bytes).map_err(ProtobufError::Wire)?;
        self.check()
    }
}
