//! Snapshots: whole, cut short, refused, slow, and to nobody.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::world::{Node, until, within};
use crate::node::Outgoing;
use crate::raft::{Message, MessageType, Snapshot, SnapshotMetadata};

const CLUSTER: u64 = 0xc1;
const CHUNK: usize = 64 * 1024;

fn pair() -> (Node, Node) {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    a.transport.set(b.id, vec![b.url()]);
    (a, b)
}

pub(super) fn snapshot(from: &Node, to: u64) -> Message {
    let metadata = Some(SnapshotMetadata { index: 7, term: 2, ..SnapshotMetadata::default() });
    let snapshot = Some(Snapshot { metadata, ..Snapshot::default() });
    Message { snapshot, ..from.message(MessageType::MsgSnapshot, to, 0) }
}

/// Chunk by chunk, different ones.
fn chunk(number: usize) -> Bytes {
    (0..CHUNK).map(|at| (at * 31 + number * 7) as u8).collect::<Vec<u8>>().into()
}

/// A state of so many chunks, of which so many come before the source ends with `end`.
pub(super) fn state(said: usize, come: usize, end: Option<io::Error>) -> Outgoing {
    let (sender, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        for number in 0..come {
            if sender.send(Ok(chunk(number))).await.is_err() {
                return;
            }
        }
        if let Some(error) = end {
            let _ = sender.send(Err(error)).await;
        }
    });
    Outgoing { bytes: (said * CHUNK) as u64, chunks }
}

pub(super) async fn ends(node: &Node) -> (u64, bool) {
    until("the end of the snapshot", || !node.witness.snapshots_sent.lock().is_empty()).await;
    node.witness.snapshots_sent.lock().remove(0)
}

#[tokio::test]
async fn a_snapshot_arrives_whole() {
    let (a, b) = pair();
    for chunks in [0, 1, 100] {
        a.transport.send_snapshot(snapshot(&a, b.id), state(chunks, chunks, None));
        assert_eq!(ends(&a).await, (b.id, true));
        let taken = b.witness.snapshots.lock().remove(0);
        assert!(taken.whole && taken.error.is_none());
        assert_eq!(taken.message, snapshot(&a, b.id));
        let sent: Vec<u8> = (0..chunks).flat_map(chunk).collect();
        assert!(taken.bytes == sent, "{} bytes", taken.bytes.len());
    }
}

#[tokio::test]
async fn what_ends_too_soon_is_no_snapshot() {
    let (a, b) = pair();
    let broken = || Some(io::Error::other("the disk"));
    let mut longer = state(5, 5, None);
    longer.bytes -= 1;
    for state in [state(9, 5, None), state(9, 5, broken()), longer] {
        a.transport.send_snapshot(snapshot(&a, b.id), state);
        assert_eq!(ends(&a).await, (b.id, false));
        until("what came", || !b.witness.snapshots.lock().is_empty()).await;
        let taken = b.witness.snapshots.lock().remove(0);
        assert!(!taken.whole && taken.error.is_some(), "{} bytes", taken.bytes.len());
    }
}

#[tokio::test]
async fn the_end_is_always_reported() {
    let (a, b) = pair();
    *b.witness.takes_no_snapshot.lock() = Some("no room");
    a.transport.send_snapshot(snapshot(&a, b.id), state(3, 3, None));
    assert_eq!(ends(&a).await, (b.id, false));
    // To somebody unknown, to an address where nobody is, to one that goes.
    a.transport.send_snapshot(snapshot(&a, 9), state(3, 3, None));
    assert_eq!(ends(&a).await, (9, false));
    a.transport.set(9, vec!["http://127.0.0.1:1".to_owned()]);
    a.transport.send_snapshot(snapshot(&a, 9), state(3, 3, None));
    assert_eq!(ends(&a).await, (9, false));
    let (sender, chunks) = mpsc::channel(1);
    a.transport.send_snapshot(snapshot(&a, b.id), Outgoing { bytes: 1, chunks });
    a.transport.remove(b.id);
    assert_eq!(ends(&a).await, (b.id, false));
    drop(sender);
    // Without its state.
    a.transport.send(snapshot(&a, b.id));
    assert_eq!(ends(&a).await, (b.id, false));
}

/// Who does not write what comes makes the sender wait; nothing piles up.
#[tokio::test]
async fn a_slow_receiver_slows_the_sender() {
    let (a, b) = pair();
    let gate = b.witness.snapshot_gate.clone();
    let closed = gate.acquire_many(1).await.expect("nobody closes it");
    let (sender, chunks) = mpsc::channel(1);
    let count = 1024;
    let bytes = (count * CHUNK) as u64;
    a.transport.send_snapshot(snapshot(&a, b.id), Outgoing { bytes, chunks });
    let mut sent = 0;
    while let Ok(taken) = timeout(Duration::from_secs(1), sender.send(Ok(chunk(sent)))).await {
        taken.expect("it is still being sent");
        sent += 1;
    }
    assert!(sent < count / 2, "{sent} chunks of {CHUNK} bytes are held somewhere");
    drop(closed);
    for number in sent..count {
        within(sender.send(Ok(chunk(number)))).await.expect("it goes on");
    }
    assert_eq!(ends(&a).await, (b.id, true));
    assert_eq!(b.witness.snapshots.lock()[0].bytes.len(), count * CHUNK);
}

/// Posts a body as etcd would and returns the answer's first line and its last.
async fn post(to: &Node, body: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(to.address).await.expect("it listens");
    let head = format!(
        "POST /raft/snapshot HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
         X-Etcd-Cluster-ID: {CLUSTER:x}\r\nX-Server-Version: 3.7.3\r\n\
         X-Min-Cluster-Version: 3.0.0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("it reads");
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.expect("it answers");
    let line = |line: Option<&str>| line.unwrap_or_default().to_owned();
    (line(text.lines().next()), line(text.lines().last()))
}

#[tokio::test]
async fn what_is_no_snapshot_is_refused() {
    let b = Node::start(2, CLUSTER);
    let a = Node::start(1, CLUSTER);
    let framed = |message: Message| {
        let bytes = crate::raft::wire::encode(message);
        [(bytes.len() as u64).to_be_bytes().to_vec(), bytes].concat()
    };
    let long = u64::MAX.to_be_bytes();
    let garbage = [1u64.to_be_bytes().to_vec(), vec![0xff]].concat();
    let cases = [
        (vec![0; 3], "400", "failed to decode raft message (unexpected EOF)"),
        (long.to_vec(), "400", "failed to decode raft message (error limit exceeded)"),
        (garbage, "400", "failed to decode raft message ("),
        (framed(a.message(MessageType::MsgAppend, 2, 1)), "400", "wrong raft message type"),
        (framed(snapshot(&a, 3)), "500", "failed to process raft message ("),
    ];
    for (body, status, text) in cases {
        let (first, last) = post(&b, &body).await;
        assert!(first.contains(status) && last.starts_with(text), "{first} {last}");
    }
    b.witness.gone.lock().insert(a.id);
    let (first, last) = post(&b, &framed(snapshot(&a, 2))).await;
    assert!(first.contains("500") && last.contains("removed member"), "{first} {last}");
    assert!(b.witness.snapshots.lock().is_empty(), "the host heard of none of them");
}
