//! The default state engine: redb's copy-on-write B-trees, in one file behind the disk seam.
//!
//! ```text
//! commit   one write transaction; sorted runs of rows go in through a cursor
//! view     one read transaction; the tables it needs are opened once and kept
//! disk     redb → Backend → DiskFile, real or simulated
//! ```
//!
//! **How a commit becomes durable.** Two phases, with the allocator's state saved in each commit
//! (redb calls it quick repair). Our log is replayed over whatever complete commit the file holds,
//! so one phase would be correct too, but:
//! - After an unclean stop one phase has to read the whole file three times before it can open:
//!   1.3 s per GiB from the page cache, more from a disk. Two phases with the allocator's state
//!   open in milliseconds, whatever the size.
//! - What one phase rests on, that a torn commit fails its checksum, is not meant to hold against
//!   values chosen by an attacker (redb's own documentation), and ours are chosen by clients.
//! - The double-crash bugs fixed in redb 4.2 and 4.3 were in one-phase recovery.
//! - Pages whose sync failed look written to the next process. In one phase our fault test loses
//!   the whole file that way.
//!
//! The price is a second sync per checkpoint and the allocator's state, 9 KiB in a small file and
//! about 140 KiB more per GiB, on a path nobody waits for.
//!
//! Invariants:
//! - A file under its final name is a complete engine: it is made under another name first.
//! - Every value is sealed; redb checks its pages when it repairs, not when it reads.
//! - After a write failed, the file is marked as suspect, and the next to open it believes the
//!   medium, not the cache: a page or a length whose sync failed looks durable there.
//! - A view keeps the file open and its pages from being reused, also after the engine is dropped.
//!   Views are meant to live for a request, not for hours.
//!
//! Deliberately absent: `Database::compact`, which needs the database to itself; [`super::defrag`]
//! does the same while the engine is in use. Locking the file: the data directory is locked once.

mod backend;

use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ::redb::{
    CursorError, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition,
};

use self::backend::{Backend, Place};
use super::disk::{Disk, DiskFile};
use super::engine::{Engine, Found, Table, View, Visit, Write};
use super::seal::{SEAL_BYTES, seal, unseal};
use crate::error::Fault;
use crate::planted::{Mistake, planted};

/// A bound for the pages redb keeps in memory; its own default is 1 GiB.
pub const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The engine's own numbers, in the same transaction as the rows they count.
const FACTS: TableDefinition<'static, &str, u64> = TableDefinition::new("kvorum");
/// The number behind [`Engine::used_bytes`].
const USED_BYTES: &str = "used_bytes";
/// Ascending puts that are worth a cursor: it costs a descent and saves one per row.
const RUN_MIN: usize = 4;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
type ReadRows = ReadOnlyTable<&'static [u8], &'static [u8]>;
type WriteRows<'t> = ::redb::Table<'t, &'static [u8], &'static [u8]>;

/// The engine in one file.
pub struct Redb {
    database: Arc<Database>,
    file: Arc<dyn DiskFile>,
    place: Arc<Place>,
    used_bytes: AtomicU64,
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").field("path", &self.place.path()).finish_non_exhaustive()
    }
}

impl Redb {
    /// Opens the engine in the file at `path`, making an empty one if there is none.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Result<Self, Fault> {
        let place = Place::new(disk, path);
        if !place.exists() {
            create(&place)?;
        }
        let file = place.open()?;
        let length = file.len().map_err(|source| Fault::io("measure", path, source))?;
        if length == 0 {
            // redb would make an empty database of it.
            return Err(corrupt(&place, "the file is empty".to_owned()));
        }
        let opened = database(&place, &file, cache_bytes);
        let opened =
            opened.and_then(|database| Ok((used_bytes(&database.begin_read()?)?, database)));
        let (used_bytes, database) = opened.map_err(|error| fault(&place, "open", error))?;
        let (database, used_bytes) = (Arc::new(database), AtomicU64::new(used_bytes));
        Ok(Self { database, file, place, used_bytes })
    }

    /// Opens an empty engine in the file at `path`, whatever was there before.
    pub fn open_empty(
        disk: &Arc<dyn Disk>,
        path: &Path,
        cache_bytes: usize,
    ) -> Result<Self, Fault> {
        Place::new(disk, path).empty()?;
        Self::open(disk, path, cache_bytes)
    }

    /// Gives the engine's file another name, in the place of the file that has it now. Views and
    /// commits do not notice.
    pub fn rename(&self, path: &Path) -> Result<(), Fault> {
        self.place.rename(path)
    }

    /// Applies and commits; returns the new [`Engine::used_bytes`].
    fn write(&self, writes: &[Write]) -> Result<u64, ::redb::Error> {
        // While the state before it is pinned, a commit leaves the pages it frees to the next one.
        // Otherwise redb ends it with a commit in memory that frees them, and until the next real
        // one each read that misses the cache looks through all of the write buffer.
        let _pinned = self.database.begin_read()?;
        let mut transaction = self.database.begin_write()?;
        if planted(Mistake::EngineUnsynced) {
            // Refused only while savepoints are made, which nobody does.
            let _ = transaction.set_durability(::redb::Durability::None);
        }
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        let mut used = self.used_bytes.load(Ordering::Acquire);
        for table in Table::ALL {
            let of_table = writes.iter().filter(|write| write.table() == table);
            let of_table: Vec<&Write> = of_table.collect();
            if !of_table.is_empty() {
                let rows = transaction.open_table(rows_of(table))?;
                let grown =
                    Writer { table, rows, sealed: Vec::new(), grown: 0 }.apply(&of_table)?;
                used = used.saturating_add_signed(grown);
            }
        }
        transaction.open_table(FACTS)?.insert(USED_BYTES, used)?;
        transaction.commit()?;
        Ok(used)
    }
}

