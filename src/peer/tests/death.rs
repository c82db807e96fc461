//! Members whose process dies, and what looks like it.

use std::time::Instant;

use super::trouble::{Wire, ask_for_stream, stranger};
use super::world::{Node, until};
use crate::config::Url;
use crate::limits;
use crate::peer::Listener;
use crate::peer::codec::Kind;

const CLUSTER: u64 = 0xc1;

#[tokio::test]
async fn a_death_is_noticed_at_once() {
    let a = Node::start(1, CLUSTER);
    let mut b = Node::start(2, CLUSTER);
    for deaths in 1..=3 {
        a.transport.set(b.id, vec![b.url()]);
        b.transport.set(a.id, vec![a.url()]);
        for kind in Kind::ALL {
            b.until_streaming(a.id, kind).await;
        }
        until("a's view of it", || a.transport.active_since(b.id).is_some()).await;
        let died = Instant::now();
        b.transport.stop();
        until("the news", || a.witness.disconnected.lock().len() == deaths).await;
        let noticed = died.elapsed();
        assert!(noticed < limits::PEER_IO_TIMEOUT / 4, "after {noticed:?}");
        assert_eq!(a.transport.active_since(b.id), None);
        // It stays dead for a while, and is back at its address.
        let dials = || a.transport.traffic(b.id).expect("it was set").dials;
        let before = dials();
        until("more attempts", || dials() > before + 4).await;
        assert_eq!(*a.witness.disconnected.lock(), vec![b.id; deaths], "told once");
        let url = Url::http(&b.address.to_string());
        b = Node::start_on(Listener::bind(&url, None).expect("it is free again"), 2, CLUSTER);
    }
}

/// Its streams end, but somebody is there.
#[tokio::test]
async fn a_replaced_stream_is_no_death() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    a.transport.set(b.id, vec![b.url()]);
    b.transport.set(a.id, vec![a.url()]);
    b.until_streaming(a.id, Kind::Message).await;
    let dials = || a.transport.traffic(b.id).expect("it was set").dials;
    for _ in 0..5 {
        // An attempt under way would replace the other's stream, and be content.
        until("both streams", || a.transport.active_since(b.id).is_some()).await;
        let before = dials();
        let other = ask_for_stream(&b, &stranger(a.id)).await;
        until("another attempt", || dials() > before).await;
        drop(other);
    }
    b.until_streaming(a.id, Kind::Message).await;
    assert!(a.witness.disconnected.lock().is_empty());
}

/// A wire that is cut says nothing; nor does an address where nobody ever was.
#[tokio::test]
async fn silence_is_no_death() {
    let (a, b) = (Node::start(1, CLUSTER), Node::start(2, CLUSTER));
    let wire = Wire::to(b.address).await;
    a.transport.set(b.id, vec![wire.url()]);
    a.transport.set(3, vec!["http://127.0.0.1:1".to_owned()]);
    b.transport.set(a.id, vec![a.url()]);
    let up = until("the streams", || a.transport.active_since(b.id).is_some());
    tokio::select! {
        () = up => {}
        () = wire.carry() => {}
    }
    // The streams are closed; new connections wait in the wire's queue.
    until("the end", || a.transport.active_since(b.id).is_none()).await;
    let dials = || a.transport.traffic(3).expect("it was set").dials;
    until("attempts", || dials() > 4).await;
    assert!(a.witness.disconnected.lock().is_empty());
}
