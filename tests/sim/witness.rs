//! The committed log as all members together show it, and what it comes to.
//!
//! Every entry that any member's applier is given is held against those that others were given at
//! the same index. The first sight of each is run on the judge's own model of the store, leases
//! included; what that yields is the truth that answers and watches are held against.

use std::collections::{BTreeMap, BTreeSet};

use kvorum::pb::internal_raft_request::Command;
use kvorum::pb::{
    AlarmType, InternalRaftRequest, PutRequest, TxnRequest, alarm_request::AlarmAction,
};
use kvorum::raft::{Entry, EntryType};
use kvorum::sim::{Mark, mark};
use prost::Message as _;

use crate::checker::history::{Ended, Event, Op, Outcome, Request, Span, Txn};
use crate::checker::replay::Store;

use super::clients::Lifetime;
use super::rolls::Rolls;
use super::translate;

/// The log so far.
#[derive(Default)]
pub struct Witness {
    /// By index, from 1 on.
    entries: Vec<Option<Entry>>,
    /// How far the model has come.
    folded: usize,
    /// The revision as of each entry, from 1 on.
    levels: Vec<i64>,
    store: Store,
    pub revision: i64,
    pub events: Vec<Event>,
    /// What leases did that ended: no client sent that.
    pub revocations: Vec<Op>,
    /// Leases that ended.
    pub ended: Vec<Ended>,
    leases: BTreeMap<i64, BTreeSet<String>>,
    /// All that were ever granted.
    granted: BTreeSet<i64>,
    compacted: i64,
    lease_of: BTreeMap<String, i64>,
    /// Until when leases were promised to live, in microseconds, by clients' answers.
    promised: BTreeMap<i64, u64>,
    /// Leases that a client has asked to revoke.
    pub given_up: BTreeSet<i64>,
    out_of_space: BTreeSet<u64>,
    pub rolls: Rolls,
}

impl Witness {
    pub fn new() -> Self {
        Self { revision: 1, ..Self::default() }
    }

    /// A member was given an entry to apply; whether nobody was before. Tells what cannot be.
    pub fn see(&mut self, now_us: u64, entry: &Entry) -> Result<bool, String> {
        let place = entry.index as usize - 1;
        if self.entries.len() <= place {
            self.entries.resize(place + 1, None);
        }
        match &self.entries[place] {
            Some(known) if known != entry => {
                return Err(format!(
                    "entry {} was committed in term {} and again, as another, in term {}",
                    entry.index, known.term, entry.term
                ));
            }
            Some(_) => return Ok(false),
            None => self.entries[place] = Some(entry.clone()),
        }
        while let Some(Some(entry)) = self.entries.get(self.folded) {
            let entry = entry.clone();
            self.folded += 1;
            self.fold(now_us, &entry)?;
            self.levels.push(self.revision);
        }
        Ok(true)
    }

    /// What an entry asks for, and under which alarms, as far as is known.
    pub fn describe(&self, index: u64) -> String {
        let entry = self.entries.get(index as usize - 1).and_then(Option::as_ref);
        let Some(entry) = entry else { return "nobody has applied it".to_owned() };
        let request = InternalRaftRequest::decode(entry.data.clone());
        format!("{:?}, now out of space: {:x?}", request.map(|one| one.command), self.out_of_space)
    }

    /// The revision as of an entry, if it is known by now.
    pub fn level(&self, index: u64) -> Option<i64> {
        self.levels.get(index.checked_sub(1)? as usize).copied()
    }

    /// How many entries were committed, as far as is known.
    pub fn last_index(&self) -> u64 {
        self.entries.len() as u64
    }

    /// A client was told that a lease lives until then.
    pub fn promise(&mut self, lease: i64, until_us: u64) {
        let promised = self.promised.entry(lease).or_default();
        *promised = until_us.max(*promised);
    }

    /// Leases that should have ended by now.
    pub fn overdue(&self, now_us: u64) -> Vec<i64> {
        let is_due = |lease: &&i64| self.promised.get(lease).is_some_and(|until| *until < now_us);
        self.leases.keys().filter(is_due).copied().collect()
    }