impl Engine for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Fault> {
        let used = self.write(writes);
        let used = used.map_err(|error| fault(&self.place, "commit to", error))?;
        self.used_bytes.store(used, Ordering::Release);
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        let transaction = self.database.begin_read();
        let transaction = transaction.map_err(|error| fault(&self.place, "read", error))?;
        Ok(Box::new(Snapshot {
            tables: [const { OnceLock::new() }; Table::COUNT],
            transaction,
            place: Arc::clone(&self.place),
            _database: Arc::clone(&self.database),
        }))
    }

    fn size_bytes(&self) -> Result<u64, Fault> {
        // Not the length: redb doubles the file when it grows, and the new half is a hole.
        self.file.occupied().map_err(|source| Fault::io("measure", &self.place.path(), source))
    }

    fn used_bytes(&self) -> Result<u64, Fault> {
        Ok(self.used_bytes.load(Ordering::Acquire))
    }
}

/// The writes of one batch to one table.
struct Writer<'t> {
    table: Table,
    rows: WriteRows<'t>,
    sealed: Vec<u8>,
    grown: i64,
}

impl Writer<'_> {
    /// Applies `writes` in order; returns by how many bytes the rows grew.
    fn apply(mut self, writes: &[&Write]) -> Result<i64, ::redb::Error> {
        let mut rest = writes;
        while !rest.is_empty() {
            let run = ascending_puts(rest);
            let taken = if run >= RUN_MIN { self.insert_run(&rest[..run])? } else { 0 };
            // Past what the cursor took lies a row that exists: the rest of the run overwrites.
            for write in &rest[taken..run] {
                self.apply_one(write)?;
            }
            rest = &rest[run..];
        }
        Ok(self.grown)
    }

    /// Inserts ascending puts where their first key belongs, up to the next existing row; returns
    /// how many. A cursor fills pages, and is three times as fast as single inserts.
    fn insert_run(&mut self, puts: &[&Write]) -> Result<usize, ::redb::Error> {
        let mut cursor = self.rows.upper_bound_mut(Bound::Excluded(&puts[0].key()[..]))?;
        let mut taken = 0;
        for put in puts {
            let Write::Put { key, value, .. } = put else { break };
            seal(self.table, key, value, &mut self.sealed);
            match cursor.insert_before(&key[..], &self.sealed[..]) {
                Ok(()) => self.grown += row_bytes(key, &self.sealed),
                Err(CursorError::UnorderedKey) => break,
                Err(CursorError::Storage(error)) => return Err(error.into()),
                Err(error) => return Err(::redb::Error::Corrupted(error.to_string())),
            }
            taken += 1;
        }
        cursor.close()?;
        Ok(taken)
    }

    fn apply_one(&mut self, write: &Write) -> Result<(), ::redb::Error> {
        let key = write.key();
        let old = match write {
            Write::Put { value, .. } => {
                seal(self.table, key, value, &mut self.sealed);
                self.grown += row_bytes(key, &self.sealed);
                self.rows.insert(&key[..], &self.sealed[..])?
            }
            Write::Delete { .. } => self.rows.remove(&key[..])?,
        };
        self.grown -= old.map_or(0, |old| row_bytes(key, old.value()));
        Ok(())
    }
}

/// What a row counts in [`Engine::used_bytes`].
fn row_bytes(key: &[u8], sealed: &[u8]) -> i64 {
    (key.len() + sealed.len()) as i64 - SEAL_BYTES as i64
}

