//! `/metrics` beside etcd's: the same names, types, labels and buckets, and numbers that move.
//!
//! `etcd_metrics` has the shape of etcd's families after [`work`], one per line. It is written by
//! `RECORD_FROM=/path/to/etcd cargo test metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kvorum::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::lease_client::LeaseClient;
use kvorum::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum::pb::etcdserverpb::watch_client::WatchClient;
use kvorum::pb::{self, request_op::Request, watch_request::RequestUnion};
use tonic::transport::Channel;

use crate::support::http;
use crate::support::target::{self, Target};

/// Families of etcd that kvorum has not: names, or how they begin.
const LEFT_OUT: [&str; 16] = [
    // Not built yet: users.
    "etcd_debugging_auth_revision",
    // Not counted yet.
    "etcd_debugging_mvcc_db_compaction_",
    "etcd_debugging_mvcc_pending_events_total",
    "etcd_disk_wal_write_duration_seconds",
    // What kvorum has no such part for: bbolt, the index that is compacted apart, the v2 store and
    // its snapshots, the loop that sends watch events, the proxy, gates that switch anything.
    "etcd_debugging_disk_backend_commit_",
    "etcd_mvcc_db_open_read_transactions",
    "etcd_debugging_mvcc_index_compaction_",
    "etcd_debugging_store_",
    "etcd_debugging_snap_save_",
    "etcd_snap_fsync_duration_seconds",
    "etcd_debugging_server_watch_send_loop_",
    "etcd_grpc_proxy_",
    "etcd_server_feature_enabled",
    // Go and its libraries.
    "etcd_server_go_version",
    "go_",
    "promhttp_",
];

/// What kvorum has and etcd has not.
const OWN: [&str; 1] = ["process_threads"];

/// What is not zero after [`work`].
const MOVED: [&str; 40] = [
    "etcd_cluster_version",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_ttl_total_count",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_server_alarms",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_wal_write_bytes_total",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_hash_duration_seconds_count",
    "etcd_mvcc_hash_rev_duration_seconds_count",
    "etcd_mvcc_put_total",
    "etcd_mvcc_range_total",
    "etcd_mvcc_txn_total",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_known_peers",
    "etcd_server_apply_duration_seconds_count",
    "etcd_server_client_requests_total",
    "etcd_server_has_leader",
    "etcd_server_health_success",
    "etcd_server_healthcheck",
    "etcd_server_healthchecks_total",
    "etcd_server_id",
    "etcd_server_is_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_quota_backend_bytes",
    "etcd_server_range_duration_seconds_count",
    "etcd_server_request_duration_seconds_count",
    "etcd_server_version",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_count",
    "grpc_server_msg_sent_total",
];

/// A family: its type, the labels its samples have, the ends of its buckets.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
    buckets: Vec<String>,
}

impl Family {
    fn print(&self, name: &str) -> String {
        let labels = self.labels.iter().cloned().collect::<Vec<_>>().join(",");
        format!("{name} {} {{{labels}}} {}", self.kind, self.buckets.join(" ")).trim().to_owned()
    }
}

/// The families of an exposition text, and the sum of the samples of each name.
fn parse(text: &str) -> (BTreeMap<String, Family>, BTreeMap<String, f64>) {
    let (mut families, mut sums) = (BTreeMap::<String, Family>::new(), BTreeMap::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type is a name and a word");
            current = name.to_owned();
            families.entry(current.clone()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let value: f64 = value.parse().expect("a value is a number");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
            let family = families.get_mut(&current).expect("a type comes before samples");
            for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty())
            {
                let (label, value) = label.split_once("=\"").expect("a label has a value");
                let value = value.trim_end_matches('"');
                if label != "le" {
                    family.labels.insert(label.to_owned());
                } else if let Ok(end) = value.parse::<f64>()
                    && !family.buckets.contains(&end.to_string())
                {
                    family.buckets.push(end.to_string());
                }
            }
        }
    }
    (families, sums)
}

