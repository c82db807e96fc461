//! The state engine: ordered tables of bytes that change by atomic, durable batches.
//!
//! The tables are etcd's bbolt buckets, their rows byte-identical to etcd's, so that hashes agree
//! and a snapshot is the same tables in another container. Three engines implement the trait:
//! redb (default), sled, and an in-memory model the simulator shares.
//!
//! Invariants:
//! - [`Engine::commit`] returns after the batch is durable, all of it; a crash leaves all or none.
//! - A [`View`] sees one commit and keeps seeing it while later commits happen.
//! - A row that does not read back as it was written is a fault, never a value (see
//!   [`seal`](super::seal)).

use std::fmt::Debug;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::Fault;

/// A table, by etcd's bucket name. Its number is on disk: it is never given to another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Alarm = 0,
    Auth = 1,
    AuthRoles = 2,
    AuthUsers = 3,
    Cluster = 4,
    Key = 5,
    Lease = 6,
    Members = 7,
    MembersRemoved = 8,
    Meta = 9,
}

impl Table {
    /// How many tables there are.
    pub const COUNT: usize = 10;

    /// Every table, in the order of their names, which is the order bbolt keeps them in.
    pub const ALL: [Table; Self::COUNT] = [
        Table::Alarm,
        Table::Auth,
        Table::AuthRoles,
        Table::AuthUsers,
        Table::Cluster,
        Table::Key,
        Table::Lease,
        Table::Members,
        Table::MembersRemoved,
        Table::Meta,
    ];

    /// etcd's name of the bucket.
    pub fn name(self) -> &'static str {
        match self {
            Table::Alarm => "alarm",
            Table::Auth => "auth",
            Table::AuthRoles => "authRoles",
            Table::AuthUsers => "authUsers",
            Table::Cluster => "cluster",
            Table::Key => "key",
            Table::Lease => "lease",
            Table::Members => "members",
            Table::MembersRemoved => "members_removed",
            Table::Meta => "meta",
        }
    }
}

/// One change to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put { table: Table, key: Bytes, value: Bytes },
    Delete { table: Table, key: Bytes },
}

impl Write {
    /// The table of the row.
    pub fn table(&self) -> Table {
        match self {
            Write::Put { table, .. } | Write::Delete { table, .. } => *table,
        }
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> u64 {
        let value = match self {
            Write::Put { value, .. } => value.len(),
            Write::Delete { .. } => 0,
        };
        (self.key().len() + value) as u64
    }

    /// The key of the row.
    pub fn key(&self) -> &Bytes {
        match self {
            Write::Put { key, .. } | Write::Delete { key, .. } => key,
        }
    }
}

/// A store of ordered tables.
pub trait Engine: Debug + Send + Sync {
    /// The engine's name, as `--storage-engine` spells it.
    fn name(&self) -> &'static str;
    /// Applies `writes` in order, atomically, and makes them durable before returning.
    ///
    /// After a fault nothing more may be committed; the node stops.
    fn commit(&self, writes: &[Write]) -> Result<(), Fault>;
    /// The newest commit, held still.
    fn view(&self) -> Result<Box<dyn View>, Fault>;
    /// Bytes the engine occupies on disk, free ones included; only a defragmentation shrinks it.
    fn size_bytes(&self) -> Result<u64, Fault>;
    /// Bytes of the keys and values of all rows, what a defragmentation would about come down to.
    fn used_bytes(&self) -> Result<u64, Fault>;
}

/// Bytes of the keys and values of all rows of some tables, which are read for it.
pub fn count_bytes(view: &dyn View, tables: impl IntoIterator<Item = Table>) -> Result<u64, Fault> {
    let mut bytes = 0;
    for table in tables {
        view.scan(table, &[], None, &mut |key, value| {
            bytes += (key.len() + value.len()) as u64;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(bytes)
}

/// What [`View::scan`] calls for each row; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Fault> + 'a;

/// What [`View::get_each`] calls for each key, by its place in the list.
pub type Found<'a> = dyn FnMut(usize, Option<&[u8]>) -> Result<(), Fault> + 'a;

/// One commit of an engine.
pub trait View: Send + Sync {
    /// The value of a row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let mut value = None;
        self.get_each(table, &[key], &mut |_, found| {
            value = found.map(Bytes::copy_from_slice);
            Ok(())
        })?;
        Ok(value)
    }
    /// Visits the values of `keys` in the order given, without copying them.
    fn get_each(&self, table: Table, keys: &[&[u8]], found: &mut Found<'_>) -> Result<(), Fault>;
    /// Visits rows with `from` ≤ key < `to` in key order; `None` is the end of the table.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Fault>;
    /// Refuses the commit if its rows are not as many bytes as whoever read all of them has found:
    /// damage may hide rows from a scan. An engine that does not count refuses nothing.
    fn check_found(&self, _bytes: u64) -> Result<(), Fault> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod conformance;
