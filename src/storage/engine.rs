//! The state engine: ordered tables of bytes that change by atomic, durable batches.
//!
//! The tables are etcd's bbolt buckets, their rows byte-identical to etcd's, so that hashes agree
//! and a snapshot is the same tables in another container. Three engines implement the trait:
//! redb (default), sled, and an in-memory model the simulator shares.
//!
//! Invariants:
//! - [`Engine::commit`] returns after the batch is durable, all of it; a crash leaves all or none.
//! - A [`View`] sees one commit and keeps seeing it while later commits happen.

use std::fmt::Debug;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::Fault;

/// A table, by etcd's bucket name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Alarm,
    Auth,
    AuthRoles,
    AuthUsers,
    Cluster,
    Key,
    Lease,
    Members,
    MembersRemoved,
    Meta,
}

impl Table {
    /// Every table, in the order of their names, which is the order bbolt keeps them in.
    pub const ALL: [Table; 10] = [
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

/// A store of ordered tables.
pub trait Engine: Debug + Send + Sync {
    /// The engine's name, as `--storage-engine` spells it.
    fn name(&self) -> &'static str;
    /// Applies `writes` in order, atomically, and makes them durable before returning.
    fn commit(&self, writes: &[Write]) -> Result<(), Fault>;
    /// The newest commit, held still.
    fn view(&self) -> Result<Box<dyn View>, Fault>;
    /// Bytes the engine occupies on disk.
    fn size_bytes(&self) -> Result<u64, Fault>;
}

/// What [`View::scan`] calls for each row; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Fault> + 'a;

/// One commit of an engine.
pub trait View: Send {
    /// The value of a row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault>;
    /// Visits rows with `from` ≤ key < `to` in key order; `None` is the end of the table.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Fault>;
}
