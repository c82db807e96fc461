//! What members count, each by itself.

use kvorum::pb::etcdserverpb::cluster_client::ClusterClient;
use kvorum::pb::{DeleteRangeRequest, MemberPromoteRequest};
use tonic::Code;

use super::client::{refused, until};
use super::fixture::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_counts_what_it_applies() {
    let cluster = Cluster::start(3).await;
    let counted = |n: usize| {
        let metrics = cluster.member(n).running().node().metrics();
        let (puts, bytes) = (metrics.mvcc_puts.get(), metrics.mvcc_put_bytes.get());
        (puts, bytes, metrics.mvcc_deletes.get())
    };
    for n in 0..3 {
        cluster.member(n).put("key", "value").await.expect("a put");
    }
    let delete = DeleteRangeRequest { key: "key".into(), ..DeleteRangeRequest::default() };
    cluster.member(1).kv().delete_range(delete).await.expect("a deletion");
    for n in 0..3 {
        until("everything", async || (counted(n) == (3, 24, 1)).then_some(())).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leads_counts_who_was_not_promoted() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for member in cluster.at_work() {
        let promote = MemberPromoteRequest { id: 9 };
        let answer = ClusterClient::new(member.channel()).member_promote(promote).await;
        assert_eq!(refused(answer).code(), Code::NotFound);
    }
    assert_eq!(cluster.leader().await, leader, "it led all the time");
    let reason = "etcdserver: member not found";
    let failed = |n: usize| {
        let metrics = cluster.member(n).running().node().metrics();
        metrics.promotions_failed.with_label_values(&[reason]).get()
    };
    for n in 0..3 {
        assert_eq!(failed(n), if n == leader { 3 } else { 0 });
    }
    cluster.end().await;
}