/// A little of everything.
async fn work(target: &Target) -> Result<(), Box<dyn std::error::Error>> {
    let channel = Channel::from_shared(format!("http://{}", target.address()))?.connect().await?;
    let mut kv = KvClient::new(channel.clone());
    let put = |key| pb::PutRequest { key, value: "value".into(), ..Default::default() };
    let range = pb::RangeRequest { key: "a".into(), ..Default::default() };
    let (requests, outgoing) = tokio::sync::mpsc::unbounded_channel();
    let outgoing = tokio_stream::wrappers::UnboundedReceiverStream::new(outgoing);
    let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
    let request_union = Some(RequestUnion::CreateRequest(create));
    requests.send(pb::WatchRequest { request_union })?;
    let mut watch = WatchClient::new(channel.clone()).watch(outgoing).await?.into_inner();
    watch.message().await?;

    kv.put(put("a".into())).await?;
    kv.put(put("b".into())).await?;
    watch.message().await?;
    kv.range(range.clone()).await?;
    kv.delete_range(pb::DeleteRangeRequest { key: "b".into(), ..Default::default() }).await?;
    let compare = pb::Compare {
        result: CompareResult::Greater as i32,
        target: CompareTarget::Mod as i32,
        key: "a".into(),
        target_union: Some(TargetUnion::ModRevision(0)),
        ..Default::default()
    };
    let ops = [Request::RequestPut(put("c".into())), Request::RequestRange(range)];
    let success = ops.map(|request| pb::RequestOp { request: Some(request) }).to_vec();
    kv.txn(pb::TxnRequest { compare: vec![compare], success, failure: Vec::new() }).await?;
    kv.compact(pb::CompactionRequest { revision: 3, physical: true }).await?;
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    LeaseClient::new(channel.clone()).lease_grant(grant).await?;

    let mut maintenance = MaintenanceClient::new(channel);
    maintenance.hash(pb::HashRequest {}).await?;
    maintenance.hash_kv(pb::HashKvRequest { revision: 0 }).await?;
    let status = maintenance.status(pb::StatusRequest {}).await?.into_inner();
    let alarm = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate as i32,
        member_id: status.header.map_or(0, |header| header.member_id),
        alarm: pb::AlarmType::Nospace as i32,
    };
    maintenance.alarm(alarm).await?;
    http::request(&target.address(), "GET", "/readyz", b"")?;
    Ok(())
}

/// A kind of each thing that is done to the store.
async fn done(target: &Target) -> Result<(), Box<dyn std::error::Error>> {
    let channel = Channel::from_shared(format!("http://{}", target.address()))?.connect().await?;
    let (mut kv, mut leases) = (KvClient::new(channel.clone()), LeaseClient::new(channel));
    let key = || bytes::Bytes::from_static(b"a");
    let put = pb::PutRequest { key: key(), value: "value".into(), ..Default::default() };
    let range = pb::RangeRequest { key: key(), ..Default::default() };
    kv.put(put.clone()).await?;
    kv.put(pb::PutRequest { prev_kv: true, ..put.clone() }).await?;
    kv.range(range.clone()).await?;
    let delete = pb::DeleteRangeRequest { key: key(), prev_kv: true, ..Default::default() };
    kv.delete_range(delete).await?;
    // What is refused counts for nothing.
    let refused = pb::PutRequest { lease: 404, ..put.clone() };
    kv.put(refused).await.expect_err("there is no such lease");

    let compare = pb::Compare { key: key(), ..Default::default() };
    let txn = |success: Vec<Request>| {
        let success = success.into_iter().map(|one| pb::RequestOp { request: Some(one) });
        let compare = vec![compare.clone(), compare.clone()];
        pb::TxnRequest { compare, success: success.collect(), failure: Vec::new() }
    };
    let nested = txn(vec![Request::RequestPut(put.clone())]);
    let kept = pb::PutRequest { prev_kv: true, ..put.clone() };
    let writes = vec![Request::RequestTxn(nested), Request::RequestPut(kept)];
    // Two puts of a key are one too many.
    kv.txn(txn(writes)).await.expect_err("a key is put twice");
    let other = Request::RequestPut(pb::PutRequest { key: "b".into(), prev_kv: true, ..put });
    kv.txn(txn(vec![other, Request::RequestRange(range.clone())])).await?;
    kv.txn(txn(vec![Request::RequestRange(range)])).await?;
    leases.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 7 }).await?;
    for key in ["c", "d"] {
        kv.put(pb::PutRequest { key: key.into(), lease: 7, ..Default::default() }).await?;
    }
    leases.lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await?;
    Ok(())
}

