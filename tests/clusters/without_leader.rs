//! What a member answers that is left alone by the others, call by call as etcd's member answers.
//!
//! `answers_without_leader` was written by `RECORD_FROM=/path/to/etcd cargo test without_leader`.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kvorum::pb::compare::{CompareResult, CompareTarget};
use kvorum::pb::downgrade_request::DowngradeAction;
use kvorum::pb::etcdserverpb::cluster_client::ClusterClient;
use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::lease_client::LeaseClient;
use kvorum::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum::pb::etcdserverpb::watch_client::WatchClient;
use kvorum::pb::health::{HealthCheckRequest, health_client::HealthClient};
use kvorum::pb::{self, request_op::Request as Operation, watch_request::RequestUnion};
use tempfile::TempDir;
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::client::{until, within};
use super::fixture::Cluster;
use crate::support::port::Port;
use crate::support::{print, target};

const LEASE: i64 = 5;
/// Beyond what any answer takes that comes by itself.
const PATIENCE: Duration = Duration::from_secs(25);
const NO_ANSWER: &str = "no answer";

/// Where kvorum says something else: it has no users and no downgrades yet, and it keeps no client
/// waiting without end, as etcd does with changes of members.
const OURS: [(&str, &str); 3] = [
    (
        "downgrade enable",
        "Unimplemented: kvorum: cluster downgrade is not available in this version",
    ),
    ("member remove", "DeadlineExceeded: context deadline exceeded"),
    ("member update", "DeadlineExceeded: context deadline exceeded"),
];

type Answer = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;
type Calls = Vec<(&'static str, Answer)>;

/// Calls of one service by their names: what is called, and with what.
macro_rules! calls {
    ($channel:ident, $client:ident, $($name:literal $method:ident ($request:expr);)*) => {
        vec![$({
            let (mut client, request) = ($client::new($channel.clone()), $request);
            let answer: Answer = Box::pin(async move { done(client.$method(request).await) });
            ($name, answer)
        }),*]
    };
}

fn done<T>(answer: Result<Response<T>, Status>) -> Result<(), Status> {
    answer.map(|_| ())
}

/// The first message of an answer that is a stream.
async fn first<T>(answer: Result<Response<Streaming<T>>, Status>) -> Result<(), Status> {
    answer?.into_inner().message().await.map(|_| ())
}

fn key() -> bytes::Bytes {
    "k".into()
}

fn range(serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest { key: key(), serializable, ..Default::default() }
}

fn put() -> pb::PutRequest {
    pb::PutRequest { key: key(), ..Default::default() }
}

fn txn(operation: Operation) -> pb::TxnRequest {
    let success = vec![pb::RequestOp { request: Some(operation) }];
    let compare = vec![pb::Compare {
        result: CompareResult::Greater as i32,
        target: CompareTarget::Version as i32,
        key: key(),
        ..Default::default()
    }];
    pb::TxnRequest { compare, success, failure: Vec::new() }
}

fn compaction(physical: bool) -> pb::CompactionRequest {
    pb::CompactionRequest { revision: 1, physical }
}

/// The same, from a client that wants to be told when there is no leader.
fn wants_leader<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("hasleader", "true".parse().expect("it is text"));
    request
}

fn kv(channel: &Channel) -> Calls {
    calls! { channel, KvClient,
        "put" put(put());
        "put that wants a leader" put(wants_leader(put()));
        "range" range(range(false));
        "range that wants a leader" range(wants_leader(range(false)));
        "range, serializable" range(range(true));
        "range, serializable, that wants a leader" range(wants_leader(range(true)));
        "delete" delete_range(pb::DeleteRangeRequest { key: key(), ..Default::default() });
        "txn that writes" txn(txn(Operation::RequestPut(put())));
        "txn that reads" txn(txn(Operation::RequestRange(range(false))));
        "txn that reads, serializable" txn(txn(Operation::RequestRange(range(true))));
        "txn of nothing" txn(pb::TxnRequest::default());
        "compact" compact(compaction(false));
        "compact, physical" compact(compaction(true));
    }
}

fn lease(channel: &Channel) -> Calls {
    let ttl = pb::LeaseTimeToLiveRequest { id: LEASE, keys: false };
    calls! { channel, LeaseClient,
        "lease grant" lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 });
        "lease revoke" lease_revoke(pb::LeaseRevokeRequest { id: LEASE });
        "lease time to live" lease_time_to_live(ttl);
        "lease list" lease_leases(pb::LeaseLeasesRequest {});
    }
}

