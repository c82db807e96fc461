//! Leaders that go: lost without a word, or handing over before they stop.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use kvorum::pb::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::client::{get, put, until, within};
use super::fixture::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::start(3).await;
    cluster.member(0).put("k", "0").await.expect("a put");
    for round in 1..4 {
        let lost = cluster.leader().await;
        cluster.lose(lost).await;
        let (value, before) = (round.to_string(), (round - 1).to_string());
        for (n, member) in cluster.at_work().enumerate() {
            // The next request is answered, not the next but one.
            let read = member.get("k").await.expect("a read");
            let expected = if n == 0 { &before } else { &value };
            assert_eq!(read.as_ref(), Some(expected));
            member.put("k", &value).await.expect("a put");
        }
        cluster.start_members(&[lost]).await;
        assert_ne!(cluster.leader().await, lost);
        cluster.until_everywhere("k", &value).await;
    }
    cluster.assert_alike().await;
    cluster.end().await;
}

/// What clients met with while leaders stopped.
#[derive(Default)]
struct Tally {
    writes: AtomicU64,
    reads: AtomicU64,
    /// Not sent, as nobody listened there any more; sent to another member instead.
    went_elsewhere: AtomicU64,
    reads_again: AtomicU64,
    failed: parking_lot::Mutex<Vec<String>>,
}

impl Tally {
    /// What a client of etcd does with a failed request: whether it tries again.
    fn tries_again(&self, what: &str, began: Instant, status: &Status) -> bool {
        if was_never_sent(status) {
            self.went_elsewhere.fetch_add(1, Ordering::Relaxed);
        } else if what == "read" && status.code() == Code::Unavailable {
            self.reads_again.fetch_add(1, Ordering::Relaxed);
        } else {
            self.failed.lock().push(format!("{what}, {:?}: {status:?}", began.elapsed()));
            return false;
        }
        true
    }
}

/// Whether the server cannot have seen a request: clients send such a one elsewhere by themselves.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let refused = error.downcast_ref::<io::Error>();
        let canceled = error.downcast_ref::<hyper::Error>();
        // The server said goodbye; only what it had taken up until then is not told this.
        let left = error.downcast_ref::<h2::Error>().filter(|left| left.is_go_away());
        if refused.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            || canceled.is_some_and(hyper::Error::is_canceled)
            || left.is_some_and(|e| e.is_remote() && e.reason() == Some(h2::Reason::NO_ERROR))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Writes and reads a key of its own again and again, through its member while that listens.
async fn work(
    name: String,
    mut ways: Vec<KvClient<Channel>>,
    tally: Arc<Tally>,
    done: Arc<AtomicBool>,
) -> (String, u64) {
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        let next = count + 1;
        let began = Instant::now();
        match put(ways[0].clone(), &name, &next.to_string()).await {
            Ok(_) => {
                count = next;
                tally.writes.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) if tally.tries_again("write", began, &status) => ways.rotate_left(1),
            Err(_) => break,
        }
        let began = Instant::now();
        match get(ways[0].clone(), &name, false).await {
            Ok(value) => {
                assert_eq!(value.unwrap_or_default(), count.to_string(), "{name}");
                tally.reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) if tally.tries_again("read", began, &status) => ways.rotate_left(1),
            Err(_) => break,
        }
    }
    (name, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_leaders_hand_over_and_stop() {
    const WORKERS_PER_MEMBER: usize = 4;
    let mut cluster = Cluster::start(3).await;
    let mut elections = 0;
    for round in 0..4 {
        let leader = cluster.leader().await;
        let (tally, done) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let mut workers = JoinSet::new();
        for n in 0..3 * WORKERS_PER_MEMBER {
            let mut ways: Vec<_> = (0..3).map(|n| cluster.member(n).kv()).collect();
            ways.rotate_left(n % 3);
            let name = format!("r{round}w{n}");
            workers.spawn(work(name, ways, tally.clone(), done.clone()));
        }
        let more = async |than: u64| {
            let enough = async || (tally.writes.load(Ordering::Relaxed) > than).then_some(());
            until("writes", enough).await;
            tally.writes.load(Ordering::Relaxed)
        };
        let before = more(100).await;
        cluster.stop(leader).await;
        more(before + 100).await;
        done.store(true, Ordering::Relaxed);
        while let Some(worker) = within("an end", workers.join_next()).await {
            let (name, count) = worker.expect("a worker sees what it wrote");
            let other = cluster.at_work().next().expect("two are at work");
            let value = other.get(&name).await.expect("a read");
            assert_eq!(value.unwrap_or_default(), count.to_string(), "{name}");
        }
        let failed = std::mem::take(&mut *tally.failed.lock());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (writes, reads) = (count(&tally.writes), count(&tally.reads));
        let elsewhere = count(&tally.went_elsewhere);
        println!("{writes} writes, {reads} reads, {elsewhere} sent elsewhere");
        assert!(failed.is_empty(), "of {writes} writes and {reads} reads: {failed:#?}");
        assert_eq!(count(&tally.reads_again), 0);
        elections += u64::from(cluster.leader().await != leader);
        cluster.start_members(&[leader]).await;
    }
    assert_eq!(elections, 4);
    cluster.assert_alike().await;
    cluster.end().await;
}
