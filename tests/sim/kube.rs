//! What apiservers ask: objects that are created, updated and deleted as they were last seen, lists
//! in pages, events that end of themselves, and a compaction that the quickest of them makes.

use std::collections::BTreeMap;

use kvorum::sim::{Mark, mark};
use kvorum::storage::disk::sim::Seed;

use crate::checker::history::{Answer, Compare, Range, Reply, Request, Row, Span, Target, Txn};

use super::asking;
use super::clients::{self, Ask, Busy, Record, Services};
use super::looks::{self, Look, Within};
use super::profile::Profile;

/// The key by which apiservers agree whose turn it is to compact.
const TURNS: &str = "compact_rev_key";

/// What they have been shown.
#[derive(Default)]
pub struct Knowledge {
    /// Objects, with the revisions they were last changed at.
    objects: BTreeMap<String, i64>,
    /// The version of the key of turns.
    turns: i64,
    /// The revision of the newest list.
    pub listed: i64,
}

impl Knowledge {
    /// Takes in what the answer to a request shows.
    pub fn learn(&mut self, request: &Request, revision: i64, reply: &Reply) {
        match (request, reply) {
            (Request::Range(_), Reply::Range { rows, .. }) => {
                rows.iter().for_each(|row| self.see(row));
            }
            (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
                let branch = if *succeeded { &txn.success } else { &txn.failure };
                let steps = branch.iter().zip(replies);
                steps.for_each(|(request, reply)| self.learn(request, revision, reply));
            }
            (Request::Put { key, .. }, _) if key == TURNS => self.turns += 1,
            (Request::Put { key, .. }, _) => {
                self.objects.insert(key.clone(), revision);
            }
            (Request::Delete(span), _) => {
                self.objects.remove(&span.key);
            }
            _ => {}
        }
    }

    fn see(&mut self, row: &Row) {
        match row.key == TURNS {
            true => self.turns = row.version,
            false => drop(self.objects.insert(row.key.clone(), row.modified)),
        }
    }
}

fn get(key: &str, serializable: bool) -> Request {
    Request::Range(Range { key: key.to_owned(), end: None, limit: 0, serializable })
}

/// Thinks of something that an apiserver would ask.
pub fn think(seed: &mut Seed, record: &Record, profile: &Profile, unique: u64) -> Ask {
    let key = format!("k{:02}", seed.below(profile.keys));
    let known = record.known.objects.get(&key).copied().unwrap_or(0);
    let kv = |request| Ask::Kv { request, lease: 0 };
    let value = clients::value(seed, profile, unique);
    let put = Request::Put { key: key.clone(), value };
    let lease = record.leases.last().copied();
    match (seed.below(40), lease) {
        (0..14, _) => kv(as_seen(&key, known, put)),
        (14..18, _) => kv(as_seen(&key, 0, put)),
        (18..22, _) => {
            let delete = Request::Delete(Span { key: key.clone(), end: None });
            kv(as_seen(&key, known, delete))
        }
        (22..27, _) => kv(get(&key, seed.below(5) == 0)),
        (27..33, _) => Ask::List { limit: 1 + seed.below(4) as usize },
        (33..36, Some(lease)) => Ask::Kv { request: put, lease },
        (33..37, _) => Ask::Grant { ttl: 2 + seed.below(6) as i64 },
        _ => {
            let revision = (record.revision - seed.below(40) as i64).max(1);
            Ask::CompactInTurn { revision, unique }
        }
    }
}

/// A change of an object that is as it was seen; else it is read again.
fn as_seen(key: &str, known: i64, change: Request) -> Request {
    let compare = Compare { key: key.to_owned(), is: "=".to_owned(), target: Target::Mod(known) };
    let failure = vec![get(key, false)];
    Request::Txn(Txn { compare: vec![compare], success: vec![change], failure })
}

/// Compacts, if nobody was quicker to say so.
pub async fn compact_in_turn(
    services: &Services,
    (revision, unique): (i64, u64),
    busy: &Busy,
    now_us: impl Fn() -> u64,
) {
    let (key, turns) = (TURNS.to_owned(), busy.record.borrow().known.turns);
    let put = Request::Put { key: key.clone(), value: format!("v{unique}") };
    let compare = Compare { key, is: "=".to_owned(), target: Target::Version(turns) };
    let (success, failure) = (vec![put], vec![get(TURNS, false)]);
    let request = Request::Txn(Txn { compare: vec![compare], success, failure });
    match asking::recorded(services, &request, 0, busy, &now_us).await {
        Some(Answer { reply: Reply::Txn { succeeded: true, .. }, .. }) => {
            asking::compact(services, revision, false, &busy.record, now_us).await;
        }
        Some(_) => mark(Mark::CompactionLeft),
        None => {}
    }
}

/// Lists everything, page by page, as of the revision of the first.
pub async fn list(services: &Services, limit: usize, busy: &Busy, now_us: impl Fn() -> u64) {
    let mut range = Range { limit, ..looks::range("k", Some("l")) };
    let first = Request::Range(range.clone());
    let Some(answer) = asking::recorded(services, &first, 0, busy, &now_us).await else { return };
    let (at, mut reply) = (answer.revision, answer.reply);
    while let Reply::Range { count, rows } = reply
        && count > rows.len()
        && let Some(last) = rows.last()
    {
        range.key = format!("{}\0", last.key);
        let (range, within) = (range.clone(), Within::Nothing);
        let look = Look { at, range, count_only: false, within };
        reply = match asking::look(services, look, busy, &now_us).await {
            Ok((_, reply)) => reply,
            Err(refusal) => {
                if refusal == looks::COMPACTED {
                    mark(Mark::PageCompacted);
                }
                return;
            }
        };
    }
    let listed = &mut busy.record.borrow_mut().known.listed;
    *listed = at.max(*listed);
}
