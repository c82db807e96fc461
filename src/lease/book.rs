//! The replicated facts about leases.
//!
//! Invariants:
//! - A key hangs on at most one lease, and `holders` is the inverse of the leases' key sets.
//! - What changes here is what the returned row says, nothing more.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, Fault};
use crate::limits::LEASE_TTL_SECONDS_MAX;
use crate::pb::leasepb;
use crate::storage::engine::{Table, Write};

/// A granted lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Seconds granted.
    pub ttl: i64,
    /// Seconds left at the last checkpoint; 0 if there was none since the last renewal.
    pub remaining: i64,
    /// The keys attached, in order.
    pub keys: BTreeSet<Bytes>,
}

/// What revoking a lease comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The keys to be deleted under one revision, in this order on every member.
    pub keys: Vec<Bytes>,
    pub write: Write,
}

/// All leases and what hangs on them.
#[derive(Debug, Default)]
pub struct Book {
    leases: BTreeMap<i64, Lease>,
    holders: BTreeMap<Bytes, i64>,
}

/// The time to live granted for one asked for: never below the minimum.
pub fn clamp(ttl: i64, minimum: i64) -> i64 {
    ttl.max(minimum)
}

/// The shortest time to live: one and a half election timeouts, in whole seconds, rounded up.
///
/// A shorter lease could run out while the cluster has no leader to renew it.
pub fn minimum_ttl(election_ticks: u64, heartbeat_ms: u64) -> i64 {
    let minimum_ms = (3 * election_ticks / 2).saturating_mul(heartbeat_ms);
    i64::try_from(minimum_ms.div_ceil(1000)).unwrap_or(LEASE_TTL_SECONDS_MAX)
}

impl Book {
    /// Grants a lease of `ttl` seconds.
    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<Write, Error> {
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl > LEASE_TTL_SECONDS_MAX {
            return Err(Error::LeaseTTLTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExist);
        }
        let lease = Lease { ttl, ..Lease::default() };
        let write = put_row(id, &lease);
        self.leases.insert(id, lease);
        Ok(write)
    }

    /// Revokes a lease. The caller deletes the keys; they are detached already.
    pub fn revoke(&mut self, id: i64) -> Result<Revoked, Error> {
        let lease = self.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        let keys: Vec<Bytes> = lease.keys.into_iter().collect();
        for key in &keys {
            let holder = self.holders.remove(key);
            assert_eq!(holder, Some(id), "a lease's key names its lease");
        }
        Ok(Revoked { keys, write: Write::Delete { table: Table::Lease, key: row_key(id) } })
    }

    /// Notes the seconds a lease has left; 0 wipes the note. `None` if there is no such lease.
    pub fn checkpoint(&mut self, id: i64, remaining: i64) -> Option<Write> {
        let lease = self.leases.get_mut(&id)?;
        lease.remaining = remaining;
        Some(put_row(id, lease))
    }

    /// Hangs a key on a lease, off the one it hung on; with lease 0, off that one only.
    ///
    /// The key is kept: it must not be a slice of something larger.
    pub fn attach(&mut self, key: Bytes, id: i64) -> Result<(), Error> {
        if id == 0 {
            self.detach(&key);
            return Ok(());
        }
        if !self.leases.contains_key(&id) {
            return Err(Error::LeaseNotFound);
        }
        if self.holders.get(&key) == Some(&id) {
            return Ok(());
        }
        self.detach(&key);
        let lease = self.leases.get_mut(&id).expect("it was there a moment ago");
        lease.keys.insert(key.clone());
        self.holders.insert(key, id);
        Ok(())
    }

    /// Takes a key off the lease it hangs on, if any.
    pub fn detach(&mut self, key: &[u8]) {
        let Some(id) = self.holders.remove(key) else { return };
        let lease = self.leases.get_mut(&id).expect("a key names a lease that exists");
        let known = lease.keys.remove(key);
        assert!(known, "a lease knows its keys");
    }

    /// Takes in a row of the `lease` table when a member starts or gets a snapshot.
    ///
    /// Attachments are not in that table; they follow from the live rows of `key`, by
    /// [`Book::attach`], which refuses a key whose lease is gone.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let damaged = |what: String| Fault::Broken(format!("a row of table lease: {what}"));
        let row = leasepb::Lease::decode(value).map_err(|error| damaged(error.to_string()))?;
        if *key != row_key(row.id)[..] {
            return Err(damaged(format!("lease {:x} under the key {key:02x?}", row.id)));
        }
        let lease = Lease { ttl: row.ttl, remaining: row.remaining_ttl, ..Lease::default() };
        match self.leases.insert(row.id, lease) {
            None => Ok(()),
            Some(_) => Err(damaged(format!("lease {:x} twice", row.id))),
        }
    }

    /// A lease by its id.
    pub fn lease(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// The lease a key hangs on.
    pub fn holder(&self, key: &[u8]) -> Option<i64> {
        self.holders.get(key).copied()
    }

    /// All leases by id.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = (i64, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }
}

fn row_key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn put_row(id: i64, lease: &Lease) -> Write {
    let row = leasepb::Lease { id, ttl: lease.ttl, remaining_ttl: lease.remaining };
    Write::Put { table: Table::Lease, key: row_key(id), value: row.encode_to_vec().into() }
}
