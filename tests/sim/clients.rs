//! Simulated clients: what they ask, and the record of what they heard.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use kvorum::machine::Reply as Answered;
use kvorum::node::Handle;
use kvorum::pb::internal_raft_request::Command;
use kvorum::pb::kv_server::Kv as _;
use kvorum::pb::lease_server::Lease as _;
use kvorum::pb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use kvorum::pb::{CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, WatchCreateRequest};
use kvorum::sim::{Kv, Lease, Watching};
use kvorum::storage::disk::sim::Seed;
use tonic::Status;

use crate::checker::history::{
    Answer, Compare, Heard, History, Op, Outcome, Range, Reply, Request, Span, Target, Txn, Watch,
};

use super::translate;

/// What clients found out, and what is known of their requests.
#[derive(Default)]
pub struct Record {
    pub history: History,
    /// Clients whose request has ended, whatever way.
    pub freed: Vec<usize>,
    /// Leases, with the time they were promised to live until.
    pub promises: Vec<(i64, u64)>,
    pub leases: Vec<i64>,
    pub given_up: Vec<i64>,
    /// The newest revision that anybody was shown.
    pub revision: i64,
    pub compacted: i64,
    /// Whether somebody was told that there is no space.
    pub out_of_space: bool,
    pub answered: u64,
    pub refusals: BTreeMap<String, u64>,
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
    pub node: Handle,
    pub kv: Kv,
    pub lease: Lease,
}

/// What a client may ask.
#[derive(Clone, Debug)]
pub enum Ask {
    Kv {
        request: Request,
        lease: i64,
    },
    Grant {
        ttl: i64,
    },
    KeepAlive {
        lease: i64,
    },
    Revoke {
        lease: i64,
    },
    Compact {
        revision: i64,
    },
    /// Takes alarms back that say that there is no space.
    Disarm,
}

/// Statuses after which a request surely did not happen.
const REFUSALS: [&str; 4] = [
    "etcdserver: requested lease not found",
    "etcdserver: too many requests",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
];

/// Thinks of something to ask.
pub fn think(seed: &mut Seed, record: &Record, keys: u64, unique: u64) -> Ask {
    let key = |seed: &mut Seed| format!("k{:02}", seed.below(keys));
    let lease = |seed: &mut Seed| {
        let known = &record.leases;
        let newest = known.len().saturating_sub(4);
        known.get(newest + seed.below(4) as usize).copied()
    };
    let value = format!("v{unique}");
    let kv = |request| Ask::Kv { request, lease: 0 };
    if record.out_of_space && seed.below(4) == 0 {
        return Ask::Disarm;
    }
    match seed.below(100) {
        0..30 => kv(Request::Put { key: key(seed), value }),
        30..42 => kv(Request::Range(Range {
            key: key(seed),
            end: None,
            limit: 0,
            serializable: seed.below(4) == 0,
        })),
        42..54 => kv(Request::Range(Range {
            key: key(seed),
            end: Some(["\0", "k99"][seed.below(2) as usize].to_owned()),
            limit: seed.below(3) as usize * 2,
            serializable: seed.below(4) == 0,
        })),
        54..60 => kv(Request::Delete(Span { key: key(seed), end: None })),
        60..62 => {
            let end = Some(key(seed));
            kv(Request::Delete(Span { key: key(seed), end }))
        }
        62..82 => kv(Request::Txn(txn(seed, record, keys, unique))),
        82..86 => Ask::Grant { ttl: 2 + seed.below(6) as i64 },
        86..92 => match lease(seed) {
            Some(lease) => Ask::Kv { request: Request::Put { key: key(seed), value }, lease },
            None => Ask::Grant { ttl: 3 },
        },
        92..96 => match lease(seed) {
            Some(lease) => Ask::KeepAlive { lease },
            None => Ask::Grant { ttl: 4 },
        },
        96 => match lease(seed) {
            Some(lease) => Ask::Revoke { lease },
            None => Ask::Grant { ttl: 5 },
        },
        _ => {
            let newest = record.revision.max(1);
            let back = seed.below(30) as i64;
            Ask::Compact { revision: (newest - back).max(1) }
        }
    }
}

