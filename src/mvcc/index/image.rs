//! The index in pieces that can be stored, and built again from them.
//!
//! Leaves and chunks of the undo log are plain bytes already, so they are stored as they are. What
//! stands above the leaves is made anew from their first and last keys: it is small, and this way
//! no pointer is ever read from a file.
//!
//! What is read has been checked against its checksum by the caller. Still every piece is looked at
//! before it is believed, so that a file of another making is refused and not walked into.

use super::leaf::Leaf;
use super::node::Child;
use super::undo::Undo;
use super::{Index, Sequence};
use crate::error::Fault;

/// Receives the pieces of an index, in order: leaves first, then chunks.
pub trait Pieces {
    fn leaf(&mut self, bytes: &[u8]) -> Result<(), Fault>;
    fn chunk(&mut self, bytes: &[u8]) -> Result<(), Fault>;
}

impl Index {
    /// Hands out all pieces.
    pub fn save(&self, pieces: &mut dyn Pieces) -> Result<(), Fault> {
        self.root.each_leaf(&mut |leaf| pieces.leaf(leaf.bytes()))?;
        self.undo.each_chunk(&mut |bytes| pieces.chunk(bytes))
    }

    /// Where the undo log begins and ends; to be given to [`Builder::build`].
    pub fn sequences(&self) -> (Sequence, Sequence) {
        self.undo.bounds()
    }
}

/// An index being built from its pieces.
#[derive(Debug, Default)]
pub struct Builder {
    leaves: Vec<Leaf>,
    chunks: Vec<Vec<u64>>,
}

impl Builder {
    /// Takes the next leaf; says whether it is one.
    pub fn leaf(&mut self, bytes: &[u8]) -> bool {
        let leaf = Leaf::from_bytes(bytes);
        let follows = |leaf: &Leaf| match (self.leaves.last(), leaf.first_key()) {
            (Some(last), Some(first)) => last.last_key().is_some_and(|last| last < first),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        match leaf.filter(follows) {
            Some(leaf) => {
                self.leaves.push(leaf);
                true
            }
            None => false,
        }
    }

    /// Takes the next chunk of the undo log; says whether it can be one.
    pub fn chunk(&mut self, bytes: &[u8]) -> bool {
        let (words, rest) = bytes.as_chunks();
        self.chunks.push(words.iter().map(|word| u64::from_le_bytes(*word)).collect());
        rest.is_empty()
    }

    /// The index, if the pieces make one.
    pub fn build(self, sequences: (Sequence, Sequence)) -> Option<Index> {
        let undo = Undo::from_chunks(self.chunks, sequences)?;
        let root = Child::above(self.leaves);
        Some(Index { root, undo })
    }
}
