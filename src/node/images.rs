//! Images of the index: when one is due, and the thread that writes it.
//!
//! An image makes the next start quick (see `mvcc::Image`), and it costs writing the whole index.
//! So it is written where it helps: when the member stops, when a compaction has ended the use of
//! the one before, and when so much was written since that reading it all would take a while. What
//! that adds to the bytes written for clients is bounded, and small states go without.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::errands::{Errand, Errands};
use crate::error::Fault;
use crate::limits;
use crate::mvcc::{Image, Reader};
use crate::storage::blocks;
use crate::storage::state::Place;

/// A state of fewer bytes is read in a moment.
const STATE_BYTES_MIN: i64 = 16 << 20;
/// Rows of this many bytes behind an image make another due, whatever its size.
const BEHIND_BYTES: u64 = 256 << 20;
/// An image is due when rows of this many times its size were written.
const BEHIND_IMAGES: u64 = 16;
/// After a compaction an image is due when rows of this part of its size were written.
const COMPACTED_PART: u64 = 4;

/// The image a member left, unless there is none that can be read.
pub(super) fn read(place: &Place) -> Option<Image> {
    let read = || match blocks::Reader::open(&*place.disk, &place.image_path())? {
        Some(mut file) => Image::read(&mut file).map(Some),
        None => Ok(None),
    };
    read().unwrap_or_else(|fault: Fault| {
        tracing::warn!(%fault, "the image of the index is of no use: reading all rows instead");
        None
    })
}

/// Decides when an image is due.
pub(super) struct Pace {
    /// Bytes of the newest image, as far as this process wrote one.
    size_bytes: Arc<AtomicU64>,
    /// Bytes of rows ever applied when the newest image was taken.
    taken_at: u64,
    /// Whether the one before serves no longer, or there is none.
    wanted: bool,
}

impl Pace {
    /// Of a process that starts on what `reader` shows, with an image of it or without.
    pub fn new(has_image: bool, reader: &Reader, size_bytes: Arc<AtomicU64>) -> Self {
        Self { size_bytes, taken_at: 0, wanted: !has_image && is_worth(reader) }
    }

    /// A compaction has ended: the newest image may serve no longer.
    pub fn compacted(&mut self) {
        self.wanted = true;
    }

    /// Whether the next checkpoint should carry an image; the last one before a stop is `last`.
    pub fn take(&mut self, reader: &Reader, last: bool) -> bool {
        let behind = reader.applied_bytes() - self.taken_at;
        let size = self.size_bytes.load(Ordering::Relaxed);
        let due = if last {
            self.wanted || behind > 0
        } else if self.wanted {
            behind >= size / COMPACTED_PART
        } else {
            behind >= BEHIND_BYTES.max(size * BEHIND_IMAGES)
        };
        let due = due && is_worth(reader);
        if due {
            self.taken_at = reader.applied_bytes();
            self.wanted = false;
        }
        due
    }
}

/// Whether reading all of the state would take a while. A size that cannot be told is the
/// checkpoint's trouble.
fn is_worth(reader: &Reader) -> bool {
    reader.live_bytes().is_ok_and(|bytes| bytes >= STATE_BYTES_MIN)
}

/// Writes images, one at a time, on a thread that ends with each.
pub(super) struct Writer {
    size_bytes: Arc<AtomicU64>,
    errands: Errands,
    writing: Option<Errand>,
}

impl Writer {
    pub fn new(size_bytes: Arc<AtomicU64>, errands: Errands) -> Self {
        Self { size_bytes, errands, writing: None }
    }

    /// Writes an image that the engine has come up to, after the one that is being written.
    pub fn write(&mut self, image: Image, place: &Place) {
        self.wait();
        let (place, size_bytes) = (place.clone(), self.size_bytes.clone());
        let written = async move {
            match write(&image, &place, size_bytes.load(Ordering::Relaxed)) {
                Ok(bytes) => size_bytes.store(bytes, Ordering::Relaxed),
                // The next start takes longer; nothing else comes of it.
                Err(fault) => tracing::warn!(%fault, "cannot write an image of the index"),
            }
        };
        self.writing = self.errands.send("index-image", written).ok();
    }

    /// Waits for the image that is being written, if there is one.
    pub fn wait(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.wait();
        }
    }
}

fn write(image: &Image, place: &Place, expected_bytes: u64) -> Result<u64, Fault> {
    let path: PathBuf = place.image_path();
    let room = place.free_bytes()?.saturating_sub(limits::DISK_RESERVE_BYTES);
    if room < expected_bytes.saturating_mul(2) {
        tracing::warn!("too little space for an image of the index: going without");
        return Ok(expected_bytes);
    }
    let mut file = blocks::Writer::create(&place.disk, &path)?;
    match image.write(&mut file) {
        Ok(()) => file.finish(),
        Err(fault) => {
            file.give_up();
            Err(fault)
        }
    }
}