fn txn(seed: &mut Seed, record: &Record, keys: u64, unique: u64) -> Txn {
    let guarded = format!("k{:02}", seed.below(keys));
    let target = match seed.below(4) {
        0 => Target::Version(seed.below(3) as i64),
        1 => Target::Create(0),
        2 => Target::Mod((record.revision - seed.below(20) as i64).max(0)),
        _ => Target::Value(format!("v{}", unique.saturating_sub(seed.below(30)))),
    };
    let is = ["=", "!=", "<", ">"][seed.below(4) as usize].to_owned();
    let compare = vec![Compare { key: guarded.clone(), is, target }];
    let put = |key: String, part: &str| Request::Put { key, value: format!("v{unique}{part}") };
    let read = |end: Option<String>| {
        Request::Range(Range { key: guarded.clone(), end, limit: 0, serializable: false })
    };
    let other = format!("k{:02}", seed.below(keys));
    let mut success = vec![put(guarded.clone(), "a"), read(None)];
    if other != guarded {
        success.push(match seed.below(3) {
            0 => Request::Delete(Span { key: other.clone(), end: None }),
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

/// Asks a member, and records what it answers.
pub async fn ask(services: Services, ask: Ask, busy: Busy, now_us: impl Fn() -> u64) {
    let record = busy.record.clone();
    let call = now_us();
    match ask {
        Ask::Kv { request, lease } => {
            let number = begin(&record, busy.client, call, &request);
            let answered = kv(&services.kv, &request, lease).await;
            end(&record, number, now_us(), answered);
        }
        Ask::Grant { ttl } => {
            let request = LeaseGrantRequest { ttl, id: 0 };
            if let Ok(granted) = services.lease.lease_grant(tonic::Request::new(request)).await {
                let granted = granted.into_inner();
                let mut record = record.borrow_mut();
                record.leases.push(granted.id);
                record.promises.push((granted.id, call + granted.ttl as u64 * 1_000_000));
            }
        }
        Ask::KeepAlive { lease } => {
            if let Ok(ttl) = services.node.renew(lease).await {
                let until = call + ttl as u64 * 1_000_000;
                record.borrow_mut().promises.push((lease, until));
            }
        }
        Ask::Revoke { lease } => {
            record.borrow_mut().given_up.push(lease);
            let request = tonic::Request::new(LeaseRevokeRequest { id: lease });
            // However it ends, the lease is not counted on any more.
            let _ = services.lease.lease_revoke(request).await;
        }
        Ask::Disarm => {
            let alarm = AlarmRequest {
                action: AlarmAction::Get as i32,
                alarm: AlarmType::Nospace as i32,
                ..AlarmRequest::default()
            };
            let listed = services.node.propose(Command::Alarm(alarm)).await;
            let Ok(Answered::Alarm(listed)) = listed else { return };
            for raised in listed.alarms {
                let (action, member_id) = (AlarmAction::Deactivate as i32, raised.member_id);
                let disarm = AlarmRequest { action, member_id, ..alarm };
                let _ = services.node.propose(Command::Alarm(disarm)).await;
            }
        }
        Ask::Compact { revision } => {
            let request = CompactionRequest { revision, physical: false };
            if services.kv.compact(tonic::Request::new(request)).await.is_ok() {
                let mut record = record.borrow_mut();
                record.compacted = record.compacted.max(revision);
            }
        }
    }
}

fn begin(record: &Shared, client: usize, call_us: u64, request: &Request) -> usize {
    let mut record = record.borrow_mut();
    let (call, request) = (call_us * 1000, request.clone());
    let client = client as u64 + 1;
    record.history.ops.push(Op { client, call, end: None, request, outcome: Outcome::Unknown });
    record.history.ops.len() - 1
}

fn end(record: &Shared, number: usize, now_us: u64, answered: Result<Answer, Status>) {
    let mut record = record.borrow_mut();
    let request_puts = matches!(record.history.ops[number].request, Request::Put { .. });
    let outcome = match answered {
        Ok(answer) => {
            record.answered += 1;
            if request_puts {
                record.out_of_space = false;
            }
            record.revision = record.revision.max(answer.revision);
            Outcome::Answered(answer)
        }
        Err(status) => {
            record.out_of_space |= status.message().ends_with("database space exceeded");
            *record.refusals.entry(status.message().to_owned()).or_default() += 1;
            match REFUSALS.contains(&status.message()) {
                true => Outcome::Refused,
                false => Outcome::Unknown,
            }
        }
    };
    let op = &mut record.history.ops[number];
    (op.end, op.outcome) = (Some(now_us * 1000), outcome);
}

async fn kv(kv: &Kv, request: &Request, lease: i64) -> Result<Answer, Status> {
    let (header, reply) = match request {
        Request::Put { key, value } => {
            let put = translate::put(key, value, lease);
            (kv.put(tonic::Request::new(put)).await?.into_inner().header, Reply::Put)
        }
        Request::Delete(span) => {
            let delete = translate::delete(span);
            let answer = kv.delete_range(tonic::Request::new(delete)).await?.into_inner();
            (answer.header, Reply::Delete { deleted: answer.deleted as usize })
        }
        Request::Range(range) => {
            let range = translate::range(range);
            let answer = kv.range(tonic::Request::new(range)).await?.into_inner();
            let reply = translate::rows(&answer);
            (answer.header, reply)
        }
        Request::Txn(txn) => {
            let txn = translate::txn(txn);
            let answer = kv.txn(tonic::Request::new(txn)).await?.into_inner();
            let reply = translate::txn_reply(&answer);
            (answer.header, reply)
        }
    };
    let revision = header.map_or(0, |header| header.revision);
    Ok(Answer { revision, reply })
}

/// Listens to a watch until it ends, and records what it hears.
pub async fn listen(
    node: Handle,
    number: usize,
    record: Shared,
    now_us: impl Fn() -> u64,
    ended: Rc<std::cell::Cell<bool>>,
) {
    let mut watching = Watching::open(&node);
    let (create, start) = {
        let record = record.borrow();
        let watch = &record.history.watches[number];
        let create = WatchCreateRequest {
            key: watch.key.clone().into(),
            range_end: watch.end.clone().unwrap_or_default().into(),
            start_revision: watch.start,
            progress_notify: number.is_multiple_of(2),
            ..WatchCreateRequest::default()
        };
        (create, watch.start)
    };
    watching.create(create);
    let mut heard = 0_u32;
    while let Some(response) = watching.next().await {
        heard += 1;
        if heard.is_multiple_of(7) {
            watching.progress();
        }
        if response.canceled {
            break;
        }
        if response.created && start > 0 {
            continue;
        }
        let mut record = record.borrow_mut();
        let revision = response.header.map_or(0, |header| header.revision);
        let events: Vec<_> = response.events.iter().map(translate::event).collect();
        let watch = &mut record.history.watches[number];
        let (watch, heard) = (watch.id, &mut watch.heard);
        heard.push(Heard { watch, at: now_us() * 1000, revision, events });
    }
    ended.set(true);
}

/// A new watch, of somebody who was away since the compaction: it is fed from history.
pub fn watch_from_compaction(record: &mut Record) -> usize {
    let number = record.history.watches.len();
    let (key, end) = ("k".to_owned(), Some("l".to_owned()));
    let (id, start, heard) = (number as u64 + 1, record.compacted, Vec::new());
    record.history.watches.push(Watch { id, key, end, start, heard, until: None });
    number
}

/// A new watch.
pub fn watch(seed: &mut Seed, record: &mut Record, keys: u64) -> usize {
    let number = record.history.watches.len();
    let all = seed.below(3) == 0;
    let key = if all { "k".to_owned() } else { format!("k{:02}", seed.below(keys)) };
    let end = match (all, seed.coin()) {
        (true, _) => Some("l".to_owned()),
        (false, true) => Some(format!("k{:02}", seed.below(keys))),
        (false, false) => None,
    };
    let start = match seed.below(4) {
        0 => 0,
        // The oldest that can be had: what compaction kept for those who come back.
        3 => record.compacted,
        1 => (record.revision - seed.below(40) as i64).max(1),
        _ => record.revision + 1 + seed.below(10) as i64,
    };
    let id = number as u64 + 1;
    let heard = Vec::new();
    record.history.watches.push(Watch { id, key, end, start, heard, until: None });
    number
}
