//! Simulated clients at work: a request, its answer, and what of it goes on record.

use kvorum::error::Error;
use kvorum::machine::Reply as Answered;
use kvorum::node::Outgoing;
use kvorum::pb::internal_raft_request::Command;
use kvorum::pb::kv_server::Kv as _;
use kvorum::pb::lease_server::Lease as _;
use kvorum::pb::response_op::Response as OpAnswer;
use kvorum::pb::{
    AlarmRequest, AlarmType, CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest,
    RangeResponse, TxnRequest, alarm_request::AlarmAction,
};
use kvorum::sim::{Kv, Mark, mark};
use tokio_stream::StreamExt as _;
use tonic::{Request as Call, Status};

use crate::checker::history::{
    Answer, Compaction, LeaseAsk, LeaseHeard, LeaseOp, Op, Outcome, Range, Reply, Request, Txn,
};

use super::clients::{Ask, Busy, Lifetime, Services, Shared};
use super::looks::{self, Look, Seen, Within};
use super::{kube, rolls, translate};

/// What is longer does not fit into the segments of any world's log.
const LONG: usize = 64 * 1024;

/// Statuses after which a request surely did not happen.
const REFUSALS: [&str; 4] = [
    "etcdserver: requested lease not found",
    "etcdserver: too many requests",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
];

/// Asks a member, and records what it answers.
pub async fn ask(services: Services, ask: Ask, busy: Busy, now_us: impl Fn() -> u64) {
    let record = busy.record.clone();
    match ask {
        Ask::Kv { request, lease } => {
            recorded(&services, &request, lease, &busy, &now_us).await;
        }
        Ask::Stream(range) => {
            let number = begin(&record, busy.client, now_us(), &Request::Range(range.clone()));
            let answered = stream(&services.kv, &range).await;
            end(&record, number, now_us(), answered);
        }
        Ask::Look(look) => drop(self::look(&services, look, &busy, &now_us).await),
        Ask::List { limit } => kube::list(&services, limit, &busy, now_us).await,
        Ask::CompactInTurn { revision, unique } => {
            kube::compact_in_turn(&services, (revision, unique), &busy, now_us).await;
        }
        Ask::Members { linearizable } => rolls::list(&services, linearizable, &record).await,
        Ask::Move { id, url } => rolls::relocate(&services, id, url, &record).await,
        Ask::Hash { revision } => {
            if let Ok(hash) = services.node.hash_kv(revision).await {
                record.borrow_mut().looks.hashes.push(hash);
            }
        }
        Ask::State => {
            if let Ok(state) = kvorum::sim::hand_out(services.node).await
                && let Some(file) = gather(state).await
            {
                let read = looks::read_state(&file).expect("a whole state can be read");
                record.borrow_mut().looks.states.push(read);
                mark(Mark::StateHandedOut);
            }
        }
        Ask::Disarm => disarm(&services).await,
        Ask::Compact { revision, physical } => {
            compact(&services, revision, physical, &record, now_us).await;
        }
        of_leases => leases(services, of_leases, record, now_us).await,
    }
}

/// Asks for something, and records it; what was answered.
pub async fn recorded(
    services: &Services,
    request: &Request,
    lease: i64,
    busy: &Busy,
    now_us: &impl Fn() -> u64,
) -> Option<Answer> {
    let number = begin(&busy.record, busy.client, now_us(), request);
    let answered = kv(&services.kv, request, lease).await;
    let answer = answered.as_ref().ok().cloned();
    end(&busy.record, number, now_us(), answered);
    answer
}

/// Asks for a compaction.
pub async fn compact(
    services: &Services,
    revision: i64,
    physical: bool,
    record: &Shared,
    now_us: impl Fn() -> u64,
) {
    let (call, end, server) = (now_us() * 1000, None, services.server);
    let asked = Compaction { revision, call, end, server };
    let number = record.borrow().history.compactions.len();
    record.borrow_mut().history.compactions.push(asked);
    let request = CompactionRequest { revision, physical };
    if services.kv.compact(Call::new(request)).await.is_ok() {
        let mut record = record.borrow_mut();
        record.history.compactions[number].end = Some(now_us() * 1000);
        record.compacted = record.compacted.max(revision);
    }
}