fn cluster(channel: &Channel, own: u64) -> Calls {
    let url = |n: u16| vec![format!("http://127.0.0.1:{n}")];
    let learner = pb::MemberAddRequest { peer_ur_ls: url(2), is_learner: true };
    calls! { channel, ClusterClient,
        "member list" member_list(pb::MemberListRequest { linearizable: false });
        "member list, linearizable" member_list(pb::MemberListRequest { linearizable: true });
        "member list that wants a leader" member_list(wants_leader(Default::default()));
        "member add" member_add(pb::MemberAddRequest { peer_ur_ls: url(1), is_learner: false });
        "member add, learner" member_add(learner);
        "member remove" member_remove(pb::MemberRemoveRequest { id: 9 });
        "member remove, itself" member_remove(pb::MemberRemoveRequest { id: own });
        "member update" member_update(pb::MemberUpdateRequest { id: own, peer_ur_ls: url(3) });
        "member promote" member_promote(pb::MemberPromoteRequest { id: 9 });
    }
}

fn maintenance(channel: &Channel, own: u64) -> Calls {
    let disarm = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Deactivate as i32,
        alarm: pb::AlarmType::Nospace as i32,
        member_id: own,
    };
    let downgrade = |action: DowngradeAction, version: &str| {
        let (action, version) = (action as i32, version.to_owned());
        pb::DowngradeRequest { action, version }
    };
    calls! { channel, MaintenanceClient,
        "alarm list" alarm(pb::AlarmRequest::default());
        "alarm disarm" alarm(disarm);
        "status" status(pb::StatusRequest {});
        "status that wants a leader" status(wants_leader(pb::StatusRequest {}));
        "hash" hash(pb::HashRequest {});
        "hashkv" hash_kv(pb::HashKvRequest { revision: 0 });
        "defragment" defragment(pb::DefragmentRequest {});
        "move leader" move_leader(pb::MoveLeaderRequest { target_id: own });
        "snapshot" snapshot(pb::SnapshotRequest {});
        "downgrade validate" downgrade(downgrade(DowngradeAction::Validate, "3.6.0"));
        "downgrade validate, no version" downgrade(downgrade(DowngradeAction::Validate, "x"));
        "downgrade enable" downgrade(downgrade(DowngradeAction::Enable, "3.6.0"));
    }
}

fn streams(channel: &Channel) -> Calls {
    let kept = |id| {
        let mut client = LeaseClient::new(channel.clone());
        let request = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
        let request = request.chain(tokio_stream::pending());
        Box::pin(async move { first(client.lease_keep_alive(request).await).await })
    };
    let watched = |wants: bool| {
        let mut client = WatchClient::new(channel.clone());
        let create = pb::WatchCreateRequest { key: key(), ..Default::default() };
        let request_union = Some(RequestUnion::CreateRequest(create));
        let request = tokio_stream::once(pb::WatchRequest { request_union });
        let request = request.chain(tokio_stream::pending());
        let request = if wants { wants_leader(request) } else { Request::new(request) };
        Box::pin(async move { first(client.watch(request).await).await })
    };
    let (mut kv, mut health) = (KvClient::new(channel.clone()), HealthClient::new(channel.clone()));
    vec![
        ("lease keep alive", kept(LEASE)),
        ("lease keep alive, of none", kept(99)),
        ("watch", watched(false)),
        ("watch that wants a leader", watched(true)),
        ("range stream", Box::pin(async move { first(kv.range_stream(range(false)).await).await })),
        (
            "health",
            Box::pin(async move { done(health.check(HealthCheckRequest::default()).await) }),
        ),
    ]
}

/// All calls at once, as etcd's table has them: one line each.
async fn answers(channel: &Channel, own: u64) -> Vec<String> {
    let calls = [
        kv(channel),
        lease(channel),
        cluster(channel, own),
        maintenance(channel, own),
        streams(channel),
    ];
    let asked: Vec<_> = calls
        .into_iter()
        .flatten()
        .map(|(name, answer)| (name, tokio::spawn(tokio::time::timeout(PATIENCE, answer))))
        .collect();
    let mut lines = Vec::new();
    for (name, answer) in asked {
        let answer = match answer.await.expect("a call does not panic") {
            Ok(Ok(())) => "Ok".to_owned(),
            Ok(Err(status)) => print::status(&status),
            Err(_) => NO_ANSWER.to_owned(),
        };
        lines.push(format!("{name} -> {answer}"));
    }
    lines
}

