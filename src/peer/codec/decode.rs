//! From a stream to messages.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    BadStream, Kind, LINK_HEARTBEAT, MORE_ENTRIES, WHOLE_APPEND, bounds, check_addresses,
    is_link_heartbeat,
};
use crate::raft::{Entry, Message, MessageType, wire};

/// Content below this is copied out of the buffer it came in, so that an entry that lives long in
/// the log keeps no others alive; above, it has the buffer nearly for itself.
const COPY_BYTES_MAX: usize = 64 * 1024;

/// What arrives on a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The other side is there.
    LinkHeartbeat,
    /// A message for raft, from the member at the other end.
    Message(Box<Message>),
}

/// The receiver's side of one stream. It lasts as long as the connection.
#[derive(Debug)]
pub struct Decoder {
    kind: Kind,
    local: u64,
    remote: u64,
    /// What came and was not looked at: less than one frame and one piece of bytes.
    buffer: BytesMut,
    expect: Expect,
    /// Term and last index of the append before; zero before the first.
    term: u64,
    index: u64,
    /// What there is of a frame of entries.
    entries: Vec<Entry>,
    entries_missing: u64,
    entries_bytes: u64,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
enum Expect {
    FrameKind,
    MessageLength,
    Message(usize),
    EntryCount,
    EntryLength,
    Entry(usize),
    Commit,
}

impl Expect {
    fn bytes(self) -> usize {
        match self {
            Expect::FrameKind => 1,
            Expect::MessageLength | Expect::EntryCount | Expect::EntryLength | Expect::Commit => 8,
            Expect::Message(bytes) | Expect::Entry(bytes) => bytes,
        }
    }

    fn first(kind: Kind) -> Self {
        match kind {
            Kind::Message => Expect::MessageLength,
            Kind::Append => Expect::FrameKind,
        }
    }
}

impl Decoder {
    /// A decoder for a stream that has just been opened, from `remote` to `local`.
    pub fn new(kind: Kind, local: u64, remote: u64) -> Self {
        Self {
            kind,
            local,
            remote,
            buffer: BytesMut::new(),
            expect: Expect::first(kind),
            term: 0,
            index: 0,
            entries: Vec::new(),
            entries_missing: 0,
            entries_bytes: 0,
        }
    }

    /// Takes in what was received. [`Decoder::next_frame`] is then asked until it has nothing.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole frame of what came so far.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadStream> {
        while self.buffer.len() >= self.expect.bytes() {
            if let Some(frame) = self.advance()? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Reads the part that is expected, which is there.
    fn advance(&mut self) -> Result<Option<Frame>, BadStream> {
        match self.expect {
            Expect::FrameKind => match self.buffer.get_u8() {
                LINK_HEARTBEAT => return Ok(Some(Frame::LinkHeartbeat)),
                MORE_ENTRIES if self.term == 0 => return Err(BadStream::NothingToContinue),
                MORE_ENTRIES => self.expect = Expect::EntryCount,
                WHOLE_APPEND => self.expect = Expect::MessageLength,
                unknown => return Err(BadStream::UnknownFrame(unknown)),
            },
            Expect::MessageLength => {
                self.expect = Expect::Message(bounds::length(self.buffer.get_u64())?);
            }
            Expect::Message(bytes) => {
                let content = self.take(bytes);
                self.expect = Expect::first(self.kind);
                return self.message(content).map(Some);
            }
            Expect::EntryCount => {
                self.entries_missing = bounds::entries(self.buffer.get_u64())?;
                self.entries_bytes = 0;
                self.expect = self.entry_or_commit();
            }
            Expect::EntryLength => {
                let claimed = self.buffer.get_u64();
                self.entries_bytes = self.entries_bytes.saturating_add(claimed);
                bounds::length(self.entries_bytes)?;
                self.expect = Expect::Entry(bounds::length(claimed)?);
            }
            Expect::Entry(bytes) => {
                let entry = wire::decode_entry(self.take(bytes))?;
                self.entries.push(entry);
                self.entries_missing -= 1;
                self.expect = self.entry_or_commit();
            }
            Expect::Commit => {
                let commit = self.buffer.get_u64();
                self.expect = Expect::FrameKind;
                return Ok(Some(self.more_entries(commit)));
            }
        }
        Ok(None)
    }

    /// What is set aside, in bytes and entries.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity() + self.entries.capacity()
    }

    fn entry_or_commit(&self) -> Expect {
        match self.entries_missing {
            0 => Expect::Commit,
            _ => Expect::EntryLength,
        }
    }

    fn take(&mut self, bytes: usize) -> Bytes {
        if bytes > COPY_BYTES_MAX {
            return self.buffer.split_to(bytes).freeze();
        }
        let content = Bytes::copy_from_slice(&self.buffer[..bytes]);
        self.buffer.advance(bytes);
        content
    }

    /// A message that came whole.
    fn message(&mut self, content: Bytes) -> Result<Frame, BadStream> {
        let message = bounds::decode_message(content)?;
        match self.kind {
            Kind::Message if is_link_heartbeat(&message) => return Ok(Frame::LinkHeartbeat),
            Kind::Message => {}
            Kind::Append => {
                if message.msg_type() != MessageType::MsgAppend {
                    return Err(BadStream::NotAppend(message.msg_type()));
                }
                self.term = message.term;
                self.index = message.entries.last().map_or(message.index, |entry| entry.index);
            }
        }
        check_addresses(&message, self.local, self.remote)?;
        Ok(Frame::Message(Box::new(message)))
    }

    /// An append of which only entries and commit were sent.
    fn more_entries(&mut self, commit: u64) -> Frame {
        let entries = std::mem::take(&mut self.entries);
        let index = self.index;
        // A sender may claim any index; whether entries follow it is for raft's guard to say.
        self.index = index.wrapping_add(entries.len() as u64);
        Frame::Message(Box::new(Message {
            msg_type: MessageType::MsgAppend.into(),
            to: self.local,
            from: self.remote,
            term: self.term,
            log_term: self.term,
            index,
            entries,
            commit,
            ..Message::default()
        }))
    }
}
