//! What any member writes, every member reads; members that were away come level.

use super::client::until;
use super::fixture::Cluster;

/// Puts through each member in turn, each of which sees the ones before it.
async fn write_in_turn(cluster: &Cluster, name: &str, rounds: usize) -> i64 {
    let mut last = None;
    for round in 0..rounds {
        for (n, member) in cluster.at_work().enumerate() {
            let (key, value) = (format!("{name}/{n}"), round.to_string());
            let revision = member.put(&key, &value).await.expect("a put");
            assert_eq!(revision, last.map_or(revision, |last: i64| last + 1));
            last = Some(revision);
            for reader in cluster.at_work() {
                let read = reader.get(&key).await.expect("a read");
                assert_eq!(read.as_deref(), Some(&*value));
            }
        }
    }
    last.expect("something was written")
}

async fn every_member_writes_and_reads(size: usize) {
    let cluster = Cluster::start(size).await;
    let last = write_in_turn(&cluster, "k", 5).await;
    assert_eq!(last, 1 + 5 * size as i64);
    for n in 0..size {
        cluster.until_everywhere(&format!("k/{n}"), "4").await;
    }
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_read_what_each_of_them_writes() {
    every_member_writes_and_reads(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_read_what_each_of_them_writes() {
    every_member_writes_and_reads(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_stopped_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let away = cluster.follower().await;
    write_in_turn(&cluster, "before", 1).await;
    cluster.stop(away).await;
    write_in_turn(&cluster, "without", 20).await;
    cluster.start_members(&[away]).await;
    cluster.until_everywhere("without/1", "19").await;
    write_in_turn(&cluster, "after", 1).await;
    cluster.assert_alike().await;
    assert_eq!(cluster.network.snapshots(), (0, 0));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_stopped_as_a_whole_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let mut last = write_in_turn(&cluster, "k", 5).await;
    for round in 0..2 {
        cluster.stop_all().await;
        cluster.start_members(&[0, 1, 2]).await;
        for n in 0..3 {
            let member = cluster.member(n);
            assert_eq!(member.get(&format!("k/{n}")).await.expect("a read").as_deref(), Some("4"));
            let node = member.running().node();
            assert_eq!(node.revision(), last, "round {round}");
        }
        last += 3;
        assert_eq!(write_in_turn(&cluster, &format!("after{round}"), 1).await, last);
    }
    let leader = cluster.leader().await;
    let members = cluster.member(leader).running().node().members();
    let named = async || members.iter().all(|member| !member.name.is_empty()).then_some(());
    until("members with names", named).await;
    cluster.assert_alike().await;
    cluster.end().await;
}
