//! Members whose rows differ from the others', and members whose state is damaged.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum::StartError;
use kvorum::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum::pb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, KeyValue, alarm_request::AlarmAction,
};
use kvorum::storage::disk::RealDisk;
use kvorum::storage::engine::{Table, Write};
use kvorum::storage::state::{Kind, Place, SUSPECT};
use prost::Message as _;
use tonic::Code;

use super::client::{refused, until};
use super::fixture::{Cluster, Member};
use crate::support::http;

/// How often the tests' leaders compare, which is once a minute otherwise.
const INTERVAL: Duration = Duration::from_millis(300);
const KEYS: usize = 20;

async fn start() -> Cluster {
    Cluster::start_with(3, |config| config.compact_hash_check_time = Some(INTERVAL)).await
}

/// Puts some keys; the last revision.
async fn fill(cluster: &Cluster) -> i64 {
    let mut last = 0;
    for n in 0..KEYS {
        last = cluster.member(0).put(&format!("k/{n:02}"), "as written").await.expect("a put");
    }
    cluster.until_everywhere(&format!("k/{:02}", KEYS - 1), "as written").await;
    last
}

/// Where a member that is stopped has its state.
fn place(member: &Member) -> Place {
    let dir = member.data_dir().join("member").join("state");
    Place { disk: Arc::new(RealDisk), dir, kind: Kind::Redb, cache_bytes: 1 << 20 }
}

/// Changes what a stopped member has stored for a key, with checksums and all.
fn falsify(member: &Member, key: &str) {
    let engine = place(member).open(0).expect("its state is whole");
    let mut found = None;
    let view = engine.view().expect("a view");
    view.scan(Table::Key, &[], None, &mut |row_key, row| {
        let row = KeyValue::decode(row).expect("a row is a message");
        if row.key == key.as_bytes() {
            found = Some((Bytes::copy_from_slice(row_key), row));
        }
        Ok(ControlFlow::Continue(()))
    })
    .expect("it can be read");
    let (row_key, mut row) = found.expect("the key is there");
    row.value = Bytes::from_static(b"as never written");
    let value = row.encode_to_vec().into();
    engine.commit(&[Write::Put { table: Table::Key, key: row_key, value }]).expect("a commit");
}

/// The file of a stopped member's engine.
fn engine_file(member: &Member) -> PathBuf {
    let place = place(member);
    place.dir.join(place.current().expect("a generation").to_string()).join("redb")
}

async fn alarm(member: &Member, action: AlarmAction, member_id: u64) -> Vec<AlarmMember> {
    let request =
        AlarmRequest { action: action as i32, member_id, alarm: AlarmType::Corrupt as i32 };
    let alarms = MaintenanceClient::new(member.channel()).alarm(request).await;
    alarms.expect("alarms are told").into_inner().alarms
}

async fn alarms(member: &Member) -> Vec<AlarmMember> {
    alarm(member, AlarmAction::Get, 0).await
}

fn told(member: &Member, path: &str) -> http::Reply {
    let address = member.running().client_addresses()[0].to_string();
    http::request(&address, "GET", path, b"").expect("an answer")
}

/// Compacts at a revision, so that all members leave a hash of the rows up to there.
async fn compact(cluster: &Cluster, revision: i64) {
    let request = CompactionRequest { revision, physical: true };
    cluster.member(0).kv().compact(request).await.expect("a compaction");
}

