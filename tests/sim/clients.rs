//! Simulated clients: what they ask, and the record of what they heard.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use kvorum::node::Handle;
use kvorum::sim::{Cluster, Kv, Lease};
use kvorum::storage::disk::sim::Seed;

use crate::checker::history::{Compare, History, Range, Request, Span, Target, Txn};

use super::kube::Knowledge;
use super::looks::{Look, Looks, Within};
use super::profile::Profile;
use super::rolls;

/// What clients found out, and what is known of their requests.
#[derive(Default)]
pub struct Record {
    pub history: History,
    pub looks: Looks,
    /// Clients whose request has ended, whatever way.
    pub freed: Vec<usize>,
    /// Leases, with the time they were promised to live until.
    pub promises: Vec<(i64, u64)>,
    /// The same, of all that are known.
    ends: BTreeMap<i64, u64>,
    pub leases: Vec<i64>,
    pub given_up: Vec<i64>,
    /// What clients were told of leases, to be held against the log at once.
    pub lifetimes: Vec<Lifetime>,
    /// Lists of members that clients were shown, to be held against the log at once.
    pub rolls: Vec<rolls::Told>,
    /// The members of the newest such list.
    pub members: Vec<u64>,
    /// How much of the log those had applied who answered with lists.
    pub rolls_floor: u64,
    /// What apiservers know.
    pub known: Knowledge,
    /// The newest revision that anybody was shown.
    pub revision: i64,
    /// Revisions that deleted something.
    pub deleted: Vec<i64>,
    pub compacted: i64,
    /// Whether somebody was told that there is no space.
    pub out_of_space: bool,
    /// Whether faults are over: nobody takes his time any more.
    pub is_calm: bool,
    pub answered: u64,
    pub refusals: BTreeMap<String, u64>,
}

/// What a client was told of leases.
pub enum Lifetime {
    /// Of one: its seconds, and those it was granted; -1 if it is not there.
    Of { lease: i64, ttl: i64, granted_ttl: i64 },
    /// Those that are there.
    There(Vec<i64>),
}

impl Record {
    /// A client that called then was told that a lease lives for so long, by a member's clock.
    pub fn promise(&mut self, lease: i64, call_us: u64, seconds: i64) {
        let counted_us = seconds as u64 * (1_000_000 - self.history.drift_ppm);
        let until_us = call_us + counted_us;
        self.promises.push((lease, until_us));
        self.ends.insert(lease, until_us);
    }

    /// A lease that ends at about this time.
    fn ending(&self, now_us: u64) -> Option<i64> {
        let about = now_us.saturating_sub(1_000_000)..now_us + 200_000;
        let mut ending = self.ends.iter().filter(|(_, until)| about.contains(until));
        ending.next_back().map(|(lease, _)| *lease)
    }
}

pub type Shared = Rc<RefCell<Record>>;

/// Frees its client when the request has ended, or its member has.
pub struct Busy {
    pub client: usize,
    pub record: Shared,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.record.borrow_mut().freed.push(self.client);
    }
}

/// The services of one member.
#[derive(Clone)]
pub struct Services {
    /// A number of its process.
    pub server: u64,
    pub node: Handle,
    pub kv: Kv,
    pub lease: Lease,
    pub cluster: Cluster,
}

/// What a client may ask.
#[derive(Clone, Debug)]
pub enum Ask {
    Kv {
        request: Request,
        lease: i64,
    },
    /// A range as of a revision.
    Look(Look),
    /// The hash of the rows as of a revision.
    Hash {
        revision: i64,
    },
    /// Everything there is.
    State,
    Grant {
        ttl: i64,
    },
    KeepAlive {
        lease: i64,
    },
    Revoke {
        lease: i64,
    },
    TimeToLive {
        lease: i64,
    },
    Leases,
    Compact {
        revision: i64,
        physical: bool,
    },
    /// A range, in as many responses as it takes.
    Stream(Range),
    /// A list of all keys in pages, as of the revision of the first.
    List {
        limit: usize,
    },
    /// A compaction, if nobody else was quicker.
    CompactInTurn {
        revision: i64,
        unique: u64,
    },
    /// Who the members are.
    Members {
        linearizable: bool,
    },
    /// Another address for a member.
    Move {
        id: u64,
        url: String,
    },
    /// Takes alarms back that say that there is no space.
    Disarm,
}

