//! What a command does to the store, counted as etcd counts it: by calls of its store, not by rows.
//!
//! A command is one transaction of the store, or two: the compares of one that writes, and the rows
//! its puts need to be there, are read in a transaction of their own.

/// Numbers of things done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ranges: u64,
    pub puts: u64,
    pub deletes: u64,
    /// Bytes of the keys and values put.
    pub put_bytes: i64,
    /// Transactions that did more than one thing.
    pub txns: u64,
}

impl Counts {
    /// Of one range.
    pub fn of_range() -> Self {
        Self { ranges: 1, ..Self::default() }
    }

    /// All that was counted was one transaction of the store.
    pub fn end(mut self) -> Self {
        self.txns = u64::from(self.ranges + self.puts + self.deletes > 1);
        self
    }

    /// Adds what another command did.
    pub fn add(&mut self, other: Self) {
        self.ranges += other.ranges;
        self.puts += other.puts;
        self.deletes += other.deletes;
        self.put_bytes += other.put_bytes;
        self.txns += other.txns;
    }
}
