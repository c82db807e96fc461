//! A gRPC connection that costs next to nothing: HTTP/2 frames written and read by hand.
//!
//! The loader shares its cores with the server, so what the loader spends is taken from the
//! throughput of every server alike and brings their ratio closer to one. A general client spends
//! 15 to 50 µs per call; this one spends what the system calls cost. To the server it looks like
//! any other client: the same frames, header fields kept in the compression table after the first
//! request, windows as wide as a client that has warmed up.
//!
//! - A connection carries calls of one method: after the first request every header block is
//!   the same few bytes.
//! - A seat is the place of one client on the connection; it has at most one stream at a time.
//! - Headers that come back are not decoded. A server sends a message only if the call went
//!   well; a stream that ends without one is reported as refused.
//!
//! Absent on purpose: TLS, message compression, header decoding, push, priorities.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};

use super::headers;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// The largest frame a server may send, as we never allow it a larger one.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// What a gRPC message is preceded by: a flag and four bytes of length.
const PREFIX_BYTES: usize = 5;
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The window both sides begin with.
const FIRST_WINDOW_BYTES: u32 = 65_535;
const INBOX_BYTES: usize = 256 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const SETTING_TABLE_BYTES: u16 = 1;
const SETTING_STREAMS_MAX: u16 = 3;
const SETTING_STREAM_WINDOW: u16 = 4;

/// What a call of a seat has come to.
pub enum Event<'a> {
    /// An answer arrived.
    Message(&'a [u8]),
    /// The stream ended; `answered` tells whether anything had come before.
    End { answered: bool },
}

/// Whether the client is done once its message is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// One message, then the client's side of the stream is closed.
    Close,
    /// More messages follow on the same stream.
    KeepOpen,
}

/// A connection, with the seats of the clients that share it.
pub struct Connection {
    socket: TcpStream,
    authority: String,
    path: &'static str,
    /// Whether the server's compression table holds our header fields.
    introduced: bool,
    inbox: Vec<u8>,
    inbox_start: usize,
    inbox_end: usize,
    outbox: Vec<u8>,
    outbox_sent: usize,
    /// Messages that wait for the server to widen a window.
    held: VecDeque<Held>,
    next_stream: u32,
    send_window: i64,
    send_window_first: i64,
    /// Bytes received since the server was last told that it may send more.
    received: u32,
    seats: Vec<Seat>,
}

struct Held {
    seat: usize,
    side: Side,
    message: Vec<u8>,
}

#[derive(Default)]
struct Seat {
    /// The stream of the call under way, or 0.
    stream: u32,
    send_window: i64,
    received: u32,
    answered: bool,
    /// The beginning of a message whose end has not arrived.
    partial: Vec<u8>,
}

impl Connection {
    /// Connects, and says what HTTP/2 wants said first.
    pub fn open(address: SocketAddr, path: &'static str, seats: usize) -> Result<Self> {
        let socket = TcpStream::connect(address).context("cannot connect")?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut connection = Self {
            socket,
            authority: address.to_string(),
            path,
            introduced: false,
            inbox: vec![0; INBOX_BYTES],
            inbox_start: 0,
            inbox_end: 0,
            outbox: Vec::with_capacity(INBOX_BYTES),
            outbox_sent: 0,
            held: VecDeque::new(),
            next_stream: 1,
            send_window: i64::from(FIRST_WINDOW_BYTES),
            send_window_first: i64::from(FIRST_WINDOW_BYTES),
            received: 0,
            seats: (0..seats).map(|_| Seat::default()).collect(),
        };
        connection.outbox.extend(PREFACE);
        connection.frame(SETTINGS, 0, 0, 6);
        connection.outbox.extend(SETTING_STREAM_WINDOW.to_be_bytes());
        connection.outbox.extend(STREAM_WINDOW_BYTES.to_be_bytes());
        connection.widen(0, CONNECTION_WINDOW_BYTES - FIRST_WINDOW_BYTES);
        connection.flush()?;
        Ok(connection)
    }

    /// What to wait on.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether bytes wait for the socket to take them.
    pub fn wants_to_write(&self) -> bool {
        self.outbox_sent < self.outbox.len()
    }

