//! The bytes of a frame: a head that says where it belongs, a body, and the checksums of both.
//!
//! ```text
//!   0  crc        u32  of the 36 bytes that follow, begun with the segment's salt
//!   4  body crc   u32  of the body, begun with the salt
//!   8  previous   u32  crc of the frame before this one, in whatever segment it is
//!   12 length     u32  of the body
//!   16 epoch      u32  how many times the log had been opened
//!   20 zero       u32
//!   24 sequence   u64  of the segment
//!   32 synced     u64  bytes of the segment that were durable when this was written
//!   40 body            a header (segment.rs) at offset 0, a batch everywhere else
//! ```
//! A batch is a row of items: at most one snapshot mark, entries, at most one hard state. A long
//! frame ends with its last page: the next one would write that page again.
//! ```text
//!   1 taken, 2 installed   index u64, term u64
//!   16 + entry kind        length u32, term u64, index u64, data
//!   3 hard state           term u64, vote u64, commit u64
//!   0 padding              zeros, to the end of the body
//! ```
//! Numbers are little-endian.
//!
//! Invariants:
//! - The salt is the crc of the segment's header frame, itself salted with zero. It depends on
//!   everything logged before, so no client can write a value that passes for a frame.
//! - `previous` alone makes a frame part of the log. A head that is valid by itself proves that the
//!   frame was once written, not that it counts.

use bytes::{Buf, Bytes};

use crate::error::Fault;

use super::{Batch, Entry, EntryKind, HardState, Mark, Snapshot};

/// What a disk writes whole or not at all; frames do not share one.
pub const SECTOR_BYTES: u64 = 512;
/// What the system caches and writes as a unit.
pub const PAGE_BYTES: u64 = 4096;
pub const HEAD_BYTES: usize = 40;
/// A frame larger than this is a bug, not a batch.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// From this size on a frame is padded to whole pages. A shorter one would grow too much.
const WHOLE_PAGES_FROM: u64 = if cfg!(test) { 2 * SECTOR_BYTES } else { PAGE_BYTES };

const PADDING: u8 = 0;
const TAKEN: u8 = 1;
const INSTALLED: u8 = 2;
const HARD_STATE: u8 = 3;
const ENTRY: u8 = 16;
const ENTRY_HEAD_BYTES: usize = 1 + 4 + 8 + 8;

/// What a frame takes over from the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub sequence: u64,
    pub salt: u32,
    pub previous: u32,
    pub epoch: u32,
}

/// The head of a frame, its own checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub crc: u32,
    pub body_crc: u32,
    pub previous: u32,
    pub length: u32,
    pub epoch: u32,
    pub sequence: u64,
    pub synced: u64,
}

/// The items of a batch, read back.
#[derive(Debug, Default)]
pub struct Items {
    pub snapshot: Option<Mark>,
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
}

impl Head {
    /// Reads a head if these bytes are one of that segment.
    pub fn decode(bytes: &[u8], sequence: u64, salt: u32) -> Option<Head> {
        let mut rest = bytes.get(..HEAD_BYTES)?;
        let checked = &rest[4..];
        let crc = rest.get_u32_le();
        let body_crc = rest.get_u32_le();
        let previous = rest.get_u32_le();
        let length = rest.get_u32_le();
        let epoch = rest.get_u32_le();
        let _zero = rest.get_u32_le();
        let head = Head {
            crc,
            body_crc,
            previous,
            length,
            epoch,
            sequence: rest.get_u64_le(),
            synced: rest.get_u64_le(),
        };
        // The cheap question first: this is asked of every sector behind the tail.
        (head.sequence == sequence && checksum(salt, checked) == crc).then_some(head)
    }

    /// Whether `body` is the one this head was written with.
    pub fn covers(&self, body: &[u8], salt: u32) -> bool {
        checksum(salt, body) == self.body_crc
    }
}

/// The size of a frame on disk: head, body and the rest of its last sector.
pub fn frame_bytes(body_bytes: u64) -> Result<u64, Fault> {
    if body_bytes > BODY_BYTES_MAX {
        return Err(Fault::Broken(format!("a batch of {body_bytes} bytes is too large to log")));
    }
    Ok((HEAD_BYTES as u64 + body_bytes).next_multiple_of(SECTOR_BYTES))
}

/// What a frame of `bytes` at `offset` is padded with.
pub fn padding(offset: u64, bytes: u64) -> u64 {
    if bytes < WHOLE_PAGES_FROM {
        return 0;
    }
    let end = offset + bytes;
    end.next_multiple_of(PAGE_BYTES) - end
}

/// Makes room for the head; the body follows it into the buffer.
pub fn begin(buffer: &mut Vec<u8>) {
    buffer.resize(HEAD_BYTES, 0);
}

