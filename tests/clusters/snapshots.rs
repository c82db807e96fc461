//! Followers too far behind for the log: the leader's state takes the place of theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use kvorum::pb::{CompactionRequest, PutRequest};

use kvorum::raft::{ConfState, Message, MessageType, wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::until;
use super::fixture::Cluster;

const CATCHUP_ENTRIES: u64 = 10;
const PUTS: i64 = 150;
const VALUE_BYTES: usize = 4096;

async fn start() -> Cluster {
    Cluster::start_with(3, |config| config.snapshot_catchup_entries = CATCHUP_ENTRIES).await
}

/// Puts many keys through the leader; the last revision.
async fn fill(cluster: &Cluster, leader: usize, name: &str) -> i64 {
    let value = "v".repeat(VALUE_BYTES);
    let mut last = 0;
    for n in 0..PUTS {
        let put = cluster.member(leader).put(&format!("k/{name}/{n}"), &value).await;
        last = put.expect("a put");
    }
    last
}

/// Returns when the leader no longer has the entries that a follower would need.
async fn forget(cluster: &Cluster, leader: usize, follower: usize) {
    let (node, id) = (cluster.member(leader).running().node(), cluster.member(follower).id());
    // What a follower that is heard may need is kept.
    let silent = async || {
        let followers = node.followers().await.expect("it is at work");
        followers.iter().all(|one| one.id != id || !one.is_active).then_some(())
    };
    until("that the leader misses the follower", silent).await;
    node.flush().await.expect("it is at work");
    // The question stands behind the news of the checkpoint.
    node.followers().await.expect("it is at work");
}

/// Cuts a follower off until only a snapshot helps; the last revision.
async fn leave_behind(cluster: &Cluster, leader: usize, follower: usize, name: &str) -> i64 {
    cluster.rule_all(cluster.member(follower).id(), super::network::Rule::Close);
    let last = fill(cluster, leader, name).await;
    forget(cluster, leader, follower).await;
    last
}

/// Looks without a pause whether a member is applying a snapshot.
struct Applying {
    ended: Arc<AtomicBool>,
    looking: JoinHandle<bool>,
}

impl Applying {
    fn watch(cluster: &Cluster, n: usize) -> Self {
        let (node, ended) = (cluster.member(n).running().node().clone(), Arc::default());
        let end: Arc<AtomicBool> = Arc::clone(&ended);
        let looking = thread::spawn(move || {
            let mut seen = false;
            while !end.load(Ordering::Relaxed) {
                seen |= node.metrics().snapshots.applying.get() == 1;
                thread::yield_now();
            }
            seen
        });
        Self { ended, looking }
    }

    /// Whether it was.
    fn end(self) -> bool {
        self.ended.store(true, Ordering::Relaxed);
        self.looking.join().expect("it only looks")
    }
}

async fn until_level(cluster: &Cluster, n: usize, revision: i64) {
    let node = cluster.member(n).running().node();
    until("the newest revision", async || (node.revision() >= revision).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_far_behind_gets_a_snapshot_and_its_watches_miss_nothing() {
    let mut cluster = start().await;
    let (leader, behind) = (cluster.leader().await, cluster.follower().await);
    cluster.member(leader).put("k/first", "").await.expect("a put");
    until_level(&cluster, behind, 2).await;
    let mut new = cluster.member(behind).watch("k", 0).await;
    let mut old = cluster.member(behind).watch("k", 1).await;
    let mut future = cluster.member(behind).watch("k", 200).await;
    assert_eq!(old.up_to(2).await.len(), 1);
    let mut applied_once = false;
    for round in 1..=2 {
        let first = cluster.member(leader).running().node().revision() + 1;
        let last = leave_behind(&cluster, leader, behind, &round.to_string()).await;
        assert_eq!(last, first + PUTS - 1);
        let applying = Applying::watch(&cluster, behind);
        cluster.network.heal();
        until_level(&cluster, behind, last).await;
        applied_once |= applying.end();
        // Written after the installation, through who installed.
        let last = cluster.member(behind).put("k/after", "").await.expect("a put");
        for watch in [&mut new, &mut old] {
            let seen: Vec<i64> =
                watch.up_to(last).await.into_iter().map(|(revision, _)| revision).collect();
            assert_eq!(seen, (first..=last).collect::<Vec<_>>());
        }
        let (sent, cut) = cluster.network.snapshots();
        assert!(sent >= round && cut == 0, "{sent} snapshots sent in round {round}, {cut} cut");
        cluster.assert_alike().await;
    }
    let snapshots = &cluster.member(behind).running().node().metrics().snapshots;
    let counts = [&snapshots.save_seconds, &snapshots.sync_seconds];
    let sent = cluster.network.snapshots().0 as u64;
    assert_eq!(counts.map(|histogram| histogram.get_sample_count()), [sent; 2]);
    assert!(applied_once && snapshots.applying.get() == 0, "it was seen to be applied");
    let last = cluster.member(leader).running().node().revision();
    let seen = future.up_to(last).await;
    assert_eq!(
        seen.iter().map(|each| each.0).collect::<Vec<_>>(),
        (200..=last).collect::<Vec<_>>()
    );
    // What was installed is there after a restart.
    drop((new, old, future));
    cluster.stop(behind).await;
    cluster.start_members(&[behind]).await;
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_history_went_is_told_so_by_the_installed_state() {
    let cluster = start().await;
    let (leader, behind) = (cluster.leader().await, cluster.follower().await);
    cluster.member(leader).put("k/first", "").await.expect("a put");
    let mut watch = cluster.member(behind).watch("k", 2).await;
    assert_eq!(watch.up_to(2).await.len(), 1);
    let last = leave_behind(&cluster, leader, behind, "1").await;
    let compaction = CompactionRequest { revision: last - 5, physical: true };
    cluster.member(leader).kv().compact(compaction).await.expect("a compaction");
    forget(&cluster, leader, behind).await;
    cluster.network.heal();
    until_level(&cluster, behind, last).await;
    let answer = watch.next().await.expect("an answer");
    assert!(answer.canceled && answer.events.is_empty(), "{answer:?}");
    assert_eq!(answer.compact_revision, last - 5);
    assert!(cluster.network.snapshots().0 >= 1);
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_cut_off_is_sent_again() {
    let cluster = start().await;
    let (leader, behind) = (cluster.leader().await, cluster.follower().await);
    let mut watch = cluster.member(behind).watch("k", 2).await;
    let last = leave_behind(&cluster, leader, behind, "1").await;
    // In its head, in its middle, and just before its end.
    let size = PUTS as usize * VALUE_BYTES;
    cluster.network.cut_snapshots(&[2_000, size / 2, size]);
    cluster.network.heal();
    until_level(&cluster, behind, last).await;
    let (sent, cut) = cluster.network.snapshots();
    assert_eq!((sent >= 4, cut), (true, 3), "{sent} snapshots sent");
    assert_eq!(watch.up_to(last).await.len() as i64, PUTS);
    cluster.assert_alike().await;
    cluster.end().await;
}

/// A message that says there is a snapshot, and no state with it: nobody could install that.
#[tokio::test]
async fn a_snapshot_without_its_state_is_refused() {
    let cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let answer =
        cluster.member(leader).kv().put(PutRequest { key: "a".into(), ..Default::default() }).await;
    let cluster_id = answer.expect("a put").into_inner().header.expect("a header").cluster_id;
    let (from, to) = (cluster.member(leader).id(), cluster.member(follower).id());
    let mut message = Message { from, to, term: 1000, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    let metadata = message.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (1 << 20, 1000);
    let voters = cluster.at_work().map(|member| member.id()).collect();
    metadata.conf_state = Some(ConfState { voters, ..ConfState::default() });
    let body = wire::encode(message);
    let head = format!(
        "POST /raft HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Server-Version: 3.7.0\r\n\
         X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-Id: {cluster_id:x}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let address = cluster.member(follower).running().peer_addresses()[0];
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(&[head.as_bytes(), &body].concat()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    // What was to end the process comes before this.
    cluster.member(follower).put("b", "still here").await.expect("it goes on");
    cluster.end().await;
}