    /// Sends a message of a seat, on its open stream or else on a new one.
    ///
    /// It leaves with the next `flush`, or once the server's windows allow it.
    pub fn send(&mut self, seat: usize, message: &[u8], side: Side) {
        if self.held.is_empty() && self.fits(seat, message) {
            self.write_message(seat, message, side);
        } else {
            self.held.push_back(Held { seat, side, message: message.to_vec() });
        }
    }

    /// Writes what the socket takes.
    pub fn flush(&mut self) -> Result<()> {
        while self.outbox_sent < self.outbox.len() {
            match self.socket.write(&self.outbox[self.outbox_sent..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => self.outbox_sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot write"),
            }
        }
        self.outbox.clear();
        self.outbox_sent = 0;
        Ok(())
    }

    /// Reads what has arrived, and tells what it means for whom.
    pub fn receive(&mut self, tell: &mut impl FnMut(usize, Event<'_>) -> Result<()>) -> Result<()> {
        loop {
            let space = INBOX_BYTES - self.inbox_end;
            match self.socket.read(&mut self.inbox[self.inbox_end..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => {
                    self.inbox_end += count;
                    self.read_frames(tell)?;
                    if count < space {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read"),
            }
        }
    }

    fn read_frames(&mut self, tell: &mut impl FnMut(usize, Event<'_>) -> Result<()>) -> Result<()> {
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[self.inbox_start..self.inbox_end];
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
            self.step(head[3], head[4], stream, payload, tell)?;
            rest = after;
        }
        // The rest of a frame moves to the front: it is short, or there is nothing after it.
        let start = self.inbox_end - rest.len();
        self.inbox = inbox;
        self.inbox.copy_within(start..self.inbox_end, 0);
        (self.inbox_start, self.inbox_end) = (0, self.inbox_end - start);
        Ok(())
    }

    fn step(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        tell: &mut impl FnMut(usize, Event<'_>) -> Result<()>,
    ) -> Result<()> {
        match kind {
            DATA => self.data(flags, stream, payload, tell),
            HEADERS if flags & END_STREAM != 0 => self.end(stream, tell),
            SETTINGS if flags & ACK == 0 => self.settings(payload),
            PING if flags & ACK == 0 => {
                self.frame(PING, ACK, 0, payload.len());
                self.outbox.extend(payload);
                Ok(())
            }
            WINDOW_UPDATE => self.widened(stream, number(payload, 0)?),
            RST_STREAM if self.seat_of(stream).is_some() => {
                bail!("the server reset a stream, code {}", number(payload, 0)?)
            }
            GOAWAY => bail!("the server says goodbye, code {}", number(payload, 4)?),
            // Headers before the answer, their continuations, acknowledgements: of no interest.
            _ => Ok(()),
        }
    }

    fn data(
        &mut self,
        flags: u8,
        stream: u32,
        payload: &[u8],
        tell: &mut impl FnMut(usize, Event<'_>) -> Result<()>,
    ) -> Result<()> {
        ensure!(flags & PADDED == 0, "a padded frame");
        let length = u32::try_from(payload.len())?;
        self.received += length;
        if self.received >= CONNECTION_WINDOW_BYTES / 2 {
            self.widen(0, self.received);
            self.received = 0;
        }
        let Some(number) = self.seat_of(stream) else { return Ok(()) };
        let seat = &mut self.seats[number];
        seat.received += length;
        absorb(seat, payload, |message| tell(number, Event::Message(message)))?;
        if flags & END_STREAM != 0 {
            return self.end(stream, tell);
        }
        if self.seats[number].received >= STREAM_WINDOW_BYTES / 2 {
            self.widen(stream, self.seats[number].received);
            self.seats[number].received = 0;
        }
        Ok(())
    }

    fn end(
        &mut self,
        stream: u32,
        tell: &mut impl FnMut(usize, Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(number) = self.seat_of(stream) else { return Ok(()) };
        let seat = &mut self.seats[number];
        ensure!(seat.partial.is_empty(), "a stream ended within a message");
        seat.stream = 0;
        tell(number, Event::End { answered: seat.answered })
    }

    fn settings(&mut self, payload: &[u8]) -> Result<()> {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = number(setting, 2)?;
            if name == SETTING_STREAM_WINDOW {
                let change = i64::from(value) - self.send_window_first;
                self.send_window_first += change;
                self.seats.iter_mut().for_each(|seat| seat.send_window += change);
            }
            let seats = self.seats.len();
            ensure!(
                name != SETTING_STREAMS_MAX || value as usize >= seats,
                "the server allows {value} streams per connection, and this row needs {seats}"
            );
            ensure!(
                name != SETTING_TABLE_BYTES || value >= headers::TABLE_BYTES,
                "the server's header table is too small: {value} bytes"
            );
        }
        self.frame(SETTINGS, ACK, 0, 0);
        self.release();
        Ok(())
    }

    /// The server allows more to be sent.
    fn widened(&mut self, stream: u32, by: u32) -> Result<()> {
        if stream == 0 {
            self.send_window += i64::from(by);
        } else if let Some(number) = self.seat_of(stream) {
            self.seats[number].send_window += i64::from(by);
        }
        self.release();
        Ok(())
    }

    /// Sends what waited, in order, as far as the windows go.
    fn release(&mut self) {
        while let Some(held) = self.held.pop_front() {
            if !self.fits(held.seat, &held.message) {
                self.held.push_front(held);
                return;
            }
            self.write_message(held.seat, &held.message, held.side);
        }
    }

    fn fits(&self, seat: usize, message: &[u8]) -> bool {
        let bytes = (PREFIX_BYTES + message.len()) as i64;
        let seat = &self.seats[seat];
        let window = if seat.stream == 0 { self.send_window_first } else { seat.send_window };
        bytes <= window.min(self.send_window)
    }

    fn write_message(&mut self, seat: usize, message: &[u8], side: Side) {
        if self.seats[seat].stream == 0 {
            self.open_stream(seat);
        }
        let length = PREFIX_BYTES + message.len();
        assert!(length <= FRAME_BYTES_MAX, "requests of the loader fit a frame");
        let flags = if side == Side::Close { END_STREAM } else { 0 };
        self.frame(DATA, flags, self.seats[seat].stream, length);
        self.outbox.push(0);
        self.outbox.extend((message.len() as u32).to_be_bytes());
        self.outbox.extend(message);
        self.seats[seat].send_window -= length as i64;
        self.send_window -= length as i64;
    }

    fn open_stream(&mut self, number: usize) {
        let stream = self.next_stream;
        self.next_stream += 2;
        let seat = &mut self.seats[number];
        seat.stream = stream;
        seat.send_window = self.send_window_first;
        seat.received = 0;
        seat.answered = false;
        if self.introduced {
            self.frame(HEADERS, END_HEADERS, stream, headers::AGAIN.len());
            self.outbox.extend(headers::AGAIN);
        } else {
            let block = headers::first(&self.authority, self.path);
            self.frame(HEADERS, END_HEADERS, stream, block.len());
            self.outbox.extend(block);
            self.introduced = true;
        }
    }

    /// Tells the server that it may send more.
    fn widen(&mut self, stream: u32, by: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, 4);
        self.outbox.extend(by.to_be_bytes());
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, length: usize) {
        self.outbox.extend(&(length as u32).to_be_bytes()[1..]);
        self.outbox.extend([kind, flags]);
        self.outbox.extend(stream.to_be_bytes());
    }

    /// Seats of one connection are few, and looking through them is quicker than a map.
    fn seat_of(&self, stream: u32) -> Option<usize> {
        self.seats.iter().position(|seat| seat.stream == stream && stream != 0)
    }
}

/// Takes the bytes of a stream, and hands on the messages that are whole.
fn absorb(
    seat: &mut Seat,
    mut bytes: &[u8],
    mut tell: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    if !seat.partial.is_empty() {
        seat.partial.extend(bytes);
        let Some((message, rest)) = split_message(&seat.partial)? else { return Ok(()) };
        tell(message)?;
        seat.answered = true;
        // What follows a message arrived with these last bytes.
        bytes = &bytes[bytes.len() - rest.len()..];
        seat.partial.clear();
    }
    while let Some((message, rest)) = split_message(bytes)? {
        tell(message)?;
        seat.answered = true;
        bytes = rest;
    }
    seat.partial.extend(bytes);
    Ok(())
}

/// The first message, and what comes after it.
fn split_message(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    ensure!(prefix[0] == 0, "a compressed message");
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    Ok(rest.split_at_checked(length as usize))
}

fn number(payload: &[u8], at: usize) -> Result<u32> {
    let bytes = payload.get(at..).and_then(|bytes| bytes.first_chunk::<4>());
    Ok(u32::from_be_bytes(*bytes.context("a frame that is too short")?))
}