/// Fills in the head of the frame in `buffer`, and returns what the next frame takes over.
pub fn seal(buffer: &mut [u8], link: Link, synced: u64) -> Link {
    let (head, body) = buffer.split_at_mut(HEAD_BYTES);
    let body_crc = checksum(link.salt, body);
    head[4..8].copy_from_slice(&body_crc.to_le_bytes());
    head[8..12].copy_from_slice(&link.previous.to_le_bytes());
    head[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[16..20].copy_from_slice(&link.epoch.to_le_bytes());
    head[24..32].copy_from_slice(&link.sequence.to_le_bytes());
    head[32..40].copy_from_slice(&synced.to_le_bytes());
    let crc = checksum(link.salt, &head[4..]);
    head[..4].copy_from_slice(&crc.to_le_bytes());
    Link { previous: crc, ..link }
}

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// The size of a batch's body.
pub fn batch_bytes(batch: &Batch<'_>) -> u64 {
    let snapshot = if batch.snapshot.is_some() { 17 } else { 0 };
    let hard_state = if batch.hard_state.is_some() { 25 } else { 0 };
    let entries = batch.entries.iter().map(|entry| ENTRY_HEAD_BYTES + entry.data.len());
    entries.sum::<usize>() as u64 + snapshot + hard_state
}

pub fn encode_batch(buffer: &mut Vec<u8>, batch: &Batch<'_>) {
    if let Some(mark) = batch.snapshot {
        let (tag, Snapshot { index, term }) = match mark {
            Mark::Taken(snapshot) => (TAKEN, snapshot),
            Mark::Installed(snapshot) => (INSTALLED, snapshot),
        };
        buffer.push(tag);
        put(buffer, &[index, term]);
    }
    for entry in batch.entries {
        let mut head = [0; ENTRY_HEAD_BYTES];
        head[0] = ENTRY + entry.kind as u8;
        head[1..5].copy_from_slice(&(entry.data.len() as u32).to_le_bytes());
        head[5..13].copy_from_slice(&entry.term.to_le_bytes());
        head[13..21].copy_from_slice(&entry.index.to_le_bytes());
        buffer.extend_from_slice(&head);
        buffer.extend_from_slice(&entry.data);
    }
    if let Some(HardState { term, vote, commit }) = batch.hard_state {
        buffer.push(HARD_STATE);
        put(buffer, &[term, vote, commit]);
    }
}

/// Appends numbers.
pub fn put(buffer: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
}

/// Reads a batch back. The data of entries are slices of `body`.
pub fn decode_batch(mut body: Bytes) -> Result<Items, &'static str> {
    let mut items = Items::default();
    while body.has_remaining() {
        let tag = body.get_u8();
        if items.hard_state.is_some() && tag != PADDING {
            return Err("something follows the hard state of a record");
        }
        match tag {
            PADDING => {
                if body.iter().any(|byte| *byte != 0) {
                    return Err("padding is not empty");
                }
                break;
            }
            tag @ (TAKEN | INSTALLED) => {
                if items.snapshot.is_some() || !items.entries.is_empty() {
                    return Err("a snapshot mark is out of place");
                }
                let [index, term] = numbers(&mut body)?;
                let snapshot = Snapshot { index, term };
                items.snapshot = Some(match tag {
                    TAKEN => Mark::Taken(snapshot),
                    _ => Mark::Installed(snapshot),
                });
            }
            HARD_STATE => {
                let [term, vote, commit] = numbers(&mut body)?;
                items.hard_state = Some(HardState { term, vote, commit });
            }
            tag => items.entries.push(decode_entry(tag, &mut body)?),
        }
    }
    Ok(items)
}

fn decode_entry(tag: u8, body: &mut Bytes) -> Result<Entry, &'static str> {
    let kind = match tag.checked_sub(ENTRY) {
        Some(0) => EntryKind::Normal,
        Some(1) => EntryKind::ConfChange,
        Some(2) => EntryKind::ConfChangeV2,
        Some(_) | None => return Err("an item is of an unknown kind"),
    };
    if body.remaining() < ENTRY_HEAD_BYTES - 1 {
        return Err("an item is cut short");
    }
    let length = body.get_u32_le() as usize;
    let [term, index] = numbers(body)?;
    if body.remaining() < length {
        return Err("an entry is cut short");
    }
    // An empty slice would still hold on to the whole buffer it was cut from.
    let data = if length == 0 { Bytes::new() } else { body.split_to(length) };
    Ok(Entry { term, index, kind, data })
}

/// Takes numbers off the front.
pub fn numbers<const N: usize>(body: &mut impl Buf) -> Result<[u64; N], &'static str> {
    if body.remaining() < N * 8 {
        return Err("an item is cut short");
    }
    Ok(std::array::from_fn(|_| body.get_u64_le()))
}