/// Asks for or about leases.
pub async fn leases(services: Services, ask: Ask, record: Shared, now_us: impl Fn() -> u64) {
    let (call_us, record) = (now_us(), &record);
    match ask {
        Ask::Grant { ttl } => {
            let request = LeaseGrantRequest { ttl, id: 0 };
            if let Ok(granted) = services.lease.lease_grant(Call::new(request)).await {
                let granted = granted.into_inner();
                let number = begin_lease(record, granted.id, call_us, LeaseAsk::Grant);
                end_lease(record, number, now_us(), LeaseHeard::Lives(granted.ttl));
                let mut record = record.borrow_mut();
                record.leases.push(granted.id);
                record.promise(granted.id, call_us, granted.ttl);
            }
        }
        Ask::KeepAlive { lease } => {
            let number = begin_lease(record, lease, call_us, LeaseAsk::KeepAlive);
            let heard = match services.node.renew(lease).await {
                Ok(ttl) => {
                    record.borrow_mut().promise(lease, call_us, ttl);
                    LeaseHeard::Lives(ttl)
                }
                Err(Error::LeaseNotFound) => LeaseHeard::Gone,
                Err(_) => LeaseHeard::Unknown,
            };
            end_lease(record, number, now_us(), heard);
        }
        Ask::Revoke { lease } => {
            record.borrow_mut().given_up.push(lease);
            let request = Call::new(LeaseRevokeRequest { id: lease });
            // However it ends, the lease is not counted on any more.
            let number = begin_lease(record, lease, call_us, LeaseAsk::Revoke);
            let heard = match services.lease.lease_revoke(request).await {
                Ok(_) => LeaseHeard::Gone,
                Err(_) => LeaseHeard::Unknown,
            };
            end_lease(record, number, now_us(), heard);
        }
        Ask::TimeToLive { lease } => {
            if let Ok(told) = services.node.time_to_live(lease, true).await {
                let (ttl, granted_ttl) = (told.ttl, told.granted_ttl);
                let told = Lifetime::Of { lease, ttl, granted_ttl };
                record.borrow_mut().lifetimes.push(told);
            }
        }
        Ask::Leases => {
            if let Ok(there) = services.node.leases().await {
                record.borrow_mut().lifetimes.push(Lifetime::There(there));
            }
        }
        _ => unreachable!("the caller has seen to the others"),
    }
}

fn begin_lease(record: &Shared, lease: i64, call_us: u64, ask: LeaseAsk) -> usize {
    let mut record = record.borrow_mut();
    let (call, heard) = (call_us * 1000, LeaseHeard::Unknown);
    record.history.leases.push(LeaseOp { lease, call, end: None, ask, heard });
    record.history.leases.len() - 1
}

fn end_lease(record: &Shared, number: usize, now_us: u64, heard: LeaseHeard) {
    let op = &mut record.borrow_mut().history.leases[number];
    (op.end, op.heard) = (Some(now_us * 1000), heard);
}

async fn disarm(services: &Services) {
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

/// All pieces of a state, if they come to an end.
pub async fn gather(mut state: Outgoing) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    while let Some(piece) = state.chunks.recv().await {
        file.extend_from_slice(&piece.ok()?);
    }
    (file.len() as u64 == state.bytes).then_some(file)
}