/// How many of the first writes are puts of strictly ascending keys; 1 if the first is no put.
fn ascending_puts(writes: &[&Write]) -> usize {
    let is_put = |write: &Write| matches!(write, Write::Put { .. });
    let ascends =
        |pair: &&[&Write]| is_put(pair[0]) && is_put(pair[1]) && pair[0].key() < pair[1].key();
    1 + writes.windows(2).take_while(ascends).count()
}

/// A read transaction and the tables opened in it so far.
struct Snapshot {
    tables: [OnceLock<ReadRows>; Table::COUNT],
    transaction: ReadTransaction,
    place: Arc<Place>,
    /// Dropped last: closing the database would fail later reads of this view.
    _database: Arc<Database>,
}

impl Snapshot {
    fn rows(&self, table: Table) -> Result<&ReadRows, Fault> {
        let slot = &self.tables[table as usize];
        if let Some(rows) = slot.get() {
            return Ok(rows);
        }
        let rows = self.transaction.open_table(rows_of(table));
        let rows = rows.map_err(|error| self.fault(error))?;
        Ok(slot.get_or_init(|| rows))
    }

    fn fault(&self, error: impl Into<::redb::Error>) -> Fault {
        fault(&self.place, "read", error)
    }
}

impl View for Snapshot {
    fn get_each(&self, table: Table, keys: &[&[u8]], found: &mut Found<'_>) -> Result<(), Fault> {
        let rows = self.rows(table)?;
        for (at, key) in keys.iter().enumerate() {
            let row = ReadableTable::get(rows, *key).map_err(|error| self.fault(error))?;
            match row {
                Some(row) => found(at, Some(unseal(table, key, row.value())?))?,
                None => found(at, None)?,
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Fault> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = ReadableTable::range::<&[u8]>(self.rows(table)?, (Bound::Included(from), to));
        for row in rows.map_err(|error| self.fault(error))? {
            let (key, sealed) = row.map_err(|error| self.fault(error))?;
            let value = unseal(table, key.value(), sealed.value())?;
            if visit(key.value(), value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn check_found(&self, bytes: u64) -> Result<(), Fault> {
        let used = used_bytes(&self.transaction).map_err(|error| self.fault(error))?;
        match bytes == used {
            true => Ok(()),
            false => {
                Err(corrupt(&self.place, format!("{bytes} bytes of rows are found of {used}")))
            }
        }
    }
}

/// Makes an empty engine under another name, then gives it its own.
fn create(place: &Arc<Place>) -> Result<(), Fault> {
    let made = database(place, &place.begin()?, CACHE_BYTES).and_then(create_tables);
    made.map_err(|error| fault(place, "create", error))?;
    place.finish()
}

fn create_tables(database: Database) -> Result<(), ::redb::Error> {
    let transaction = database.begin_write()?;
    for table in Table::ALL {
        transaction.open_table(rows_of(table))?;
    }
    transaction.open_table(FACTS)?.insert(USED_BYTES, 0)?;
    Ok(transaction.commit()?)
}

fn database(
    place: &Arc<Place>,
    file: &Arc<dyn DiskFile>,
    cache_bytes: usize,
) -> Result<Database, ::redb::Error> {
    let backend = Backend { file: Arc::clone(file), place: Arc::clone(place) };
    Ok(Database::builder().set_cache_size(cache_bytes).create_with_backend(backend)?)
}

/// Finds every table present and reads [`USED_BYTES`].
fn used_bytes(transaction: &ReadTransaction) -> Result<u64, ::redb::Error> {
    for table in Table::ALL {
        transaction.open_table(rows_of(table))?;
    }
    let facts = transaction.open_table(FACTS)?;
    let used = ReadableTable::get(&facts, USED_BYTES)?
        .ok_or_else(|| ::redb::Error::Corrupted("it does not know how much it holds".to_owned()))?;
    Ok(used.value())
}

fn rows_of(table: Table) -> Rows {
    TableDefinition::new(table.name())
}

fn corrupt(place: &Place, what: String) -> Fault {
    let advice = "Replace this member's data from its peers or a snapshot";
    Fault::Corrupt { path: place.path(), offset: 0, what, advice }
}

fn fault(place: &Place, action: &'static str, error: impl Into<::redb::Error>) -> Fault {
    match error.into() {
        ::redb::Error::Io(source) => Fault::io(action, &place.path(), source),
        ::redb::Error::Corrupted(what) => corrupt(place, what),
        error => Fault::Engine { engine: "redb", what: format!("cannot {action} it: {error}") },
    }
}

#[cfg(test)]
mod tests;
