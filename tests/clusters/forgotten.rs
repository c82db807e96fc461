//! Members whose log is lost, or older than what they promised with it: they must not come back
//! under their ids.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvorum::StartError;
use kvorum::pb::MemberUpdateRequest;
use kvorum::pb::etcdserverpb::cluster_client::ClusterClient;
use kvorum::peer::recall::{self, Denied};
use tokio::task::JoinHandle;

use super::client::{put, until};
use super::fixture::{Cluster, Member};

async fn start() -> Cluster {
    let cluster = Cluster::start(3).await;
    cluster.member(0).put("k/first", "v").await.expect("a put");
    cluster.until_everywhere("k/first", "v").await;
    cluster
}

fn log_dir(member: &Member) -> PathBuf {
    member.data_dir().join("member").join("wal")
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy_all(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// Sees that a member does not start, and that its words tell what to do; why it says so.
async fn refused(cluster: &mut Cluster, n: usize) -> String {
    let refusal = cluster.try_start(n).await.expect_err("it must not start");
    assert!(matches!(refusal, StartError::Forgotten { .. }), "{refusal}");
    let (words, member) = (refusal.to_string(), cluster.member(n));
    let dir = member.data_dir().display();
    for advice in [
        format!("`etcdctl member remove {:x}`", member.id()),
        format!("`mv {dir} {dir}.lost`"),
        format!("`etcdctl member add m{n} --peer-urls={}`", member.peer_url()),
    ] {
        assert!(words.contains(&advice), "{advice} is not in: {words}");
    }
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_its_log_does_not_start() {
    let mut cluster = start().await;
    let lost = cluster.follower().await;
    cluster.stop(lost).await;
    let (log, kept) = (log_dir(cluster.member(lost)), cluster.member(lost).data_dir().join("kept"));
    fs::rename(&log, &kept).expect("it can be moved");
    refused(&mut cluster, lost).await;
    // Empty, it is no better.
    fs::create_dir(&log).expect("a directory");
    refused(&mut cluster, lost).await;
    fs::remove_dir(&log).expect("it is empty");
    // Damaged in the middle, neither.
    fs::rename(&kept, &log).expect("it can be moved");
    let mut segments = fs::read_dir(&log).expect("a directory").flatten();
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wal");
    let segment = segments.by_ref().map(|entry| entry.path()).find(is_log);
    let segment = segment.expect("a segment");
    let whole = fs::read(&segment).expect("it can be read");
    let mut damaged = whole.clone();
    damaged[600] ^= 1;
    fs::write(&segment, damaged).expect("it can be damaged");
    let words = refused(&mut cluster, lost).await;
    assert!(words.contains("is damaged at offset"), "{words}");
    // Nothing was noted or changed: with its log it goes on.
    fs::write(&segment, whole).expect("it can be written");
    cluster.try_start(lost).await.expect("its log is back");
    cluster.member(lost).put("k/back", "v").await.expect("a put");
    cluster.assert_alike().await;
    cluster.end().await;
}

/// Brings an older copy of a member's directory back after something has happened.
async fn rolled_back(happens: impl AsyncFnOnce(&Cluster, usize)) {
    let mut cluster = start().await;
    let old = cluster.follower().await;
    cluster.stop(old).await;
    let (data, copy) = (cluster.member(old).data_dir().to_owned(), tempfile::tempdir());
    let copy = copy.expect("a directory");
    copy_all(&data, copy.path());
    cluster.start_members(&[old]).await;
    happens(&cluster, old).await;
    cluster.stop(old).await;
    fs::remove_dir_all(&data).expect("it is there");
    copy_all(copy.path(), &data);
    let words = refused(&mut cluster, old).await;
    assert!(words.contains("another member heard of entry"), "{words}");
    // Those who heard it forget that with their processes; it was noted.
    for n in (0..3).filter(|n| *n != old) {
        cluster.stop(n).await;
        cluster.start_members(&[n]).await;
    }
    refused(&mut cluster, old).await;
    let leader = cluster.leader_but(&[old]).await;
    cluster.replace(old, leader).await;
    cluster.member(old).put("k/back", "v").await.expect("a put");
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_log_is_an_older_copy_does_not_start() {
    rolled_back(async |cluster, _| {
        cluster.member(0).put("k/more", "v").await.expect("a put");
        cluster.until_everywhere("k/more", "v").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_vote_is_an_older_copy_does_not_start() {
    rolled_back(async |cluster, old| {
        let leader = cluster.leader().await;
        let next = (0..3).find(|n| ![old, leader].contains(n)).expect("of three");
        let (node, next) = (cluster.member(leader).running().node(), cluster.member(next).id());
        node.transfer_leader(Some(next)).await.expect("a transfer");
        cluster.leader().await;
    })
    .await;
}

/// Puts one key after the other until it is told to stop; those that were acknowledged.
fn load(member: &Member, stop: &Arc<AtomicBool>) -> JoinHandle<Vec<String>> {
    let (kv, stop) = (member.kv(), stop.clone());
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("load/{n}");
            if put(kv.clone(), &key, "v").await.is_ok() {
                acknowledged.push(key);
            }
        }
        acknowledged
    })
}

async fn replaces_itself(lose: impl FnOnce(&Member)) {
    let mut cluster = Cluster::start_with(3, |config| config.auto_replace = true).await;
    let (lost, leader) = (cluster.follower().await, cluster.leader().await);
    let (id, stop) = (cluster.member(lost).id(), Arc::new(AtomicBool::new(false)));
    let load = load(cluster.member(leader), &stop);
    cluster.stop(lost).await;
    lose(cluster.member(lost));
    cluster.try_start(lost).await.expect("it is replaced");
    let member = cluster.member(lost);
    assert_ne!(member.id(), id);
    let node = cluster.member(leader).running().node().clone();
    until("three votes", async || {
        let members = node.members();
        let votes = members.iter().filter(|member| !member.is_learner && member.id != id).count();
        (votes == 3).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = load.await.expect("it ends");
    assert!(!acknowledged.is_empty());
    // It is the last to hear that it has a vote.
    until("a member that serves", async || member.get("any").await.ok().map(drop)).await;
    for key in &acknowledged {
        assert!(member.get(key).await.expect("a get").is_some(), "{key} is lost");
    }
    cluster.assert_alike().await;
    let quarantine = cluster.member(lost).data_dir().join("quarantine");
    let noted = async || (!quarantine.join("joining").exists()).then_some(());
    until("the end of the note", noted).await;
    // It needs no more of the flag, and starts again as the member it has become.
    cluster.stop(lost).await;
    cluster.try_start(lost).await.expect("it starts again");
    // Not twice in an hour.
    cluster.stop(lost).await;
    fs::remove_dir_all(log_dir(cluster.member(lost))).expect("it is there");
    let refusal = cluster.try_start(lost).await.expect_err("it was replaced a moment ago");
    assert!(refusal.to_string().contains("less than an hour ago"), "{refusal}");
    // Neither does the leader, should that member have forgotten.
    fs::remove_dir_all(&quarantine).expect("it is there");
    let refusal = cluster.try_start(lost).await.expect_err("it was replaced a moment ago");
    assert!(matches!(refusal, StartError::Unreplaced { .. }), "{refusal}");
    assert!(refusal.to_string().contains("less than an hour ago"), "{refusal}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_its_log_is_replaced_by_itself() {
    replaces_itself(|member| {
        fs::remove_dir_all(log_dir(member)).expect("it is there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_its_directory_is_replaced_by_itself() {
    replaces_itself(|member| {
        fs::remove_dir_all(member.data_dir()).expect("it is there");
    })
    .await;
}

/// Only its first line is damaged: it has forgotten nothing, and is not replaced for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_format_is_unreadable_says_so() {
    let mut cluster = Cluster::start_with(3, |config| config.auto_replace = true).await;
    let damaged = cluster.follower().await;
    cluster.stop(damaged).await;
    let format = cluster.member(damaged).data_dir().join("format");
    let whole = fs::read(&format).expect("it is there");
    fs::write(&format, "kvorum fo2mat 1 engine redb\n").expect("a file");
    let refusal = cluster.try_start(damaged).await.expect_err("it does not know its directory");
    assert!(refusal.to_string().contains("is not a format line"), "{refusal}");
    fs::write(&format, whole).expect("a file");
    cluster.try_start(damaged).await.expect("it is the member it was");
    cluster.end().await;
}

/// Members come and go, and nobody changes what the others were started with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_replaced_by_a_leader_it_was_not_told_of() {
    let mut cluster = Cluster::start_with(3, |config| config.auto_replace = true).await;
    let lost = cluster.follower().await;
    cluster.stop(lost).await;
    fs::remove_dir_all(cluster.member(lost).data_dir()).expect("it is there");
    let leader = cluster.leader_but(&[lost]).await;
    let url = cluster.member(leader).peer_url();
    cluster.change(lost, |config| config.initial_cluster.retain(|(_, named)| *named != url));
    cluster.try_start(lost).await.expect("it is replaced");
    until("a vote", async || cluster.member(lost).put("k", "v").await.ok()).await;
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replaced_member_had_is_put_aside_and_the_rest_goes_on_after_a_stop() {
    let mut cluster = Cluster::start_with(3, |config| config.auto_replace = true).await;
    let lost = cluster.follower().await;
    cluster.stop(lost).await;
    let data = cluster.member(lost).data_dir().to_owned();
    fs::write(data.join("mine"), "of the operator").expect("a file");
    // As if the leader had agreed, and the process had ended before anything was moved.
    fs::remove_dir_all(log_dir(cluster.member(lost))).expect("it is there");
    let leader = cluster.leader_but(&[lost]).await;
    let (url, own) = (cluster.member(leader).peer_url(), [cluster.member(lost).peer_url()]);
    let agreed = async || recall::replace(&url, None, &own).await.ok();
    let replaced = until("the leader's consent", agreed).await;
    let again = until("the same answer", agreed).await;
    assert_eq!(again.id, replaced.id);
    fs::create_dir_all(data.join("quarantine")).expect("a directory");
    fs::write(data.join("quarantine").join("moving"), "").expect("a note");
    cluster.try_start(lost).await.expect("it goes on");
    assert_eq!(cluster.member(lost).id(), replaced.id);
    let mut folders = fs::read_dir(data.join("quarantine")).expect("a directory").flatten();
    let folder = folders.find(|folder| folder.path().is_dir()).expect("it is put aside").path();
    assert_eq!(fs::read(folder.join("mine")).expect("it is kept"), b"of the operator");
    assert!(folder.join("member").join("state").join("current").exists());
    until("a vote", async || cluster.member(lost).put("k", "v").await.ok()).await;
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_replaces_nobody_who_is_heard_or_unknown() {
    let mut cluster = Cluster::start_with(3, |config| config.auto_replace = true).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let url = cluster.member(leader).peer_url();
    let ask = async |url: &str, own: &str| {
        let asked = recall::replace(url, None, &[own.to_owned()]).await;
        asked.expect_err("nobody is replaced")
    };
    for n in [leader, follower] {
        let denied = ask(&url, &cluster.member(n).peer_url()).await;
        assert!(matches!(&denied, Denied::NotNow(why) if why.ends_with("is still heard")));
    }
    let denied = ask(&url, "http://127.0.0.1:1").await;
    // It may have been removed a moment ago, to be added again.
    assert!(matches!(&denied, Denied::NotNow(why) if why.starts_with("no member has")), "{denied}");
    // Nor for who calls from elsewhere.
    let elsewhere = "http://192.0.2.1:2380".to_owned();
    let update = |url: String| {
        let (id, peer_ur_ls) = (cluster.member(follower).id(), vec![url]);
        let mut client = ClusterClient::new(cluster.member(leader).channel());
        async move { client.member_update(MemberUpdateRequest { id, peer_ur_ls }).await }
    };
    update(elsewhere.clone()).await.expect("it moves");
    let denied = ask(&url, &elsewhere).await;
    assert!(matches!(&denied, Denied::No(why) if why.contains("is no address of")), "{denied}");
    let other = cluster.member(follower).peer_url();
    update(other.clone()).await.expect("it moves back");
    let denied = ask(&other, &other).await;
    assert!(matches!(&denied, Denied::NotNow(why) if why.contains("does not lead")), "{denied}");
    // Nor if it was not told to.
    let last = (0..3).find(|n| ![leader, follower].contains(n)).expect("of three");
    cluster.stop(leader).await;
    for n in [follower, last] {
        cluster.stop(n).await;
        cluster.change(n, |config| config.auto_replace = false);
    }
    cluster.start_members(&[follower, last]).await;
    fs::remove_dir_all(log_dir(cluster.member(leader))).expect("it is there");
    let refusal = cluster.try_start(leader).await.expect_err("nobody replaces it");
    let words = refusal.to_string();
    assert!(words.contains("the leader has no --auto-replace"), "{words}");
    assert!(words.contains("`etcdctl member remove"), "{words}");
    assert!(cluster.member(leader).data_dir().join("member").exists());
    cluster.end().await;
}