/// What is put, by nobody else: short mostly, and in some worlds longer than a segment.
pub fn value(seed: &mut Seed, profile: &Profile, unique: u64) -> String {
    match seed.below(300) {
        0..3 if profile.long_values => {
            let bytes = if seed.below(8) == 0 { 1 << 20 } else { 1 << 16 };
            format!("v{unique}{}", "-".repeat(seed.below(bytes) as usize))
        }
        _ => format!("v{unique}"),
    }
}

/// Thinks of something to ask.
pub fn think(seed: &mut Seed, record: &Record, profile: &Profile, unique: u64, now_us: u64) -> Ask {
    let keys = profile.keys;
    let key = |seed: &mut Seed| format!("k{:02}", seed.below(keys));
    let lease = |seed: &mut Seed| {
        let known = &record.leases;
        let newest = known.len().saturating_sub(4);
        known.get(newest + seed.below(4) as usize).copied()
    };
    let value = value(seed, profile, unique);
    let kv = |request| Ask::Kv { request, lease: 0 };
    if record.out_of_space && seed.below(4) == 0 {
        return Ask::Disarm;
    }
    let of_lease = |seed: &mut Seed, ask: fn(i64) -> Ask| match lease(seed) {
        Some(lease) => ask(lease),
        None => Ask::Grant { ttl: 2 + seed.below(6) as i64 },
    };
    match seed.below(200) {
        0..46 => kv(Request::Put { key: key(seed), value }),
        46..54 => match record.ending(now_us) {
            Some(lease) => Ask::KeepAlive { lease },
            None => of_lease(seed, |lease| Ask::KeepAlive { lease }),
        },
        54..72 => kv(Request::Range(Range {
            key: key(seed),
            end: None,
            limit: 0,
            serializable: seed.below(4) == 0,
        })),
        72..90 => {
            let range = Range {
                key: key(seed),
                end: Some(["\0", "k99"][seed.below(2) as usize].to_owned()),
                limit: seed.below(3) as usize * 2,
                serializable: seed.below(4) == 0,
            };
            match seed.below(5) {
                0 => Ask::Stream(range),
                _ => kv(Request::Range(range)),
            }
        }
        90..102 => kv(Request::Delete(Span { key: key(seed), end: None })),
        102..106 => {
            let end = Some(key(seed));
            kv(Request::Delete(Span { key: key(seed), end }))
        }
        106..144 => kv(Request::Txn(txn(seed, record, keys, unique))),
        144..151 => Ask::Grant { ttl: 2 + seed.below(6) as i64 },
        151..163 => match lease(seed) {
            Some(lease) => Ask::Kv { request: Request::Put { key: key(seed), value }, lease },
            None => Ask::Grant { ttl: 3 },
        },
        163..170 => of_lease(seed, |lease| Ask::KeepAlive { lease }),
        170..172 => of_lease(seed, |lease| Ask::Revoke { lease }),
        172..175 => of_lease(seed, |lease| Ask::TimeToLive { lease }),
        175 => Ask::Leases,
        176..188 => {
            let key = key(seed);
            Ask::Look(look(seed, record, key, value))
        }
        188..192 => Ask::Hash { revision: revision(seed, record) },
        192 => Ask::State,
        193 => match seed.below(3) {
            0 => Ask::Members { linearizable: true },
            1 => Ask::Members { linearizable: false },
            _ => moved(seed, record),
        },
        _ => Ask::Compact { revision: boundary(seed, record), physical: seed.below(4) == 0 },
    }
}