    fn fold(&mut self, now_us: u64, entry: &Entry) -> Result<(), String> {
        if entry.entry_type == EntryType::EntryConfChange as i32 {
            return self.rolls.fold(entry);
        }
        if entry.data.is_empty() {
            return Ok(());
        }
        let request = InternalRaftRequest::decode(entry.data.clone())
            .map_err(|error| format!("entry {} is not a command: {error}", entry.index))?;
        let Some(command) = request.command else { return Ok(()) };
        match command {
            Command::Put(put) => self.put(&put),
            Command::DeleteRange(delete) => self.run(&translate::from_delete(&delete), 0),
            Command::Txn(txn) if self.reads_in_vain(&txn) => {}
            Command::Txn(txn) => {
                let txn = Request::Txn(translate::from_txn(&txn));
                if self.out_of_space.is_empty() || !puts(&txn) {
                    self.run(&txn, 0);
                }
            }
            Command::LeaseGrant(grant) if self.out_of_space.is_empty() => {
                self.leases.entry(grant.id).or_default();
                self.granted.insert(grant.id);
            }
            Command::Compaction(compaction) if compaction.revision <= self.revision => {
                self.compacted = self.compacted.max(compaction.revision);
            }
            Command::LeaseRevoke(revoke) => return self.revoke(now_us, revoke.id),
            Command::Alarm(alarm) => self.alarm(&alarm)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether a transaction is refused for what it reads.
    fn reads_in_vain(&self, txn: &TxnRequest) -> bool {
        let can_be_read = self.compacted..=self.revision;
        translate::revisions_of(txn).any(|revision| !can_be_read.contains(&revision))
    }

    /// Holds what a client was told of leases against the log.
    pub fn check_lifetime(&self, told: &Lifetime) -> Result<(), String> {
        match told {
            Lifetime::Of { lease, ttl: -1, .. } if self.leases.contains_key(lease) => {
                Err(format!("lease {lease:x} was said to be gone, and is not"))
            }
            Lifetime::Of { ttl: -1, .. } => {
                mark(Mark::LeaseGoneAsked);
                Ok(())
            }
            // A new leader gives each an election timeout more.
            Lifetime::Of { lease, ttl, granted_ttl } if *ttl > granted_ttl + 2 => {
                Err(format!("lease {lease:x} of {granted_ttl} s was said to live {ttl} s"))
            }
            Lifetime::Of { .. } => Ok(()),
            Lifetime::There(there) => match there.iter().find(|id| !self.granted.contains(id)) {
                Some(lease) => Err(format!("lease {lease:x} was never granted")),
                None => Ok(()),
            },
        }
    }

    fn alarm(&mut self, alarm: &kvorum::pb::AlarmRequest) -> Result<(), String> {
        if alarm.alarm == AlarmType::Corrupt as i32 {
            return Err(format!("CORRUPT was raised for {:x}", alarm.member_id));
        }
        if alarm.action == AlarmAction::Activate as i32 {
            mark(Mark::NospaceRaised);
            self.out_of_space.insert(alarm.member_id);
        } else if self.out_of_space.remove(&alarm.member_id) {
            mark(Mark::NospaceDisarmed);
        }
        Ok(())
    }

    fn put(&mut self, put: &PutRequest) {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) || !self.out_of_space.is_empty()
        {
            return;
        }
        self.run(&translate::from_put(put), put.lease);
    }

    fn run(&mut self, request: &Request, lease: i64) {
        let (events, _) = self.store.run(self.revision + 1, request);
        if events.is_empty() {
            return;
        }
        self.revision += 1;
        for event in &events {
            if let Some(old) = self.lease_of.remove(event.key())
                && let Some(keys) = self.leases.get_mut(&old)
            {
                keys.remove(event.key());
                if lease != 0 && lease != old {
                    mark(Mark::LeaseKeyMoved);
                }
            }
            if lease != 0 {
                self.lease_of.insert(event.key().to_owned(), lease);
                self.leases.entry(lease).or_default().insert(event.key().to_owned());
            }
        }
        // The model made them: they follow.
        let _ = self.store.apply(self.revision, &events);
        self.events.extend(events);
    }

    fn revoke(&mut self, now_us: u64, lease: i64) -> Result<(), String> {
        let Some(keys) = self.leases.get(&lease).cloned() else { return Ok(()) };
        self.ended.push(Ended { lease, at: now_us * 1000 });
        let promised = self.promised.get(&lease).copied().unwrap_or(0);
        // Deadlines are kept in whole milliseconds.
        if !self.given_up.contains(&lease) && promised > now_us + 1_000 {
            return Err(format!(
                "lease {lease:x} was promised to live until {promised} us and ended at {now_us}"
            ));
        }
        if !self.given_up.contains(&lease) {
            mark(Mark::LeaseExpired);
            if !keys.is_empty() {
                mark(Mark::LeaseTookKeys);
            }
        }
        let delete = |key: String| Request::Delete(Span { key, end: None });
        let success: Vec<Request> = keys.into_iter().map(delete).collect();
        let request = Request::Txn(Txn { compare: Vec::new(), success, failure: Vec::new() });
        let before = self.revision;
        self.run(&request, 0);
        self.leases.remove(&lease);
        if self.revision > before {
            let call = now_us.saturating_sub(1) * 1000;
            let outcome = Outcome::Unknown;
            self.revocations.push(Op { client: 0, call, end: None, request, outcome });
        }
        Ok(())
    }
}

/// Whether a request could grow the store, whichever branch it takes.
fn puts(request: &Request) -> bool {
    match request {
        Request::Put { .. } => true,
        Request::Delete(_) | Request::Range(_) => false,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(puts),
    }
}
