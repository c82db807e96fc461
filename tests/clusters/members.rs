//! Members that are added, moved and removed while the others go on.

use kvorum::Server;
use kvorum::config::{ClusterState, Config, Url};
use kvorum::pb::etcdserverpb::cluster_client::ClusterClient;
use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum::pb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, StatusRequest,
};
use tonic::{Code, Status};

use super::client::{put, refused, until, within};
use super::fixture::{Cluster, ELECTION, Member};
use crate::support::port::Port;

fn client(member: &Member) -> ClusterClient<tonic::transport::Channel> {
    ClusterClient::new(member.channel())
}

/// Removes a member through another, as soon as the cluster can bear it; who is left.
async fn remove(through: &Member, id: u64) -> Vec<u64> {
    until("a removal", async || {
        match client(through).member_remove(MemberRemoveRequest { id }).await {
            Ok(answer) => Some(answer.into_inner().members.iter().map(|one| one.id).collect()),
            // Members count when they have been heard for a while.
            Err(status) if status.message() == "etcdserver: unhealthy cluster" => None,
            Err(status) => panic!("{status:?}"),
        }
    })
    .await
}

/// The ids and peer URLs of the members, linearizably.
async fn list(through: &Member) -> Result<Vec<(u64, Vec<String>)>, Status> {
    let request = MemberListRequest { linearizable: true };
    let members = client(through).member_list(request).await?.into_inner().members;
    Ok(members.into_iter().map(|member| (member.id, member.peer_ur_ls)).collect())
}

/// Removes the leader of three, asked for at the leader itself or at another.
async fn the_leader_goes(asks_itself: bool) {
    let cluster = Cluster::start(3).await;
    cluster.member(0).put("k", "0").await.expect("a put");
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let gone = cluster.member(leader);
    let through = cluster.member(if asks_itself { leader } else { follower });
    let left = remove(through, gone.id()).await;
    assert!(left.len() == 2 && !left.contains(&gone.id()), "{left:x?}");
    until("its end", async || gone.running().node().is_removed().then_some(())).await;
    assert_ne!(cluster.leader_but(&[leader]).await, leader);
    for member in cluster.at_work().filter(|member| member.id() != gone.id()) {
        member.put("k", "1").await.expect("a put");
        assert_eq!(list(member).await.expect("a list").len(), 2);
    }
    // Of two the last one goes on alone, whichever leads.
    let rest = cluster.leader_but(&[leader]).await;
    let last = (0..3).find(|n| *n != rest && *n != leader).expect("of three");
    let left = remove(cluster.member(last), cluster.member(rest).id()).await;
    assert_eq!(left, [cluster.member(last).id()]);
    cluster.member(last).put("k", "2").await.expect("a put");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_remove_itself_does_not_leave_a_gap() {
    the_leader_goes(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_removed_through_a_follower() {
    the_leader_goes(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_follow_each_other_through_any_member() {
    let cluster = Cluster::start_with(3, |config| {
        config.strict_reconfig_check = false;
        config.max_learners = 9;
    })
    .await;
    let mut learners = Vec::new();
    // Each is proposed as soon as the one before is applied by the member that was asked, which is
    // not always the first to apply it.
    for round in 0..9 {
        let through = cluster.member(round % 3);
        let peer_ur_ls = vec![format!("http://127.0.0.1:{}", 1 + round)];
        let request = MemberAddRequest { peer_ur_ls, is_learner: true };
        let added = client(through).member_add(request).await.expect("a learner").into_inner();
        assert_eq!(added.members.len(), 4 + round);
        learners.push(added.member.expect("it is told").id);
    }
    let moved = vec!["http://127.0.0.1:99".to_owned()];
    for (n, id) in learners.iter().enumerate() {
        let through = cluster.member(n % 3);
        let promoted = client(through).member_promote(MemberPromoteRequest { id: *id }).await;
        let said = refused(promoted);
        assert!(said.message().ends_with("which is in sync with leader"), "{said:?}");
        if n == 0 {
            let request = MemberUpdateRequest { id: *id, peer_ur_ls: moved.clone() };
            client(through).member_update(request).await.expect("a move");
            assert!(list(through).await.expect("a list").contains(&(*id, moved.clone())));
        }
        client(through).member_remove(MemberRemoveRequest { id: *id }).await.expect("a removal");
    }
    for member in cluster.at_work() {
        assert_eq!(list(member).await.expect("a list").len(), 3);
    }
    cluster.member(0).put("k", "v").await.expect("a put");
    cluster.assert_alike().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_joins_learns_and_gets_a_vote() {
    let cluster = Cluster::start(3).await;
    cluster.member(0).put("k", "old").await.expect("a put");
    let port = Port::hold().expect("a free port");
    let listen = Url::http(&format!("127.0.0.1:{}", port.number));
    let peer_url = listen.to_string();
    let through = cluster.member(cluster.follower().await);
    let added = until("an addition", async || {
        let peer_ur_ls = vec![peer_url.clone()];
        let request = MemberAddRequest { peer_ur_ls, is_learner: true };
        client(through).member_add(request).await.ok()
    })
    .await
    .into_inner();
    let id = added.member.expect("it is told").id;
    let pair = |member: kvorum::pb::Member| {
        let name = if member.id == id { "m3".to_owned() } else { member.name };
        (name, member.peer_ur_ls[0].clone())
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = Config {
        name: "m3".to_owned(),
        data_dir: directory.path().join("data"),
        listen_client_urls: vec![Url::http("127.0.0.1:0")],
        listen_peer_urls: vec![listen],
        initial_advertise_peer_urls: vec![peer_url],
        initial_cluster: added.members.into_iter().map(pair).collect(),
        initial_cluster_state: ClusterState::Existing,
        election_timeout: ELECTION,
        worker_threads: 1,
        ..Config::default()
    };
    let joined = within("a start", Server::start(config.clone())).await.expect("it joins");
    assert_eq!(joined.node().member_id(), id);
    let kv = || KvClient::new(joined.client());
    let status = MaintenanceClient::new(joined.client()).status(StatusRequest {}).await;
    assert!(status.expect("a learner says how it is").into_inner().is_learner);
    joined.node().refresh_metrics();
    assert_eq!(joined.node().metrics().is_learner.get(), 1);
    let said = refused(put(kv(), "k", "new").await);
    assert_eq!(said.message(), "etcdserver: rpc not supported for learner");
    until("a vote", async || {
        match client(through).member_promote(MemberPromoteRequest { id }).await {
            Ok(_) => Some(()),
            Err(status) if status.code() == Code::FailedPrecondition => None,
            Err(status) => panic!("{status:?}"),
        }
    })
    .await;
    // Whoever led counts it; and what came too early, if anything did.
    let promoted = cluster.at_work().map(|one| one.running().node().metrics().promotions.get());
    assert_eq!(promoted.sum::<u64>(), 1);
    until("a put", async || put(kv(), "k", "new").await.ok()).await;
    joined.node().refresh_metrics();
    assert_eq!(joined.node().metrics().is_learner.get(), 0);
    assert_eq!(cluster.member(0).get("k").await.expect("a get"), Some("new".to_owned()));
    joined.shutdown().await;
    // It does not forget its vote, and is not let in as if it had none.
    std::fs::remove_dir_all(&config.data_dir).expect("it is there");
    let refused = Server::start(config).await.err().expect("it is refused").to_string();
    assert!(refused.contains("was started before, as \"m3\""), "{refused}");
    cluster.end().await;
}
