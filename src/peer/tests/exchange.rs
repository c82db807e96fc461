//! Members that get along: what is sent arrives, once, in order, whichever way it goes.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::world::{Node, until};
use crate::peer::codec::Kind;
use crate::raft::{Entry, MessageType};

const CLUSTER: u64 = 0xc1;
const MESSAGES: u64 = 500;

fn cluster() -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id, CLUSTER));
    }
    for a in &nodes {
        for b in nodes.iter().filter(|b| b.id != a.id) {
            a.transport.set(b.id, vec![b.url()]);
        }
    }
    nodes
}

#[tokio::test]
async fn three_members_hear_each_other() {
    let nodes = cluster();
    let kinds = [MessageType::MsgAppend, MessageType::MsgHeartbeat];
    let pairs: Vec<(&Node, &Node)> = nodes
        .iter()
        .flat_map(|a| nodes.iter().filter(|b| b.id != a.id).map(move |b| (a, b)))
        .collect();
    for (a, b) in &pairs {
        for kind in Kind::ALL {
            a.until_streaming(b.id, kind).await;
        }
    }
    for index in 1..=MESSAGES {
        for (a, b) in &pairs {
            let data = Bytes::from(vec![index as u8; index as usize]);
            let entry = Entry { term: 2, index: index + 1, data, ..Entry::default() };
            let mut append = a.message(MessageType::MsgAppend, b.id, index);
            append.entries.push(entry);
            a.transport.send(append);
            a.transport.send(a.message(MessageType::MsgHeartbeat, b.id, index));
        }
        tokio::task::yield_now().await;
    }
    for (a, b) in &pairs {
        for kind in kinds {
            let all: Vec<u64> = (1..=MESSAGES).collect();
            let came = || -> Vec<u64> {
                let indexes = b.witness.indexes(kind, a.id);
                indexes.into_iter().filter(|index| *index > 0).collect()
            };
            until("every message", || came().len() >= all.len()).await;
            assert_eq!(came(), all, "in order, once");
        }
        let traffic = b.transport.traffic(a.id).expect("it was added");
        assert!(traffic.received >= 2 * MESSAGES, "{traffic:?}");
    }
    let received = nodes[1].witness.received.lock();
    let appends = received.iter().filter(|each| !each.entries.is_empty());
    for append in appends {
        let entry = &append.entries[0];
        assert_eq!((append.to, append.log_term, entry.index), (2, 2, append.index + 1));
        assert_eq!(entry.data, vec![append.index as u8; append.index as usize]);
    }
}

#[tokio::test]
async fn without_a_stream_messages_are_posted() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    // b does not know of a yet, so it asks for no stream.
    b.witness.strangers.lock().insert(a.id);
    a.transport.set(b.id, vec![b.url()]);
    for index in 1..=50 {
        a.transport.send(a.message(MessageType::MsgAppend, b.id, index));
    }
    let posted = || a.transport.traffic(b.id).expect("it was added").posted;
    until("every message", || posted() == 50).await;
    assert_eq!(b.witness.indexes(MessageType::MsgAppend, a.id), (1..=50).collect::<Vec<_>>());
    // Nevertheless it can answer: a has said where it is.
    b.transport.send(b.message(MessageType::MsgAppendResponse, a.id, 50));
    let answers = || a.witness.indexes(MessageType::MsgAppendResponse, b.id);
    until("the answer", || answers() == [50]).await;
    assert_eq!((a.sent(b.id), a.witness.unreachable_count(b.id)), (0, 0));

    // It hears of a, and from then on its streams are used.
    b.witness.strangers.lock().clear();
    b.transport.set(a.id, vec![a.url()]);
    a.until_streaming(b.id, Kind::Append).await;
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    // Nothing listens on the first; nothing can be made of the second.
    let urls = ["http://127.0.0.1:1".to_owned(), "gopher://b".to_owned(), b.url()];
    a.transport.set(b.id, urls.to_vec());
    b.transport.set(a.id, vec![a.url()]);
    b.until_streaming(a.id, Kind::Message).await;
    assert!(a.transport.traffic(b.id).expect("it was added").dials >= 3);
}

#[tokio::test]
async fn what_the_node_has_no_room_for_is_counted() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    a.transport.set(b.id, vec![b.url()]);
    b.transport.set(a.id, vec![a.url()]);
    a.until_streaming(b.id, Kind::Message).await;
    b.witness.no_room.store(3, Ordering::Relaxed);
    for index in 1..=5 {
        a.transport.send(a.message(MessageType::MsgHeartbeat, b.id, index));
    }
    until("the last", || b.witness.indexes(MessageType::MsgHeartbeat, a.id).contains(&5)).await;
    assert_eq!(b.transport.traffic(a.id).expect("it was added").overrun, 3);
}
