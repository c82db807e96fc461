//! Questions beside raft, asked by one member of another.

use super::world::Node;
use crate::error::Error;
use crate::mvcc::HashKv;
use crate::node::Transport as _;

const CLUSTER: u64 = 0xc1;

#[tokio::test]
async fn what_is_asked_is_answered_and_refused_as_at_home() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    a.transport.set(b.id, vec![b.url()]);
    let (peers, to) = (&a.transport, b.id);
    assert_eq!(peers.renew(to, 7).await, Ok(60));
    assert_eq!(peers.renew(to, 8).await, Err(Error::LeaseNotFound));
    let left = peers.time_to_live(to, 7, false).await.expect("a lease");
    assert_eq!((left.id, left.ttl, left.granted_ttl), (7, 59, 60));
    let members = peers.promote(to, 5).await.expect("it keeps up");
    assert_eq!((members.len(), members[0].id), (1, 5));
    assert_eq!(peers.promote(to, 9).await, Err(Error::LearnerNotReady));
    let hash = HashKv { hash: 5, compact_revision: -1, hash_revision: 3, revision: 8 };
    assert_eq!(peers.hash_kv(to, 3).await, Ok(hash));
    assert_eq!(peers.hash_kv(to, 1).await, Err(Error::Compacted));
    assert_eq!(peers.hash_kv(to, 2).await, Err(Error::FutureRev));
    // Nobody knows where that one is.
    assert_eq!(peers.renew(77, 7).await, Err(Error::NoLeader));
}

#[tokio::test]
async fn a_member_of_another_cluster_is_told_no_hash() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER + 1));
    a.transport.set(b.id, vec![b.url()]);
    assert_eq!(a.transport.hash_kv(b.id, 3).await, Err(Error::ClusterIDMismatch));
}
