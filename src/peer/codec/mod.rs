//! The two streams between members, as bytes: etcd's `message` stream and its `msgapp` (v2).
//!
//! ```text
//! message   [length u64][raftpb.Message]         any message; a heartbeat of nobody to nobody says
//!                                                that the link is alive
//! msgapp    [0]                                  the link is alive
//!           [1][entries u64]([length u64][raftpb.Entry])…[commit u64]
//!                                                goes on where the last append ended, in its term
//!           [2][length u64][raftpb.Message]      any append
//! ```
//!
//! All numbers are big-endian. A stream has one sender and one receiver, so a frame of kind 1
//! leaves out who they are, and the term and index that both know from the frame before.
//!
//! Invariants:
//! - A [`Decoder`] takes its bytes in any pieces and gives the same frames for all of them.
//! - A length is a claim. It is bounded first, and memory follows the bytes that came, not the
//!   length; what decodes to many times its bytes is counted before it is decoded (`bounds`).
//! - After an error there is no next frame: the stream has lost its place and must end.
//! - What an [`Encoder`] makes of messages, a [`Decoder`] makes the same messages of.
//!
//! What differs from etcd: its codec believes every length of a `msgapp` stream, an entry count
//! included, and takes kind 1 as the first frame (of term 0). Here both end the stream, and so does
//! a message that is not from the member at the other end; except for proposals and reads, which
//! etcd passes on to the next leader under the name of who asked first.
//!
//! Bytes are equal to etcd 3.7.3's in everything it was recorded to send (`tests/fixtures/peer`).
//! Members up to 3.6 also write fields that are zero; those are read, and not written.

mod bounds;
mod decode;
mod encode;
mod fuzz;

#[cfg(test)]
mod tests;

pub use bounds::decode_message;
pub use decode::{Decoder, Frame};
pub use encode::Encoder;
pub use fuzz::fuzz_stream;

use crate::raft::wire::BadWire;
use crate::raft::{Message, MessageType};

/// The two streams that a member asks another for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Everything but appends and snapshots.
    Message,
    /// Appends: what a leader sends.
    Append,
}

impl Kind {
    /// Both, in the order etcd asks for them.
    pub const ALL: [Kind; 2] = [Kind::Append, Kind::Message];

    /// The last but one part of the stream's path.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Append => "msgapp",
        }
    }
}

const LINK_HEARTBEAT: u8 = 0;
const MORE_ENTRIES: u8 = 1;
const WHOLE_APPEND: u8 = 2;

/// Why a stream ends before its time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStream {
    #[error("a message of {0} bytes, more than a member sends")]
    TooLong(u64),
    #[error("{0} entries in one message, more than a member sends")]
    TooMany(u64),
    #[error("a snapshot with {0} bytes of metadata, more than any cluster has")]
    Metadata(usize),
    #[error("no frame of a msgapp stream begins with {0}")]
    UnknownFrame(u8),
    #[error("entries that go on from an append that was not sent")]
    NothingToContinue,
    #[error("{0:?} on a stream of appends")]
    NotAppend(MessageType),
    #[error("{kind:?} from {from:x} to {to:x} on a stream from {remote:x} to {local:x}")]
    Misaddressed { kind: MessageType, from: u64, to: u64, remote: u64, local: u64 },
    #[error(transparent)]
    Wire(#[from] BadWire),
}

/// Whether a message of `remote` to `local` names both as they are.
pub fn check_addresses(message: &Message, local: u64, remote: u64) -> Result<(), BadStream> {
    let kind = message.msg_type();
    let forwarded = matches!(kind, MessageType::MsgPropose | MessageType::MsgReadIndex);
    if message.to == local && (message.from == remote || forwarded) {
        return Ok(());
    }
    let (from, to) = (message.from, message.to);
    Err(BadStream::Misaddressed { kind, from, to, remote, local })
}

/// Whether a message is the link's own: raft sends none without a sender.
fn is_link_heartbeat(message: &Message) -> bool {
    message.msg_type() == MessageType::MsgHeartbeat && message.from == 0 && message.to == 0
}
