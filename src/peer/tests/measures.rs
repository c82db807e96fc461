//! What is counted of other members: under etcd's names, the same at both ends, and nothing of who
//! was removed.

use super::snapshots::{ends, snapshot, state};
use super::world::{Node, until};
use crate::peer::codec::Kind;
use crate::raft::MessageType;

const CLUSTER: u64 = 0xc1;

/// The families of three members of etcd, as `tests/fixtures/peer/metrics.sh` recorded them.
const OF_ETCD: &str = include_str!("../../../tests/fixtures/peer/metrics");

fn pair() -> (Node, Node) {
    let (a, b) = (Node::start(0xa1, CLUSTER), Node::start(0xb2, CLUSTER));
    a.transport.set(b.id, vec![b.url()]);
    b.transport.set(a.id, vec![a.url()]);
    (a, b)
}

fn exposition(node: &Node) -> String {
    String::from_utf8(node.witness.metrics.render()).expect("it is text")
}

/// The value of a series, if there is one.
fn value(node: &Node, series: &str) -> Option<f64> {
    let text = exposition(node);
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("a value is a number"))
}

#[tokio::test]
async fn the_series_of_a_member_are_etcds_and_go_with_it() {
    let (a, b) = pair();
    let text = exposition(&a);
    for family in OF_ETCD.lines() {
        let mut words = family.split(' ');
        let mut next = || words.next().expect("name, kind, labels");
        let (name, kind, labels) = (next(), next(), next());
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{family}");
        let labels = match labels {
            "{To}" => r#"To="b2""#,
            "{From}" => r#"From="b2""#,
            "{Local,Remote}" => r#"Local="a1",Remote="b2""#,
            other => panic!("{other}: {family}"),
        };
        let bounds: Vec<&str> = words.chain((kind == "histogram").then_some("+Inf")).collect();
        let start = format!("{name}_bucket{{{labels},le=\"");
        let buckets = text.lines().filter_map(|line| line.strip_prefix(&start)?.split('"').next());
        assert_eq!(buckets.collect::<Vec<_>>(), bounds, "{family}");
        let series = if bounds.is_empty() { name.to_owned() } else { format!("{name}_count") };
        assert!(value(&a, &format!("{series}{{{labels}}}")).is_some(), "{family}");
    }
    a.transport.remove(b.id);
    let left = exposition(&a);
    assert!(!left.contains(r#""b2""#), "{left}");
    assert_eq!(value(&a, r#"etcd_network_known_peers{Local="a1",Remote="a1"}"#), Some(1.0));
}

#[tokio::test]
async fn both_ends_count_the_same_bytes() {
    let (a, b) = pair();
    // Without streams messages are posted, and not all of them find room.
    for kind in Kind::ALL {
        a.until_streaming(b.id, kind).await;
    }
    for index in 1..=50 {
        a.transport.send(a.message(MessageType::MsgAppend, b.id, index));
        a.transport.send(a.message(MessageType::MsgHeartbeat, b.id, index));
    }
    until("all", || b.witness.indexes(MessageType::MsgAppend, a.id).len() == 50).await;
    until("all", || b.witness.indexes(MessageType::MsgHeartbeat, a.id).len() == 50).await;
    let counted = || {
        let sent = value(&a, r#"etcd_network_peer_sent_bytes_total{To="b2"}"#);
        let received = value(&b, r#"etcd_network_peer_received_bytes_total{From="a1"}"#);
        (sent.expect("it was added"), received.expect("it was added"))
    };
    until("equal counts", || counted().0 == counted().1).await;
    assert!(counted().0 > 50.0, "{:?}", counted());
    b.witness.no_room.store(3, std::sync::atomic::Ordering::Relaxed);
    (0..3).for_each(|_| a.transport.send(a.message(MessageType::MsgHeartbeat, b.id, 51)));
    let failures = r#"etcd_network_peer_received_failures_total{From="a1"}"#;
    until("what found no room", || value(&b, failures) == Some(3.0)).await;
}

#[tokio::test]
async fn a_member_that_goes_is_no_longer_active() {
    let (a, b) = pair();
    let active = r#"etcd_network_active_peers{Local="a1",Remote="b2"}"#;
    let disconnected = r#"etcd_network_disconnected_peers_total{Local="a1",Remote="b2"}"#;
    let failures = r#"etcd_network_peer_sent_failures_total{To="b2"}"#;
    until("both streams", || value(&a, active) == Some(1.0)).await;
    assert_eq!(value(&a, disconnected), Some(0.0));
    drop(b);
    until("their end", || value(&a, active) == Some(0.0)).await;
    assert_eq!(value(&a, disconnected), Some(1.0));
    let lost = value(&a, failures).expect("it was added");
    until("a message that is lost", || {
        a.transport.send(a.message(MessageType::MsgHeartbeat, 0xb2, 1));
        value(&a, failures).expect("it was added") > lost
    })
    .await;
}

#[tokio::test]
async fn snapshots_are_counted_by_how_they_end() {
    let (a, b) = pair();
    for refused in [None, None, Some("no")] {
        *b.witness.takes_no_snapshot.lock() = refused;
        a.transport.send_snapshot(snapshot(&a, b.id), state(2, 2, None));
        assert_eq!(ends(&a).await, (b.id, refused.is_none()));
    }
    for (node, way, label) in [(&a, "send", r#"{To="b2"}"#), (&b, "receive", r#"{From="a1"}"#)] {
        let name = |rest| format!("etcd_network_snapshot_{way}_{rest}{label}");
        let counted = ["success", "failures", "inflights_total", "total_duration_seconds_count"]
            .map(|rest| value(node, &name(rest)));
        assert_eq!(counted, [Some(2.0), Some(1.0), Some(0.0), Some(2.0)], "{way}");
    }
    let sent = value(&a, r#"etcd_network_peer_sent_bytes_total{To="b2"}"#);
    assert!(sent.is_some_and(|sent| sent >= 4.0 * 64.0 * 1024.0), "{sent:?}");
}

#[tokio::test]
async fn members_are_probed_on_two_connections() {
    let (a, b) = pair();
    let (count, sum) = (
        r#"etcd_network_peer_round_trip_time_seconds_count{To="b2"}"#,
        r#"etcd_network_peer_round_trip_time_seconds_sum{To="b2"}"#,
    );
    until("two answers", || value(&a, count).is_some_and(|count| count >= 2.0)).await;
    assert!(value(&a, sum).is_some_and(|sum| sum > 0.0));
    drop(b);
}
