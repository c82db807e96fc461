//! From messages to a stream.

use bytes::{BufMut as _, BytesMut};

use super::{Kind, LINK_HEARTBEAT, MORE_ENTRIES, WHOLE_APPEND};
use crate::raft::{Message, MessageType, wire};

/// The sender's side of one stream. It lasts as long as the connection.
#[derive(Debug)]
pub struct Encoder {
    kind: Kind,
    /// Term and last index of the append before; zero before the first.
    term: u64,
    index: u64,
}

impl Encoder {
    /// An encoder for a stream that has just been opened.
    pub fn new(kind: Kind) -> Self {
        Self { kind, term: 0, index: 0 }
    }

    /// Appends what tells the receiver that this side is there, and nothing else.
    pub fn link_heartbeat(&mut self, out: &mut BytesMut) {
        match self.kind {
            Kind::Append => out.put_u8(LINK_HEARTBEAT),
            Kind::Message => {
                let msg_type = MessageType::MsgHeartbeat.into();
                put_message(Message { msg_type, ..Message::default() }, out);
            }
        }
    }

    /// Appends the frame of a message. A stream of appends takes nothing else.
    pub fn encode(&mut self, message: Message, out: &mut BytesMut) {
        if self.kind == Kind::Message {
            put_message(message, out);
            return;
        }
        assert_eq!(message.msg_type(), MessageType::MsgAppend, "a stream of appends");
        if self.is_continued_by(&message) {
            self.index = self.index.wrapping_add(message.entries.len() as u64);
            out.put_u8(MORE_ENTRIES);
            out.put_u64(message.entries.len() as u64);
            for entry in &message.entries {
                let entry = wire::encode_entry(entry);
                out.put_u64(entry.len() as u64);
                out.put_slice(&entry);
            }
            out.put_u64(message.commit);
        } else {
            self.term = message.term;
            self.index = message.entries.last().map_or(message.index, |entry| entry.index);
            out.put_u8(WHOLE_APPEND);
            put_message(message, out);
        }
    }

    /// Whether entries and commit say all there is to say.
    fn is_continued_by(&self, message: &Message) -> bool {
        self.term != 0
            && (message.term, message.log_term, message.index) == (self.term, self.term, self.index)
            // What raft puts into no append, and the short form has no room for.
            && (message.reject, message.reject_hint) == (false, 0)
            && message.context.is_empty()
            && message.snapshot.is_none()
    }
}

fn put_message(message: Message, out: &mut BytesMut) {
    let bytes = wire::encode(message);
    out.put_u64(bytes.len() as u64);
    out.put_slice(&bytes);
}