#[test]
fn what_is_done_to_the_store_is_counted_as_etcd_counts_it() {
    const COUNTED: [(&str, f64); 5] = [
        ("etcd_mvcc_range_total", 11.0),
        ("etcd_mvcc_put_total", 5.0),
        ("etcd_mvcc_delete_total", 3.0),
        ("etcd_mvcc_txn_total", 6.0),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", 20.0),
    ];
    let target = Target::start(&target::program(), &[]).expect("the server starts");
    let numbers = || {
        let reply = http::request(&target.address(), "GET", "/metrics", b"").expect("an answer");
        let (_, sums) = parse(&reply.body);
        COUNTED.map(|(name, _)| sums.get(name).copied().unwrap_or_default())
    };
    let before = numbers();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(done(&target)).expect("the server does what it is asked");
    let counted: Vec<(&str, f64)> = COUNTED
        .iter()
        .zip(numbers())
        .zip(before)
        .map(|(((name, _), now), was)| (*name, now - was))
        .collect();
    assert_eq!(counted, COUNTED);
}

fn scrape() -> String {
    let flags = ["--metrics=extensive".to_owned()];
    let target = Target::start(&target::program(), &flags).expect("the server starts");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(work(&target)).expect("the server does what it is asked");
    let reply = http::request(&target.address(), "GET", "/metrics", b"").expect("it answers");
    assert_eq!(reply.status, 200);
    reply.body
}

#[test]
fn metrics_are_those_of_etcd_and_move() {
    let text = scrape();
    let (families, sums) = parse(&text);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/process/etcd_metrics");
    if target::recording() {
        let lines: Vec<String> = families.iter().map(|(name, family)| family.print(name)).collect();
        std::fs::write(&path, lines.join("\n") + "\n").expect("the fixture is writable");
    }
    let etcd = std::fs::read_to_string(&path).expect("the fixture is there");
    let still = MOVED.iter().filter(|name| sums.get(**name).is_none_or(|sum| *sum == 0.0));
    assert_eq!(still.collect::<Vec<_>>(), Vec::<&&str>::new(), "these should have moved");
    if target::is_foreign() {
        return;
    }
    let is_left_out = |name: &str| LEFT_OUT.iter().any(|out| name.starts_with(out));
    let mut wrong = Vec::new();
    for line in etcd.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        match (families.get(name), is_left_out(name)) {
            (None, true) => {}
            (Some(family), false) if family.print(name) == line => {}
            (Some(_), true) => wrong.push(format!("{name} is not left out")),
            (Some(family), false) => wrong.push(format!("{line} is {}", family.print(name))),
            (None, false) => wrong.push(format!("{line} is missing")),
        }
    }
    let is_etcds = |name: &str| etcd.lines().any(|line| line.split(' ').next() == Some(name));
    let own = families.keys().filter(|name| !is_etcds(name) && !OWN.contains(&name.as_str()));
    wrong.extend(own.map(|name| format!("{name} is not etcd's")));
    for out in LEFT_OUT {
        if !etcd.lines().any(|line| line.starts_with(out)) {
            wrong.push(format!("etcd has no {out} to leave out"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
