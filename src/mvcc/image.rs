//! An image: the index as of one revision, in a file, so that a restart need not read every row.
//!
//! The engine's rows stand in the order of their revisions, so an image stays useful as it ages:
//! opening a store takes the image and reads only the rows behind it. It saves time and holds
//! nothing that the engine does not; without one, or with a damaged one, all rows are read.
//!
//! | block | payload |
//! |---|---|
//! | 1 head | newest row: main 8, sub 4; undo log: first 8, next 8; compaction cursor 8; tombstones 8 |
//! | 2 leaf | a leaf of the index |
//! | 3 chunk | a chunk of the undo log |
//! | 4 tombstone | main 8, sub 4, key |
//!
//! Invariants:
//! - An image is written after the engine committed the row it ends with, never ahead of it.
//! - It serves until a compaction goes beyond its revision. From then on tombstones may be gone
//!   from the engine that the image never saw, and what they deleted would live again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::index::{Builder, Index, Pieces};
use super::revision::Revision;
use super::store::Store;
use crate::error::Fault;
use crate::storage::blocks::{Reader, Writer};

const HEAD: u8 = 1;
const LEAF: u8 = 2;
const CHUNK: u8 = 3;
const TOMBSTONE: u8 = 4;

/// The index of one moment, and what compaction knows beside it.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) index: Index,
    /// The newest row it knows.
    pub(super) newest: Revision,
    pub(super) cursor: u64,
    pub(super) tombstones: VecDeque<(Revision, Bytes)>,
}

impl Store {
    /// The store's image now. It may be written once the engine holds the batch taken with it.
    pub fn image(&self) -> Image {
        let (cursor, tombstones) = self.compactor.remembered();
        Image { index: self.index.clone(), newest: self.newest, cursor, tombstones }
    }
}

impl Image {
    /// The newest row it knows.
    pub fn newest(&self) -> Revision {
        self.newest
    }

    /// Writes the image.
    pub fn write(&self, file: &mut Writer) -> Result<(), Fault> {
        let (first, next) = self.index.sequences();
        let tombstones = self.tombstones.len() as u64;
        file.put(
            HEAD,
            &[
                &self.newest.main.to_le_bytes(),
                &self.newest.sub.to_le_bytes(),
                &first.to_le_bytes(),
                &next.to_le_bytes(),
                &self.cursor.to_le_bytes(),
                &tombstones.to_le_bytes(),
            ],
        )?;
        self.index.save(&mut IntoFile(file))?;
        for (revision, key) in &self.tombstones {
            let (main, sub) = (revision.main.to_le_bytes(), revision.sub.to_le_bytes());
            file.put(TOMBSTONE, &[&main, &sub, key])?;
        }
        Ok(())
    }

    /// Reads an image.
    pub fn read(file: &mut Reader) -> Result<Self, Fault> {
        let Some((HEAD, mut head)) = file.next_block()? else {
            return Err(file.damage("it has no head"));
        };
        let parsed = take_head(&mut head).filter(|_| head.is_empty());
        let Some(Head { newest, sequences, cursor, tombstones: count }) = parsed else {
            return Err(file.damage("its head is not of this version"));
        };
        let mut builder = Builder::default();
        let mut tombstones = VecDeque::new();
        while let Some((kind, payload)) = file.next_block()? {
            let taken = match kind {
                LEAF => builder.leaf(payload),
                CHUNK => builder.chunk(payload),
                TOMBSTONE => take_tombstone(payload)
                    .filter(|(at, _)| tombstones.back().is_none_or(|(last, _)| last < at))
                    .map(|tombstone| tombstones.push_back(tombstone))
                    .is_some(),
                _ => false,
            };
            if !taken {
                return Err(file.damage("a block does not fit in"));
            }
        }
        match builder.build(sequences).filter(|_| tombstones.len() as u64 == count) {
            Some(index) => Ok(Self { index, newest, cursor, tombstones }),
            None => Err(file.damage("blocks are missing")),
        }
    }
}

struct IntoFile<'a>(&'a mut Writer);

impl Pieces for IntoFile<'_> {
    fn leaf(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.0.put(LEAF, &[bytes])
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.0.put(CHUNK, &[bytes])
    }
}

struct Head {
    newest: Revision,
    sequences: (u64, u64),
    cursor: u64,
    tombstones: u64,
}

fn take_head(rest: &mut &[u8]) -> Option<Head> {
    Some(Head {
        newest: take_revision(rest)?,
        sequences: (take_long(rest)?, take_long(rest)?),
        cursor: take_long(rest)?,
        tombstones: take_long(rest)?,
    })
}

fn take_tombstone(mut payload: &[u8]) -> Option<(Revision, Bytes)> {
    let revision = take_revision(&mut payload)?;
    Some((revision, Bytes::copy_from_slice(payload)))
}

fn take_revision(rest: &mut &[u8]) -> Option<Revision> {
    let main = i64::try_from(take_long(rest)?).ok()?;
    let sub = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?);
    Some(Revision::new(main, sub))
}

fn take_long(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*rest.split_off(..8)?.first_chunk()?))
}