/// Reads as of a revision, perhaps within a transaction; what was found there, or why not.
pub async fn look(
    services: &Services,
    look: Look,
    busy: &Busy,
    now_us: &impl Fn() -> u64,
) -> Result<(i64, Reply), String> {
    let record = &busy.record;
    let (floor, compacted) = {
        let record = record.borrow();
        (record.revision, record.compacted)
    };
    let range = translate::look(&look);
    let (answer, op) = match &look.within {
        Within::Nothing => {
            let answer = services.kv.range(Call::new(range)).await.map(tonic::Response::into_inner);
            (answer.map(|found| (translate::header_of(&found), translate::rows(&found))), None)
        }
        within => {
            let put = match within {
                Within::Putting(key, value) => {
                    Some(Request::Put { key: key.clone(), value: value.clone() })
                }
                _ => None,
            };
            let mut success: Vec<_> = put.iter().map(translate::op).collect();
            success.push(translate::op_of(range));
            // The history knows the put; the range is looked at on its own.
            let txn = Request::Txn(Txn {
                compare: Vec::new(),
                success: put.clone().into_iter().collect(),
                failure: Vec::new(),
            });
            let op = put.map(|_| begin(record, busy.client, now_us(), &txn));
            let request = TxnRequest { success, ..TxnRequest::default() };
            let answer = services.kv.txn(Call::new(request)).await;
            (answer.and_then(|answer| in_txn(answer.into_inner())), op)
        }
    };
    let status = |status: &Status| status.message().to_owned();
    if let Some(number) = op {
        let replies = vec![Reply::Put];
        let answered = match &answer {
            Ok((revision, _)) => {
                let reply = Reply::Txn { succeeded: true, replies };
                Ok(Answer { revision: *revision, reply })
            }
            Err(status) => Err(status.clone()),
        };
        end(record, number, now_us(), answered);
    }
    let answer = answer.map_err(|refused| status(&refused));
    let seen = Seen { look, floor, compacted, answer: answer.clone() };
    record.borrow_mut().looks.seen.push(seen);
    answer
}

/// What the range at the end of a transaction found.
fn in_txn(answer: kvorum::pb::TxnResponse) -> Result<(i64, Reply), Status> {
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    match answer.responses.last().and_then(|last| last.response.as_ref()) {
        Some(OpAnswer::ResponseRange(found)) => Ok((revision, translate::rows(found))),
        _ => Err(Status::internal("a transaction without its range")),
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
    let request = record.history.ops[number].request.clone();
    let outcome = match answered {
        Ok(answer) => {
            record.answered += 1;
            if matches!(request, Request::Put { .. }) {
                record.out_of_space = false;
            }
            record.revision = record.revision.max(answer.revision);
            record.known.learn(&request, answer.revision, &answer.reply);
            match &answer.reply {
                Reply::Delete { deleted: 1.. } => record.deleted.push(answer.revision),
                Reply::Txn { replies, .. } if translate::has_nested(replies) => {
                    mark(Mark::TxnNested);
                }
                _ => {}
            }
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

/// A range in pieces, and what they come to.
async fn stream(kv: &Kv, range: &Range) -> Result<Answer, Status> {
    let mut pieces = kv.range_stream(Call::new(translate::range(range))).await?.into_inner();
    let mut whole = RangeResponse::default();
    while let Some(piece) = pieces.next().await {
        let piece = piece?.range_response.unwrap_or_default();
        whole.header = piece.header.or(whole.header);
        whole.count = piece.count.max(whole.count);
        whole.kvs.extend(piece.kvs);
    }
    Ok(Answer { revision: translate::header_of(&whole), reply: translate::rows(&whole) })
}

async fn kv(kv: &Kv, request: &Request, lease: i64) -> Result<Answer, Status> {
    let (header, reply) = match request {
        Request::Put { key, value } => {
            let put = translate::put(key, value, lease);
            let answer = kv.put(Call::new(put)).await?.into_inner();
            if value.len() > LONG {
                mark(Mark::ValueLong);
            }
            (answer.header, Reply::Put)
        }
        Request::Delete(span) => {
            let delete = translate::delete(span);
            let answer = kv.delete_range(Call::new(delete)).await?.into_inner();
            (answer.header, Reply::Delete { deleted: answer.deleted as usize })
        }
        Request::Range(range) => {
            let range = translate::range(range);
            let answer = kv.range(Call::new(range)).await?.into_inner();
            let reply = translate::rows(&answer);
            (answer.header, reply)
        }
        Request::Txn(txn) => {
            let txn = translate::txn(txn);
            let answer = kv.txn(Call::new(txn)).await?.into_inner();
            let reply = translate::txn_reply(&answer);
            (answer.header, reply)
        }
    };
    let revision = header.map_or(0, |header| header.revision);
    Ok(Answer { revision, reply })
}