/// Writes what the calls ask for.
async fn prepare(channel: &Channel) {
    let ready = async || {
        let grant = pb::LeaseGrantRequest { ttl: 600, id: LEASE };
        let granted = LeaseClient::new(channel.clone()).lease_grant(grant).await;
        granted.is_ok().then_some(())
    };
    until("a lease", ready).await;
    KvClient::new(channel.clone()).put(put()).await.expect("a put");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_left_alone_answers_as_etcds_does() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("tests/clusters/answers_without_leader");
    if target::recording() {
        let lines = recorded(&target::program()).await;
        std::fs::write(&path, lines.join("\n") + "\n").expect("the file is writable");
        return;
    }
    let etcds = std::fs::read_to_string(&path).expect("the file is there");
    let mut cluster = Cluster::start(3).await;
    prepare(&cluster.member(0).channel()).await;
    let leader = cluster.leader().await;
    let (left, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.until_everywhere("k", "").await;
    cluster.lose(other).await;
    cluster.lose(leader).await;
    let member = cluster.member(left);
    let node = member.running().node();
    until("no leader", async || (node.progress().leader == 0).then_some(())).await;
    let (slow, failed) = (&node.metrics().read_indexes_slow, &node.metrics().proposals_failed);
    let before = (slow.get(), failed.get());
    let lines = within("answers", answers(&member.channel(), member.id())).await;
    let expected: Vec<String> = etcds.lines().map(ours).collect();
    assert_eq!(lines, expected);
    assert!(node.progress().leader == 0, "nobody came back");
    // Readers share a round. Each command counts: a put, a delete, a txn, two compactions, a grant,
    // a revocation, two about alarms. Whoever wants a leader is refused before that.
    // The driver counts a round when it looks next, which is after the last reader was answered.
    until("a slow round", async || (slow.get() > before.0).then_some(())).await;
    let counts = (slow.get() - before.0, failed.get() - before.1);
    assert_eq!(counts, (1, 9), "rounds of readers, commands that failed");
    cluster.end().await;
}

/// A line of etcd's as it should be of ours.
fn ours(line: &str) -> String {
    let (name, _) = line.split_once(" -> ").expect("a call has an answer");
    match OURS.iter().find(|(other, _)| *other == name) {
        Some((_, answer)) => format!("{name} -> {answer}"),
        None => line.to_owned(),
    }
}

/// Three members of another program, of which two are killed.
struct Foreign {
    _ports: Vec<Port>,
    _directory: TempDir,
    members: Vec<Child>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// What the last of three says.
async fn recorded(program: &Path) -> Vec<String> {
    let ports: Vec<Port> = (0..6).map(|_| Port::hold().expect("a free port")).collect();
    let url = |n: usize| format!("http://127.0.0.1:{}", ports[n].number);
    let founders: Vec<String> = (0..3).map(|n| format!("m{n}={}", url(n + 3))).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let members = (0..3).map(|n| {
        Command::new(program)
            .arg(format!("--name=m{n}"))
            .arg(format!("--data-dir={}", directory.path().join(format!("m{n}")).display()))
            .args([format!("--listen-client-urls={}", url(n))])
            .args([format!("--advertise-client-urls={}", url(n))])
            .args([format!("--listen-peer-urls={}", url(n + 3))])
            .args([format!("--initial-advertise-peer-urls={}", url(n + 3))])
            .arg(format!("--initial-cluster={}", founders.join(",")))
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts")
    });
    let members: Vec<Child> = members.collect();
    let address = url(0);
    let mut foreign = Foreign { _ports: ports, _directory: directory, members };
    let channel = Endpoint::from_shared(address).expect("an address").connect_lazy();
    prepare(&channel).await;
    for member in &mut foreign.members[1..] {
        member.kill().expect("it is there");
    }
    let mut status = MaintenanceClient::new(channel.clone());
    let mut own = 0;
    until("no leader", async || {
        let status = status.status(pb::StatusRequest {}).await.ok()?.into_inner();
        own = status.header.map_or(0, |header| header.member_id);
        (status.leader == 0).then_some(())
    })
    .await;
    answers(&channel, own).await
}