/// Another address for a member, or one that another member may have.
fn moved(seed: &mut Seed, record: &Record) -> Ask {
    let members = &record.members;
    if members.is_empty() {
        return Ask::Members { linearizable: true };
    }
    let mut any = || members[seed.below(members.len() as u64) as usize];
    let (id, mut host) = (any(), any());
    if seed.below(4) > 0 {
        host = id;
    }
    Ask::Move { id, url: format!("http://{host:x}:{}", 2380 + seed.below(2)) }
}

/// A revision to look at: old, on the boundary, gone, or not there yet.
fn revision(seed: &mut Seed, record: &Record) -> i64 {
    let newest = record.revision.max(1);
    let revision = match seed.below(8) {
        0 | 1 => record.compacted,
        2 => record.compacted - 1,
        3 => newest + 1 + seed.below(3) as i64,
        4 => newest,
        _ => newest - seed.below(30) as i64,
    };
    revision.max(1)
}

/// A revision to compact at: often one that deleted something, for that is the one that matters.
fn boundary(seed: &mut Seed, record: &Record) -> i64 {
    let newest = record.revision.max(1);
    let revision = match seed.below(8) {
        0..3 => record.deleted.last().copied().unwrap_or(newest),
        3 => newest,
        4 => newest + 2,
        5 => record.compacted,
        _ => newest - seed.below(30) as i64,
    };
    revision.max(1)
}

fn look(seed: &mut Seed, record: &Record, key: String, value: String) -> Look {
    let end = [None, Some("\0"), Some("k99")][seed.below(3) as usize].map(str::to_owned);
    let within = match seed.below(6) {
        0 => Within::Txn,
        1 => Within::Putting(key.clone(), value),
        _ => Within::Nothing,
    };
    let serializable = within == Within::Nothing && seed.below(3) == 0;
    let range = Range { key, end, limit: seed.below(3) as usize * 2, serializable };
    Look { at: revision(seed, record), range, count_only: seed.below(5) == 0, within }
}

fn txn(seed: &mut Seed, record: &Record, keys: u64, unique: u64) -> Txn {
    let guarded = format!("k{:02}", seed.below(keys));
    let compare = vec![condition(seed, record, guarded.clone(), unique)];
    let put = |key: String, part: &str| Request::Put { key, value: format!("v{unique}{part}") };
    let read = |end: Option<String>| {
        Request::Range(Range { key: guarded.clone(), end, limit: 0, serializable: false })
    };
    let other = format!("k{:02}", seed.below(keys));
    let mut success = vec![put(guarded.clone(), "a"), read(None)];
    if other != guarded {
        success.push(match seed.below(4) {
            0 => Request::Delete(Span { key: other.clone(), end: None }),
            1 => Request::Txn(Txn {
                // All conditions are about the state before, so none about what was just put.
                compare: vec![condition(seed, record, other.clone(), unique)],
                success: vec![put(other.clone(), "e"), read(None)],
                failure: vec![read(Some("\0".to_owned()))],
            }),
            _ => put(other.clone(), "b"),
        });
    }
    let failure = match seed.below(3) {
        0 => vec![read(Some("\0".to_owned()))],
        1 => vec![put(other, "c")],
        _ => vec![Request::Txn(Txn {
            compare: Vec::new(),
            success: vec![put(guarded.clone(), "d")],
            failure: Vec::new(),
        })],
    };
    Txn { compare, success, failure }
}

fn condition(seed: &mut Seed, record: &Record, key: String, unique: u64) -> Compare {
    let target = match seed.below(4) {
        0 => Target::Version(seed.below(3) as i64),
        1 => Target::Create(0),
        2 => Target::Mod((record.revision - seed.below(20) as i64).max(0)),
        _ => Target::Value(format!("v{}", unique.saturating_sub(seed.below(30)))),
    };
    let is = ["=", "!=", "<", ">"][seed.below(4) as usize].to_owned();
    Compare { key, is, target }
}
