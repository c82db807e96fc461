//! `snapshot restore`: a member's data directory made of a snapshot, kvorum's or etcd's.
//!
//! The rows go into a fresh engine in batches; the directory counts as a member's only after the
//! last row was read, every tree proved sound, and a machine opened on them as a start would. A
//! restore that fails leaves a directory that the next one may take over.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use super::import::{self, read_snapshot};
use super::rewrite::{Bump, Membership, rewrite};
use crate::bolt::Row;
use crate::config::Config;
use crate::machine::{Machine, Settings};
use crate::node::Founding;
use crate::storage::engine::{Table, Write};
use crate::storage::keys;
use crate::version;

/// Bytes of rows in one commit of the engine.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;

/// What to restore, beside where and as whom, which the configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub skip_hash_check: bool,
    pub bump_revision: u64,
    pub mark_compacted: bool,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub rows: u64,
    pub member_id: u64,
    pub cluster_id: u64,
}

/// Restores `file` into the data directory of `config`.
pub fn restore(file: &Path, options: Options, config: &Config) -> Result<Restored> {
    let bump = Bump::from_flags(options.bump_revision, options.mark_compacted)?;
    let snapshot =
        read_snapshot(file, import::Options { skip_hash_check: options.skip_hash_check })?;
    let founding = Founding::begin(config)?;
    let ids = founding.members.iter().map(|member| member.id).collect();
    let conf_state = keys::ConfState { voters: ids, ..keys::ConfState::default() };
    let rows = founding.members.iter().map(|member| match member.row() {
        Write::Put { key, value, .. } => (key, value),
        Write::Delete { .. } => unreachable!("a member's row is a put"),
    });
    let membership = Membership {
        members: rows.collect(),
        consistent_index: founding.applied.index,
        term: founding.applied.term,
        conf_state: Some(conf_state.encode().into()),
    };
    let change = super::rewrite::Rewrite { bump, membership: Some(membership) };
    let mut batch = Batch { founding: &founding, writes: Vec::new(), bytes: 0 };
    let mut rows = 0;
    for row in rewrite(snapshot.rows()?, change) {
        let row = row?;
        check(&row, file)?;
        rows += 1;
        batch.put(row.table, row.key, row.value)?;
    }
    let storage_version = Bytes::from_static(version::STORAGE.as_bytes());
    batch.put(Table::Meta, Bytes::from_static(keys::STORAGE_VERSION), storage_version)?;
    batch.commit()?;
    // Rows that a start would refuse are better refused while the old cluster may still be there.
    let member_id = founding.member_id;
    // No entry is applied here, so no limit matters.
    let settings = Settings { member_id, quota_bytes: None, learners_max: 0 };
    Machine::open(founding.engine.clone(), settings, None).with_context(|| {
        format!(
            "no member would start on {}. If only revisions are missing, --bump-revision 1 \
             --mark-compacted restores it without its history",
            file.display()
        )
    })?;
    let restored =
        Restored { rows, member_id: founding.member_id, cluster_id: founding.cluster_id };
    founding.complete()?;
    Ok(restored)
}

/// Refuses a row that this version cannot keep the promise of.
pub(super) fn check(row: &Row, file: &Path) -> Result<()> {
    let value = String::from_utf8_lossy(&row.value);
    match (row.table, &row.key[..]) {
        (Table::Meta, keys::STORAGE_VERSION) => ensure!(
            known(&row.value),
            "{} was written by a newer etcd, storage version {value}; this kvorum reads up to {}",
            file.display(),
            version::STORAGE
        ),
        (Table::Auth, keys::AUTH_ENABLED) => ensure!(
            row.value == keys::encode_flag(false)[..],
            "authentication is on in {}, and this kvorum has no users yet: everybody could read \
             and write everything; to restore it all the same, save it again after `etcdctl auth \
             disable`",
            file.display()
        ),
        _ => {}
    }
    Ok(())
}

/// Whether rows of this storage version are rows as they are here.
fn known(storage_version: &[u8]) -> bool {
    let minor = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let theirs = std::str::from_utf8(storage_version).ok().and_then(minor);
    theirs.is_some_and(|theirs| Some(theirs) <= minor(version::STORAGE))
}

/// Rows on their way into one commit.
struct Batch<'a> {
    founding: &'a Founding,
    writes: Vec<Write>,
    bytes: usize,
}

impl Batch<'_> {
    fn put(&mut self, table: Table, key: Bytes, value: Bytes) -> Result<()> {
        self.bytes += key.len() + value.len();
        // Rows are slices of whole pages, which would stay in memory until the commit.
        let (key, value) = (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
        self.writes.push(Write::Put { table, key, value });
        if self.bytes < COMMIT_BYTES { Ok(()) } else { self.commit() }
    }

    fn commit(&mut self) -> Result<()> {
        self.founding.engine.commit(&self.writes).context("cannot write the restored rows")?;
        self.writes.clear();
        self.bytes = 0;
        Ok(())
    }
}
