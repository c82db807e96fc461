//! Members that do not hear each other.

use std::time::{Duration, Instant};

use tonic::Code;

use super::client::{get, put, refused, until};
use super::fixture::{Cluster, ELECTION};
use super::network::Rule;

/// Writes through the given members for as long as three elections could take, and returns the
/// last value of `k`.
async fn write_on(cluster: &Cluster, members: &[usize]) -> String {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < 6 * ELECTION || count == 0 {
        for &n in members {
            count += 1;
            cluster.member(n).put("k", &count.to_string()).await.expect("a put");
        }
    }
    count.to_string()
}

fn term(cluster: &Cluster, n: usize) -> u64 {
    cluster.member(n).running().node().progress().term
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_leader_answers_nothing_but_what_may_be_old() {
    let cluster = Cluster::start(3).await;
    let isolated = cluster.leader().await;
    let member = cluster.member(isolated);
    member.put("k", "old").await.expect("a put");
    cluster.rule_all(member.id(), Rule::Hold);
    // Asked while it still believes that it leads.
    let early = (
        tokio::spawn(get(member.kv(), "k", false)),
        tokio::spawn(put(member.kv(), "k", "early and lost")),
    );
    let leader = cluster.leader_but(&[isolated]).await;
    cluster.member(leader).put("k", "new").await.expect("a put");
    let node = member.running().node();
    until("that it steps down", async || (node.progress().leader == 0).then_some(())).await;
    assert_eq!(member.stale("k").await.expect("a read").as_deref(), Some("old"));
    let late = (
        tokio::spawn(get(member.kv(), "k", false)),
        tokio::spawn(put(member.kv(), "k", "late and lost")),
    );
    for read in [early.0, late.0] {
        assert_eq!(refused(read.await.expect("no panic")).code(), Code::Unavailable);
    }
    // What was in the log may come true yet; what nobody took cannot.
    for (write, code) in [(early.1, Code::Unavailable), (late.1, Code::DeadlineExceeded)] {
        assert_eq!(refused(write.await.expect("no panic")).code(), code);
    }
    assert_eq!(member.stale("k").await.expect("a read").as_deref(), Some("old"));

    cluster.network.heal();
    assert_eq!(cluster.leader().await, leader);
    cluster.until_everywhere("k", "new").await;
    assert_eq!(member.get("k").await.expect("a read").as_deref(), Some("new"));
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_gives_up_and_disturbs_nobody() {
    let cluster = Cluster::start(3).await;
    let deaf = cluster.leader().await;
    cluster.rule_heard(cluster.member(deaf).id(), Rule::Hold);
    let leader = cluster.leader_but(&[deaf]).await;
    let (others, before) = ([0, 1, 2].into_iter().filter(|n| *n != deaf), term(&cluster, leader));
    let last = write_on(&cluster, &others.collect::<Vec<_>>()).await;
    assert_eq!((term(&cluster, leader), cluster.leader_but(&[deaf]).await), (before, leader));
    cluster.network.heal();
    assert_eq!(cluster.leader().await, leader);
    cluster.until_everywhere("k", &last).await;
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_does_not_hear_the_leader_does_not_depose_it() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let deaf = cluster.follower().await;
    let before = term(&cluster, leader);
    cluster.network.rule(cluster.member(leader).id(), cluster.member(deaf).id(), Rule::Hold);
    let others = [0, 1, 2].into_iter().filter(|n| *n != deaf);
    let last = write_on(&cluster, &others.collect::<Vec<_>>()).await;
    let node = cluster.member(deaf).running().node();
    until("that it misses the leader", async || (node.progress().leader == 0).then_some(())).await;
    cluster.network.heal();
    assert_eq!((cluster.leader().await, term(&cluster, leader)), (leader, before));
    cluster.until_everywhere("k", &last).await;
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_slow_or_silent_or_gone_delays_nobody() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let poor = cluster.follower().await;
    let others: Vec<usize> = [0, 1, 2].into_iter().filter(|n| *n != poor).collect();
    for rule in [Rule::Delay(Duration::from_secs(1)), Rule::Hold, Rule::Close] {
        cluster.rule_all(cluster.member(poor).id(), rule);
        let (began, puts) = (Instant::now(), 30);
        for count in 0..puts {
            let n = others[count % 2];
            cluster.member(n).put("k", &count.to_string()).await.expect("a put");
        }
        // Waiting for it would take half a minute.
        assert!(began.elapsed() < Duration::from_secs(10), "{rule:?}: {:?}", began.elapsed());
        cluster.network.heal();
        cluster.until_everywhere("k", &(puts - 1).to_string()).await;
        assert_eq!(cluster.leader().await, leader);
    }
    cluster.assert_alike().await;
    cluster.end().await;
}
