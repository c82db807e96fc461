//! The rows of an etcd snapshot: a walk whose buckets are etcd's tables.

use bytes::Bytes;

use super::check::Report;
use super::error::Error;
use super::reader::Reader;
use super::tree::{Item, Walk};
use crate::storage::engine::Table;

/// One row of one table. The slices keep the page they are on in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub table: Table,
    pub key: Bytes,
    pub value: Bytes,
}

/// All rows of a snapshot, ordered by table and key. Ends after an error.
///
/// A bucket that is not one of etcd's may be empty; a row in one is an error, for it would be lost.
pub struct TableRows<'a> {
    walk: Walk<'a>,
    table: Result<Table, Bytes>,
}

impl<'a> TableRows<'a> {
    pub(super) fn new(reader: &Reader<'a>) -> Self {
        Self { walk: reader.walk(), table: Err(Bytes::new()) }
    }

    /// Reads what is left, then accounts for every page of the file.
    pub fn finish(self) -> Result<Report, Error> {
        self.walk.finish()
    }
}

impl Iterator for TableRows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.walk.next()? {
                Err(error) => return Some(Err(error)),
                Ok(Item::Bucket(name)) => {
                    let known =
                        Table::ALL.into_iter().find(|table| table.name().as_bytes() == name);
                    self.table = known.ok_or(name);
                }
                Ok(Item::Row { key, value }) => {
                    return Some(match &self.table {
                        Ok(table) => Ok(Row { table: *table, key, value }),
                        Err(name) => Err(Error::unknown_bucket(name)),
                    });
                }
            }
        }
    }
}
