//! Leases: kept alive through any member, timed by whoever leads.

use std::time::{Duration, Instant};

use kvorum::pb::{LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest};
use tonic::Status;

use super::client::{until, within};
use super::fixture::{Cluster, Member};

const TTL: Duration = Duration::from_secs(2);
const ID: i64 = 7;

async fn grant(member: &Member) {
    let request = LeaseGrantRequest { id: ID, ttl: TTL.as_secs() as i64 };
    let granted = member.lease().lease_grant(request).await.expect("a grant").into_inner();
    assert_eq!((granted.id, granted.ttl), (ID, TTL.as_secs() as i64));
    let request =
        PutRequest { key: "k".into(), value: "v".into(), lease: ID, ..PutRequest::default() };
    member.kv().put(request).await.expect("a put");
}

/// Renews the lease; the time it has left, 0 if it is gone.
async fn keep_alive(member: &Member) -> Result<i64, Status> {
    let requests = tokio_stream::once(LeaseKeepAliveRequest { id: ID });
    let mut lease = member.lease();
    let renewed = async {
        let mut answers = lease.lease_keep_alive(requests).await?.into_inner();
        let ttl = answers.message().await?.expect("an answer").ttl;
        // Who drops many streams before their end is cut off by HTTP/2's guards.
        assert!(answers.message().await?.is_none());
        Ok(ttl)
    };
    within("an answer to a renewal", renewed).await
}

/// Keeps the lease alive through a member for twice its time; when it was renewed last.
async fn keep(cluster: &Cluster, through: usize) -> Instant {
    let (began, mut last) = (Instant::now(), Instant::now());
    while began.elapsed() < 2 * TTL {
        let asked = Instant::now();
        assert_eq!(
            keep_alive(cluster.member(through)).await.expect("an answer"),
            TTL.as_secs() as i64
        );
        last = asked;
        for member in cluster.at_work() {
            assert_eq!(member.stale("k").await.expect("a read").as_deref(), Some("v"));
        }
    }
    last
}

/// Waits until the key is gone everywhere, and asserts that it was there for its time.
async fn expire(cluster: &Cluster, renewed: Instant) {
    for member in cluster.at_work() {
        let gone = async || member.get("k").await.expect("a read").is_none().then_some(());
        until("that the lease ends", gone).await;
        assert!(renewed.elapsed() >= TTL, "it ended after {:?}", renewed.elapsed());
        assert_eq!(keep_alive(member).await.expect("an answer"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lives_as_long_as_it_is_kept_alive_through_any_member() {
    let cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for (granting, keeping) in [(leader, follower), (follower, leader)] {
        grant(cluster.member(granting)).await;
        cluster.until_everywhere("k", "v").await;
        let renewed = keep(&cluster, keeping).await;
        expire(&cluster, renewed).await;
    }
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_survives_its_leader() {
    let mut cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    grant(cluster.member(leader)).await;
    cluster.until_everywhere("k", "v").await;
    keep_alive(cluster.member(follower)).await.expect("an answer");
    cluster.lose(leader).await;
    // The first renewal after that is answered, by whoever leads then.
    let renewed = keep(&cluster, follower).await;
    cluster.start_members(&[leader]).await;
    expire(&cluster, renewed).await;
    cluster.assert_alike().await;
    cluster.end().await;
}
