//! Members with certificates, and those who have none or the wrong ones.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::pki::{Authority, Folder, Pair, Wish};
use super::world::{Node, until, within};
use crate::config::{PeerTls, Url};
use crate::limits;
use crate::node::Outgoing;
use crate::peer::Listener;
use crate::peer::codec::Kind;
use crate::raft::MessageType;
use crate::tls::{Peers, TlsError};

const CLUSTER: u64 = 0xc1;
const FREE: &str = "127.0.0.1:0";

fn start(id: u64, tls: &PeerTls) -> Node {
    Node::start_tls(FREE, (id, CLUSTER), tls)
}

/// Two members who know of each other.
fn acquaint(a: &Node, b: &Node) {
    a.transport.set(b.id, vec![b.url()]);
    b.transport.set(a.id, vec![a.url()]);
}

async fn until_heard(a: &Node, b: &Node) {
    until("all streams", || {
        a.transport.active_since(b.id).is_some() && b.transport.active_since(a.id).is_some()
    })
    .await;
}

/// What a caller with TLS of its own gets for a request.
async fn ask(address: SocketAddr, caller: Arc<ClientConfig>) -> String {
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::from(address.ip());
        let mut stream = TlsConnector::from(caller).connect(name, stream).await?;
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        Ok::<_, std::io::Error>(answer)
    };
    within(asked).await.unwrap_or_default()
}

#[tokio::test]
async fn members_with_certificates_hear_each_other() {
    let authority = Authority::new("ca");
    let folder = Folder::new(&authority, &authority.sign(Wish::default()));
    let (a, b) = (start(1, &folder.tls), start(2, &folder.tls));
    acquaint(&a, &b);
    for kind in Kind::ALL {
        a.until_streaming(b.id, kind).await;
    }
    for index in 1..=200 {
        let mut message = a.message(MessageType::MsgHeartbeat, b.id, index);
        message.context = Bytes::from(vec![7; 10_000]);
        a.transport.send(message);
    }
    let came = || b.witness.indexes(MessageType::MsgHeartbeat, a.id);
    until("every message", || came().len() == 200).await;
    assert_eq!(came(), (1..=200).collect::<Vec<_>>());

    let (sender, chunks) = mpsc::channel(1);
    let snapshot = a.message(MessageType::MsgSnapshot, b.id, 0);
    a.transport.send_snapshot(snapshot, Outgoing { bytes: 3 << 20, chunks });
    for _ in 0..3 {
        let chunk = Bytes::from(vec![9; 1 << 20]);
        sender.send(Ok(chunk)).await.expect("it is being read");
    }
    until("its end", || !a.witness.snapshots_sent.lock().is_empty()).await;
    assert_eq!(*a.witness.snapshots_sent.lock(), [(b.id, true)]);
    assert_eq!(b.witness.snapshots.lock()[0].bytes, vec![9; 3 << 20]);
}

