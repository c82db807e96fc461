//! Tools against the output of etcd's own, recorded, and against damage.
//!
//! The recordings are in `tests/fixtures/bolt`, with the commands that made them.

mod import;
mod restore;
mod rewrite;
mod status;
mod verify;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use crate::bolt::tests::files::{Rows, Tables, write};
use crate::bolt::trailer::Trailer;
use crate::config::{Config, StorageEngine};
use crate::storage::disk::RealDisk;
use crate::storage::engine::Table;
use crate::storage::layout::Layout;
use crate::storage::state::Place;

use super::restore::{Options, Restored};

/// A directory for the files of one test.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        path
    }

    /// A member to be, as the recorded restore was told.
    fn config(&self, storage_engine: StorageEngine) -> Config {
        let url = "http://127.0.0.1:2380".to_owned();
        Config {
            name: "n".to_owned(),
            data_dir: self.path("data"),
            initial_advertise_peer_urls: vec![url.clone()],
            initial_cluster: vec![("n".to_owned(), url)],
            initial_cluster_token: "restored".to_owned(),
            storage_engine,
            ..Config::default()
        }
    }
}

/// A file of these tables, with the hash of a saved snapshot.
fn snapshot(tables: &Tables) -> Vec<u8> {
    let mut file = write(tables);
    let mut trailer = Trailer::default();
    trailer.update(&file);
    file.extend(trailer.finish());
    file
}

/// The tables of etcd, with a row in one of them.
fn with_row(table: Table, key: &[u8], value: &[u8]) -> Tables {
    let mut tables: Tables =
        Table::ALL.map(|table| (table.name().as_bytes().to_vec(), Rows::new())).into();
    let rows = tables.get_mut(table.name().as_bytes()).expect("it is one of them");
    rows.insert(key.to_vec(), value.to_vec());
    tables
}

const PLAIN: Options = Options { skip_hash_check: false, bump_revision: 0, mark_compacted: false };

/// Restores, and says what went wrong as the command line does.
fn restore(file: &Path, options: Options, config: &Config) -> Result<Restored, String> {
    super::restore::restore(file, options, config).map_err(|error| format!("{error:#}"))
}

/// Where the engine of a member is.
fn place(config: &Config) -> Place {
    Place {
        disk: Arc::new(RealDisk),
        dir: Layout::new(&config.data_dir, None).state,
        kind: config.storage_engine,
        cache_bytes: 1 << 20,
    }
}

/// Everything the engine of a member holds.
fn engine_rows(config: &Config) -> Tables {
    let engine = place(config).open(0).expect("the engine was left whole");
    let view = engine.view().expect("the engine was left whole");
    let rows = |table: Table| {
        let mut rows = Rows::new();
        view.scan(table, &[], None, &mut |key, value| {
            rows.insert(key.to_vec(), value.to_vec());
            Ok(ControlFlow::Continue(()))
        })
        .expect("the engine was left whole");
        rows
    };
    Table::ALL.map(|table| (table.name().as_bytes().to_vec(), rows(table))).into()
}

/// Rows by table, out of a stream of them that must be in order.
fn collected(rows: impl Iterator<Item = anyhow::Result<crate::bolt::Row>>) -> Tables {
    let mut tables = Tables::new();
    let mut last: Option<(Table, Bytes)> = None;
    for row in rows {
        let row = row.expect("the stream is whole");
        let place = Some((row.table, row.key.clone()));
        assert!(last < place, "{place:?} after {last:?}");
        last = place;
        let name = row.table.name().as_bytes().to_vec();
        tables.entry(name).or_default().insert(row.key.to_vec(), row.value.to_vec());
    }
    tables
}