/// Falsifies a row of a follower, or of who leads then, and sees that everybody learns of it.
async fn differs(leads: bool) {
    let mut cluster = start().await;
    let last = fill(&cluster).await;
    let wrong = cluster.follower().await;
    cluster.stop(wrong).await;
    falsify(cluster.member(wrong), "k/07");
    cluster.start_members(&[wrong]).await;
    let said = cluster.member(wrong).stale("k/07").await.expect("a get");
    assert_eq!(said.as_deref(), Some("as never written"));
    if leads {
        let node = cluster.member(cluster.leader().await).running().node();
        node.transfer_leader(Some(cluster.member(wrong).id())).await.expect("a transfer");
        assert_eq!(cluster.leader().await, wrong);
    }
    compact(&cluster, last).await;
    let id = cluster.member(wrong).id();
    let corrupt = AlarmMember { member_id: id, alarm: AlarmType::Corrupt as i32 };
    for member in cluster.at_work() {
        until("the alarm", async || (alarms(member).await == [corrupt]).then_some(())).await;
        // As in etcd: nobody writes until somebody has looked at it.
        let refusal = refused(member.put("k/new", "v").await);
        assert_eq!(refusal.code(), Code::DataLoss);
        assert_eq!(refusal.message(), "etcdserver: corrupt cluster");
        let ready = told(member, "/readyz");
        let failed = "[-]data_corruption failed: alarm activated: CORRUPT";
        assert!(ready.status == 503 && ready.body.contains(failed), "{}", ready.body);
        let health = told(member, "/health");
        assert_eq!((health.status, health.body.contains("ALARM CORRUPT")), (503, true));
        let gauge = "etcd_debugging_server_alarms";
        let raised = format!("{gauge}{{alarm_type=\"CORRUPT\",server_id=\"{id:x}\"}} 1");
        let metrics = told(member, "/metrics").body;
        assert!(metrics.contains(&raised), "{metrics}");
    }
    // It is raised again at the next comparison, until the member is replaced.
    cluster.stop(wrong).await;
    let leader = cluster.leader_but(&[wrong]).await;
    cluster.replace(wrong, leader).await;
    alarm(cluster.member(leader), AlarmAction::Deactivate, id).await;
    cluster.assert_alike().await;
    for member in cluster.at_work() {
        until("writes", async || member.put("k/new", "v").await.ok()).await;
        assert!(alarms(member).await.is_empty());
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_rows_differ_is_named_to_everybody() {
    differs(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_rows_differ_names_itself() {
    differs(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_rows_differ_does_not_start_if_it_checks() {
    let mut cluster = start().await;
    fill(&cluster).await;
    let wrong = cluster.follower().await;
    cluster.change(wrong, |config| config.initial_corrupt_check = true);
    cluster.stop(wrong).await;
    cluster.try_start(wrong).await.expect("its rows are right");
    cluster.stop(wrong).await;
    falsify(cluster.member(wrong), "k/07");
    // It leaves nothing behind that would be in the way of the next start.
    cluster.try_start(wrong).await.expect_err("its rows are wrong");
    let refusal = cluster.try_start(wrong).await.expect_err("its rows are wrong");
    let peers: Vec<u64> = cluster.at_work().map(Member::id).collect();
    assert!(matches!(refusal, StartError::Corrupt { peer } if peers.contains(&peer)), "{refusal}");
    let words = refusal.to_string();
    assert!(words.starts_with("the rows of this member differ from those of "), "{words}");
    // The others are not disturbed.
    cluster.member(cluster.leader_but(&[wrong]).await).put("k/new", "v").await.expect("a put");
    cluster.end().await;
}

/// Damages a stopped member's engine, and sees that it comes back whole under its id.
async fn heals(damage: impl FnOnce(&Member)) {
    let mut cluster = start().await;
    fill(&cluster).await;
    let damaged = cluster.follower().await;
    let id = cluster.member(damaged).id();
    cluster.stop(damaged).await;
    damage(cluster.member(damaged));
    let leader = cluster.leader_but(&[damaged]).await;
    cluster.member(leader).put("k/while away", "v").await.expect("a put");
    cluster.try_start(damaged).await.expect("it takes another one's state");
    let member = cluster.member(damaged);
    assert_eq!(member.running().node().member_id(), id);
    member.put("k/after", "v").await.expect("a put");
    cluster.until_everywhere("k/after", "v").await;
    cluster.assert_alike().await;
    // What was damaged is kept for whoever wants to know.
    let kept = fs::read_dir(member.data_dir().join("member")).expect("a directory").flatten();
    let mut kept = kept.filter(|one| one.file_name().to_string_lossy().starts_with("damaged-"));
    let (first, second) = (kept.next().expect("it is kept"), kept.next());
    assert!(second.is_none(), "{second:?}");
    assert!(first.path().join("1").join("redb").exists(), "{first:?}");
    assert!(alarms(member).await.is_empty());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_gone_is_made_again_from_a_peers() {
    heals(|member| {
        let path = engine_file(member);
        fs::write(path, b"").expect("it can be emptied");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_does_not_read_back_is_found_by_a_suspicious_start() {
    heals(|member| {
        let path = engine_file(member);
        let mut bytes = fs::read(&path).expect("the engine's file");
        // The engine's file has more copies than the one that counts.
        let text = b"as written";
        for at in 0..bytes.len() - text.len() {
            if bytes[at..].starts_with(text) {
                bytes[at] ^= 1;
            }
        }
        fs::write(path, bytes).expect("it can be damaged");
        // As a process that read the row would have left behind when it stopped over it.
        fs::write(place(member).dir.join(SUSPECT), b"").expect("a mark");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_is_left_and_grows_to_three_again() {
    let mut cluster = start().await;
    let last = fill(&cluster).await;
    let survivor = cluster.follower().await;
    cluster.stop_all().await;
    cluster.change(survivor, |config| config.force_new_cluster = true);
    cluster.try_start(survivor).await.expect("it goes on alone");
    let member = cluster.member(survivor);
    let node = member.running().node();
    assert_eq!(node.members().iter().map(|one| one.id).collect::<Vec<_>>(), [member.id()]);
    assert_eq!(node.revision(), last);
    for n in 0..KEYS {
        let value = member.get(&format!("k/{n:02}")).await.expect("a get");
        assert_eq!(value.as_deref(), Some("as written"));
    }
    // Without the flag it is what it has become.
    cluster.stop(survivor).await;
    cluster.change(survivor, |config| config.force_new_cluster = false);
    cluster.try_start(survivor).await.expect("it goes on alone");
    cluster.member(survivor).put("k/alone", "v").await.expect("a put");
    for n in (0..3).filter(|n| *n != survivor) {
        cluster.replace(n, survivor).await;
        cluster.member(n).put(&format!("k/{n}"), "v").await.expect("a put");
    }
    assert_eq!(cluster.member(survivor).running().node().members().iter().count(), 3);
    cluster.until_everywhere("k/alone", "v").await;
    cluster.assert_alike().await;
    cluster.end().await;
}
