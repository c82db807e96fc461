//! The bytes that drive a fuzzed run, read as choices; fuzz bodies add what their rooms speak of.

use bytes::Bytes;

/// What is left of the bytes.
pub(crate) struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    /// The next byte, if there is one.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// A number below `bound`; 0 at the end.
    pub fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// Some of the bytes, as they are.
    pub fn piece(&mut self) -> Bytes {
        let length = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        Bytes::copy_from_slice(piece)
    }
}
