//! Changing a snapshot's rows on their way into a new cluster.
//!
//! Two changes, each as `etcdutl snapshot restore` makes it:
//! - A *bump* raises the newest revision by N, so that watchers who saw revisions the snapshot does
//!   not have will never see theirs again with other content: one row without value is added at
//!   the raised revision, and everything up to it is scheduled to be compacted.
//! - A *membership* replaces members, removed members, and the place in the log.
//!
//! A rewrite is a stream of rows made from a stream of rows, in the same order, in flat memory.
//! Everything that is not named here stays: leases, users, alarms, cluster version.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;

use crate::bolt::Row;
use crate::storage::engine::Table;

/// What to change.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    pub bump: Option<Bump>,
    pub membership: Option<Membership>,
}

/// How far to raise the newest revision; everything older becomes compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bump(i64);

impl Bump {
    /// From `--bump-revision` and `--mark-compacted`, which make sense only together.
    pub fn from_flags(bump_revision: u64, mark_compacted: bool) -> Result<Option<Self>> {
        match (bump_revision, mark_compacted) {
            (0, false) => Ok(None),
            (0, true) | (_, false) => bail!("--mark-compacted required if --revision-bump > 0"),
            (amount, true) => match i64::try_from(amount) {
                Ok(amount) => Ok(Some(Self(amount))),
                Err(_) => bail!("--bump-revision {amount} is beyond the last revision there is"),
            },
        }
    }
}

/// The members of the new cluster, and where its log starts.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Rows of the `members` table.
    pub members: BTreeMap<Bytes, Bytes>,
    pub consistent_index: u64,
    pub term: u64,
    /// The row `confState`. etcdutl leaves the old cluster's there and etcd never reads it, so
    /// `None` keeps it too.
    pub conf_state: Option<Bytes>,
}

/// The rows with the changes made.
pub fn rewrite<I: Iterator<Item = Result<Row>>>(rows: I, change: Rewrite) -> Rewritten<I> {
    let mut pending = BTreeMap::new();
    let replace_members = change.membership.is_some();
    if let Some(membership) = change.membership {
        for (key, value) in membership.members {
            pending.insert((Table::Members, key), value);
        }
        let number = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
        let meta = |name: &'static str| (Table::Meta, Bytes::from_static(name.as_bytes()));
        pending.insert(meta("consistent_index"), number(membership.consistent_index));
        pending.insert(meta("term"), number(membership.term));
        if let Some(conf_state) = membership.conf_state {
            pending.insert(meta("confState"), conf_state);
        }
    }
    Rewritten {
        rows,
        ahead: None,
        ended: false,
        pending,
        replace_members,
        bump: change.bump,
        latest: 0,
    }
}

/// See [`rewrite`]. Ends after an error.
pub struct Rewritten<I> {
    rows: I,
    /// The next row of the old stream.
    ahead: Option<Row>,
    /// Whether the old stream has ended.
    ended: bool,
    /// Rows to add or to put in place of old ones.
    pending: BTreeMap<(Table, Bytes), Bytes>,
    replace_members: bool,
    bump: Option<Bump>,
    /// The newest revision seen.
    latest: i64,
}

impl<I: Iterator<Item = Result<Row>>> Rewritten<I> {
    /// Reads the next old row that stays.
    fn look_ahead(&mut self) -> Result<()> {
        while self.ahead.is_none() && !self.ended {
            let Some(row) = self.rows.next().transpose()? else {
                self.ended = true;
                break;
            };
            if row.table == Table::Key {
                let key = RowKey::decode(&row.key)
                    .ok_or_else(|| anyhow!("cannot parse revision key: {:?}", row.key))?;
                self.latest = self.latest.max(key.main);
            }
            let is_member = matches!(row.table, Table::Members | Table::MembersRemoved);
            if !(is_member && self.replace_members) {
                self.ahead = Some(row);
            }
        }
        let are_keys_read = self.ahead.as_ref().is_none_or(|row| row.table > Table::Key);
        if are_keys_read && let Some(bump) = self.bump.take() {
            self.add_bump(bump)?;
        }
        Ok(())
    }

    fn add_bump(&mut self, Bump(amount): Bump) -> Result<()> {
        let Some(raised) = self.latest.checked_add(amount) else {
            bail!("--bump-revision {amount} is beyond the last revision there is");
        };
        let key = RowKey { main: raised, sub: 0, is_tombstone: false }.encode();
        let name = Bytes::from_static(b"scheduledCompactRev");
        self.pending.insert((Table::Key, key.clone()), Bytes::new());
        self.pending.insert((Table::Meta, name), key);
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Row>> {
        self.look_ahead()?;
        let Some(next) = self.pending.first_entry() else { return Ok(self.ahead.take()) };
        if let Some(row) = &self.ahead {
            let (table, key) = next.key();
            match (row.table, &row.key).cmp(&(*table, key)) {
                std::cmp::Ordering::Less => return Ok(self.ahead.take()),
                std::cmp::Ordering::Equal => self.ahead = None,
                std::cmp::Ordering::Greater => {}
            }
        }
        let ((table, key), value) = next.remove_entry();
        Ok(Some(Row { table, key, value }))
    }
}

impl<I: Iterator<Item = Result<Row>>> Iterator for Rewritten<I> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.ended = true;
            self.ahead = None;
            self.pending.clear();
            self.bump = None;
        }
        step.transpose()
    }
}

/// The key of a row of the `key` table: main and sub revision, with a mark on tombstones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowKey {
    pub main: i64,
    pub sub: i64,
    pub is_tombstone: bool,
}

impl RowKey {
    /// Reads a row key by etcd's rules: 17 or 18 bytes, numbers not negative.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mark = match bytes.len() {
            17 => None,
            18 => Some(bytes[17]),
            _ => return None,
        };
        let number = |at: usize| Some(i64::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let (main, sub) = (number(0)?, number(9)?);
        let is_valid = bytes[8] == b'_' && main >= 0 && sub >= 0;
        is_valid.then_some(Self { main, sub, is_tombstone: mark == Some(b't') })
    }

    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(18);
        bytes.extend_from_slice(&self.main.to_be_bytes());
        bytes.push(b'_');
        bytes.extend_from_slice(&self.sub.to_be_bytes());
        if self.is_tombstone {
            bytes.push(b't');
        }
        bytes.into()
    }
}