#[tokio::test]
async fn who_cannot_show_that_he_is_a_member_gets_nowhere() {
    let (authority, other) = (Authority::new("ca"), Authority::new("ca"));
    let mut folder = Folder::new(&authority, &authority.sign(Wish::default()));
    folder.tls.allowed_cn = vec!["member".to_owned()];
    let b = start(2, &folder.tls);
    let good = Wish::default();
    let ask_with = |pair: Option<&Pair>| ask(b.address, authority.caller(pair));
    let answer = ask_with(Some(&authority.sign(good))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let nameless = authority.sign(Wish { names: &[], ..good });
    let answer = ask_with(Some(&nameless)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "for use anywhere: {answer}");

    assert_eq!(ask_with(None).await, "", "no certificate");
    let bad = [
        ("another CA", other.sign(good)),
        ("too old", authority.sign(Wish { expired: true, ..good })),
        ("for servers", authority.sign(Wish { for_clients: false, ..good })),
        ("another address", authority.sign(Wish { names: &["10.255.0.9"], ..good })),
        ("another name", authority.sign(Wish { names: &["b.invalid"], ..good })),
        ("another common name", authority.sign(Wish { common_name: "client", ..good })),
    ];
    for (why, pair) in bad {
        assert_eq!(ask_with(Some(&pair)).await, "", "{why}");
    }

    // Where addresses are not looked at, the wrong ones do.
    folder.tls.skip_client_san_verification = true;
    folder.tls.allowed_cn.clear();
    folder.tls.allowed_hostname = vec!["b.cluster.example".to_owned()];
    let b = start(2, &folder.tls);
    let ask_with = |pair: Option<&Pair>| ask(b.address, authority.caller(pair));
    let elsewhere = authority.sign(Wish { names: &["10.255.0.9", "*.cluster.example"], ..good });
    assert!(ask_with(Some(&elsewhere)).await.starts_with("HTTP/1.1 200"));
    assert_eq!(ask_with(Some(&authority.sign(good))).await, "", "another host");
}

#[tokio::test]
async fn a_revoked_certificate_is_good_until_the_list_has_it() {
    let authority = Authority::new("ca");
    let mut folder = Folder::new(&authority, &authority.sign(Wish::default()));
    let list = folder.path("revoked");
    fs::write(&list, authority.revoke(0x1ff)).expect("a writable folder");
    folder.tls.crl_file = Some(list.clone());
    let b = start(2, &folder.tls);
    let pair = authority.sign(Wish { serial: 0x2ff, ..Wish::default() });
    let ask = || ask(b.address, authority.caller(Some(&pair)));
    assert!(ask().await.starts_with("HTTP/1.1 200"));
    fs::write(&list, authority.revoke(0x2ff)).expect("a writable folder");
    assert_eq!(ask().await, "");
    fs::write(&list, b"no list").expect("a writable folder");
    assert_eq!(ask().await, "", "nobody knows who is on it");
    fs::write(&list, authority.revoke(0x3ff)).expect("a writable folder");
    assert!(ask().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn plain_text_is_told_and_not_served() {
    let authority = Authority::new("ca");
    let folder = Folder::new(&authority, &authority.sign(Wish::default()));
    let b = start(2, &folder.tls);
    let mut stream = TcpStream::connect(b.address).await.expect("it listens");
    let request = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request).await.expect("there is room");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("HTTP request to a TLS port"), "{answer}");

    // Nor do members get along of whom one has no certificate.
    let a = Node::start(1, CLUSTER);
    a.transport.set(b.id, vec![b.url()]);
    a.transport.set(3, vec![format!("http://{}", b.address)]);
    b.transport.set(a.id, vec![format!("https://{}", a.address)]);
    let dials = |node: &Node, id| node.transport.traffic(id).expect("it was added").dials;
    until("attempts", || dials(&a, b.id) > 4 && dials(&b, a.id) > 4 && dials(&a, 3) > 4).await;
    assert_eq!(a.transport.active_since(b.id), None);
    assert_eq!(b.transport.active_since(a.id), None);
    a.transport.send(a.message(MessageType::MsgHeartbeat, b.id, 1));
    until("a report", || a.witness.unreachable_count(b.id) > 0).await;
    assert!(b.witness.received.lock().is_empty());

    let https = Url::parse("https://127.0.0.1:0").expect("a URL");
    assert!(Listener::bind(&https, None).is_err());
}

/// Neither side is restarted; the files change.
#[tokio::test]
async fn certificates_follow_their_files() {
    let (authority, other) = (Authority::new("ca"), Authority::new("ca"));
    let good = authority.sign(Wish::default());
    let bad = authority.sign(Wish { common_name: "client", ..Wish::default() });
    let mut folders = [Folder::new(&authority, &good), Folder::new(&authority, &good)];
    folders[1].call_with(&bad);
    for folder in &mut folders {
        folder.tls.allowed_cn = vec!["member".to_owned()];
    }
    let (a, b) = (start(1, &folders[0].tls), start(2, &folders[1].tls));
    acquaint(&a, &b);
    // a calls b, which is answered; b calls a, which does not like what it sees.
    b.until_streaming(a.id, Kind::Append).await;
    let dials = |node: &Node, id| node.transport.traffic(id).expect("it was added").dials;
    until("attempts", || dials(&b, a.id) > 4).await;
    assert_eq!(b.transport.active_since(a.id), None);
    folders[1].call_with(&good);
    until_heard(&a, &b).await;

    // What b shows when it is called: of another CA, for another host, for another purpose.
    let elsewhere = authority.sign(Wish { names: &["10.255.0.9"], ..Wish::default() });
    for wrong in [other.sign(Wish::default()), elsewhere, bad] {
        folders[1].show(&wrong);
        // Streams that stand go on; those that are asked for anew are not had.
        b.transport.remove(a.id);
        b.transport.set(a.id, vec![a.url()]);
        until("the end", || a.transport.active_since(b.id).is_none()).await;
        let before = dials(&a, b.id);
        until("attempts", || dials(&a, b.id) > before + 4).await;
        assert_eq!(a.transport.active_since(b.id), None);
        folders[1].show(&good);
        until_heard(&a, &b).await;
    }
    assert!(a.witness.disconnected.lock().is_empty(), "nobody died");
}

#[tokio::test]
async fn a_death_behind_tls_is_noticed_at_once() {
    let authority = Authority::new("ca");
    let folder = Folder::new(&authority, &authority.sign(Wish::default()));
    let (a, b) = (start(1, &folder.tls), start(2, &folder.tls));
    acquaint(&a, &b);
    until_heard(&a, &b).await;
    let died = Instant::now();
    b.transport.stop();
    until("the news", || !a.witness.disconnected.lock().is_empty()).await;
    let noticed = died.elapsed();
    assert!(noticed < limits::PEER_IO_TIMEOUT / 4, "after {noticed:?}");
    assert_eq!(*a.witness.disconnected.lock(), [b.id]);
}

/// More connections than there are seats, none of which ever says a word.
#[tokio::test]
async fn a_crowd_that_shows_nothing_keeps_no_member_out() {
    let authority = Authority::new("ca");
    let folder = Folder::new(&authority, &authority.sign(Wish::default()));
    let (a, b) = (start(1, &folder.tls), start(2, &folder.tls));
    let began = Instant::now();
    let mut crowd = Vec::new();
    for _ in 0..limits::PEER_CONNECTIONS_MAX + 50 {
        crowd.push(TcpStream::connect(b.address).await.expect("it listens"));
    }
    acquaint(&a, &b);
    until_heard(&a, &b).await;
    let heard = began.elapsed();
    assert!(heard < limits::TLS_HANDSHAKE_TIMEOUT / 2, "after {heard:?}");
}

#[test]
fn what_is_wrong_with_the_files_is_said_at_the_start() {
    let authority = Authority::new("ca");
    let pair = authority.sign(Wish::default());
    let wrong = |change: &dyn Fn(&mut PeerTls)| {
        let mut folder = Folder::new(&authority, &pair);
        change(&mut folder.tls);
        Peers::new(&folder.tls).expect_err("it is wrong")
    };
    assert_eq!(wrong(&|tls| tls.listener.trusted_ca_file = None), TlsError::NoPeerCa);
    let words = wrong(&|tls| tls.client_key_file = Some("k".into())).to_string();
    assert!(words.ends_with("must both be present or both absent [key: k, cert: ]"), "{words}");
    let words = wrong(&|tls| {
        tls.allowed_cn = vec!["a".to_owned(), "b".to_owned()];
        tls.allowed_hostname = vec!["c".to_owned()];
    });
    let words = words.to_string();
    assert!(words.ends_with("are mutually exclusive (cns=[a b], hostnames=[c])"), "{words}");
    let words = wrong(&|tls| tls.allowed_hostname = vec!["a b".to_owned()]).to_string();
    assert!(words.contains("\"a b\" is neither a host name nor an address"), "{words}");
    let words = wrong(&|tls| tls.crl_file = Some("/nowhere".into())).to_string();
    assert!(words.contains("revoked certificates /nowhere cannot be used"), "{words}");
    // Without a CA there is nobody to call, but who is alone calls nobody.
    let mut folder = Folder::new(&authority, &pair);
    folder.tls.listener.trusted_ca_file = None;
    folder.tls.listener.client_cert_auth = false;
    Peers::new(&folder.tls).expect("a member on its own");
}
