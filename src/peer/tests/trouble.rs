//! Members that do not get along: cut, slow, foreign, removed.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::world::{Node, until, within};
use crate::limits;
use crate::peer::codec::Kind;
use crate::peer::headers::Identity;
use crate::raft::MessageType;

const CLUSTER: u64 = 0xc1;

/// A way to a member that can be cut.
pub(super) struct Wire {
    listener: TcpListener,
    to: SocketAddr,
}

impl Wire {
    pub async fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self { listener, to }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("it is bound"))
    }

    /// Connects, until it is dropped.
    pub async fn carry(&self) {
        let mut connections = JoinSet::new();
        loop {
            let (mut near, _) = self.listener.accept().await.expect("a connection");
            let mut far = TcpStream::connect(self.to).await.expect("it listens");
            connections.spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    }
}

#[tokio::test]
async fn a_cut_is_reported_and_healed() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    let (to_a, to_b) = (Wire::to(a.address).await, Wire::to(b.address).await);
    a.transport.set(b.id, vec![to_b.url()]);
    b.transport.set(a.id, vec![to_a.url()]);
    let mut reported = 0;
    for round in 1..=3 {
        let streaming = async {
            a.until_streaming(b.id, Kind::Append).await;
            b.until_streaming(a.id, Kind::Message).await;
            until("the message of the round", || {
                // Some are lost on streams whose end has not been noticed.
                a.transport.send(a.message(MessageType::MsgHeartbeat, b.id, round));
                b.witness.indexes(MessageType::MsgHeartbeat, a.id).contains(&round)
            })
            .await;
        };
        // With the futures that carry them, all connections end.
        tokio::select! {
            () = streaming => {}
            () = to_a.carry() => {}
            () = to_b.carry() => {}
        }
        until("a report of the cut", || a.witness.unreachable_count(b.id) > reported).await;
        until("a report of the cut", || b.witness.unreachable_count(a.id) > 0).await;
        reported = a.witness.unreachable_count(b.id);
    }
}

/// A member that asks for a stream as etcd would, and does what it wants with it.
pub(super) async fn ask_for_stream(of: &Node, identity: &Identity) -> TcpStream {
    let mut stream = TcpStream::connect(of.address).await.expect("it listens");
    let path = format!("/raft/stream/message/{:x}", identity.member_id);
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    for (name, value) in &identity.headers(Some(of.id)) {
        head += &format!("{name}: {}\r\n", value.to_str().expect("text"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("it reads");
    stream
}

pub(super) fn stranger(member_id: u64) -> Identity {
    Identity { member_id, cluster_id: CLUSTER, peer_urls: Vec::new() }
}

#[tokio::test]
async fn who_does_not_read_holds_nobody_up() {
    let a = Node::start(1, CLUSTER);
    a.transport.set(2, Vec::new());
    let mut slow = ask_for_stream(&a, &stranger(2)).await;
    a.until_streaming(2, Kind::Message).await;
    let filler = Bytes::from(vec![0; 64 * 1024]);
    let undelivered = || a.transport.traffic(2).expect("it was added").undelivered;
    until("a full queue", || {
        for _ in 0..100 {
            let mut message = a.message(MessageType::MsgHeartbeat, 2, 1);
            message.context = filler.clone();
            a.transport.send(message);
        }
        undelivered() > 0 && a.sent(2) > 0
    })
    .await;
    let reported = a.witness.unreachable_count(2);
    assert!(reported > 0, "raft is told");
    // After a while it is cut off, and what was queued is let go.
    let began = Instant::now();
    until("the end of the stream", || a.witness.unreachable_count(2) > reported).await;
    assert!(began.elapsed() >= limits::PEER_IO_TIMEOUT / 2, "{:?}", began.elapsed());
    let mut rest = Vec::new();
    let _ = within(slow.read_to_end(&mut rest)).await;
    assert!(rest.len() < 64 * 1024 * limits::PEER_STREAM_MESSAGES_MAX, "{}", rest.len());
}

#[tokio::test]
async fn who_asks_again_gets_the_stream() {
    let a = Node::start(1, CLUSTER);
    a.transport.set(2, Vec::new());
    let mut first = ask_for_stream(&a, &stranger(2)).await;
    a.until_streaming(2, Kind::Message).await;
    let mut second = ask_for_stream(&a, &stranger(2)).await;
    // The first ends in good order, the second goes on.
    let mut rest = Vec::new();
    within(first.read_to_end(&mut rest)).await.expect("an end");
    assert!(rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
    assert!(within(second.read(&mut [0; 100])).await.expect("a head") > 0);
    a.until_streaming(2, Kind::Message).await;
    a.transport.remove(2);
    within(second.read_to_end(&mut rest)).await.expect("an end");
    assert_eq!(a.transport.traffic(2), None);
    a.transport.send(a.message(MessageType::MsgHeartbeat, 2, 1));
    assert!(a.witness.unreachable_count(2) > 0, "nobody is there any more");
}

#[tokio::test]
async fn another_cluster_is_neither_heard_nor_answered() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER + 1));
    a.transport.set(b.id, vec![b.url()]);
    b.transport.set(a.id, vec![a.url()]);
    a.transport.send(a.message(MessageType::MsgHeartbeat, b.id, 1));
    until("a report", || a.witness.unreachable_count(b.id) > 0).await;
    let dials = |node: &Node, of| node.transport.traffic(of).expect("it was added").dials;
    until("more attempts", || dials(&a, b.id) > 4 && dials(&b, a.id) > 4).await;
    assert_eq!((a.sent(b.id), b.sent(a.id)), (0, 0), "no stream was opened");
    assert!(b.witness.received.lock().is_empty());
    assert!(!a.witness.removed.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_removed_member_is_told() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    b.witness.gone.lock().insert(a.id);
    a.transport.set(b.id, vec![b.url()]);
    until("the news", || a.witness.removed.load(Ordering::Relaxed)).await;
    assert!(!b.witness.removed.load(Ordering::Relaxed));
}

/// A quiet stream is kept, a silent one is not.
#[tokio::test]
async fn a_stream_lives_by_its_heartbeats() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", mute.local_addr().expect("it is bound"));
    a.transport.set(b.id, vec![b.url()]);
    b.transport.set(a.id, vec![a.url()]);
    a.transport.set(3, vec![url]);
    a.until_streaming(b.id, Kind::Message).await;
    a.until_streaming(b.id, Kind::Append).await;
    let dials = |id| a.transport.traffic(id).expect("it was added").dials;
    let quiet = b.transport.traffic(a.id).expect("it was added").dials;
    until("a second attempt", || dials(3) > 2).await;
    assert_eq!(b.transport.traffic(a.id).expect("it was added").dials, quiet);
    assert_eq!(a.witness.unreachable_count(b.id), 0);
}
