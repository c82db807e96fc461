//! Certificates replaced on disk, whole and otherwise, while a member runs.

use std::net::SocketAddr;

use kvorum::config::Tls;
use kvorum::pb::PutRequest;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;

use super::Member;
use super::client::{Client, ask, within};
use super::pki::{Authority, Flaw, Identity, hex};

/// The settings of a listener whose files are in `directory`, and hold `identity`.
fn files(directory: &tempfile::TempDir, identity: &Identity) -> Tls {
    let file = |name| directory.path().join(name);
    let tls = Tls { cert_file: file("tls.crt"), key_file: file("tls.key"), ..Tls::default() };
    identity.write(&tls);
    tls
}

/// The certificate a new connection is shown, as hex; the connection is used, too.
async fn shown(client: &Client, address: SocketAddr) -> String {
    let mut stream = within(client.connect(address)).await.expect("a handshake");
    let chain = stream.get_ref().1.peer_certificates().expect("after a handshake");
    let shown = hex(&chain[0]);
    let answer = within(ask(&mut stream, "/health")).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shown
}

#[tokio::test]
async fn a_new_certificate_needs_no_restart() {
    let authority = Authority::new("authority");
    let (first, second) = (authority.sign("first", Flaw::None), authority.sign("2", Flaw::None));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tls = files(&directory, &first);
    let member = Member::start(Some(tls.clone()), |_| {}).await;
    let client = Client::trusting(&authority.pem());
    let put = || PutRequest { key: "k".into(), ..Default::default() };
    let mut standing = client.kv(member.address()).await.expect("a connection");
    standing.put(put()).await.expect("a put");
    let before = shown(&client, member.address()).await;
    assert_eq!(before, first.hex());

    second.write(&tls);
    assert_eq!(shown(&client, member.address()).await, second.hex());
    standing.put(put()).await.expect("a connection that stands goes on");

    // As kubelet and cert-manager do it: other files take the names.
    let third = authority.sign("third", Flaw::None);
    let aside = tempfile::tempdir_in(directory.path()).expect("a temporary directory");
    let new = files(&aside, &third);
    std::fs::rename(&new.key_file, &tls.key_file).expect("the same file system");
    std::fs::rename(&new.cert_file, &tls.cert_file).expect("the same file system");
    assert_eq!(shown(&client, member.address()).await, third.hex());
    standing.put(put()).await.expect("a connection that stands goes on");
    member.stop().await;
}

#[tokio::test]
async fn what_is_not_whole_leaves_the_old_certificate_in_use() {
    let authority = Authority::new("authority");
    let (first, second) = (authority.sign("first", Flaw::None), authority.sign("2", Flaw::None));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tls = files(&directory, &first);
    let member = Member::start(Some(tls.clone()), |_| {}).await;
    let client = Client::trusting(&authority.pem());

    let half = |text: &str| text[..text.len() / 2].to_owned();
    let broken = [
        (second.cert.clone(), first.key.clone()),
        (first.cert.clone(), second.key.clone()),
        (half(&second.cert), second.key.clone()),
        (second.cert.clone(), half(&second.key)),
        (String::new(), second.key.clone()),
        (second.cert.clone(), String::new()),
        ("no certificate at all".to_owned(), second.key.clone()),
    ];
    for (number, (cert, key)) in broken.into_iter().enumerate() {
        Identity { cert, key }.write(&tls);
        for _ in 0..2 {
            assert_eq!(shown(&client, member.address()).await, first.hex(), "broken {number}");
        }
    }
    std::fs::remove_file(&tls.cert_file).expect("it is there");
    assert_eq!(shown(&client, member.address()).await, first.hex());
    second.write(&tls);
    assert_eq!(shown(&client, member.address()).await, second.hex());
    member.stop().await;
}

/// A resumed session would go on with a certificate that was replaced, and with a client whose own
/// has expired since.
#[tokio::test]
async fn sessions_are_not_resumed() {
    let authority = Authority::new("authority");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tls = files(&directory, &authority.sign("first", Flaw::None));
    let member = Member::start(Some(tls), |_| {}).await;
    for version in [&TLS12, &TLS13] {
        let client = Client { versions: vec![version], ..Client::trusting(&authority.pem()) };
        let connector = client.connector();
        for _ in 0..3 {
            let stream = TcpStream::connect(member.address()).await.expect("it listens");
            let name = ServerName::try_from("localhost").expect("a name");
            let mut stream = within(connector.connect(name, stream)).await.expect("a handshake");
            // Tickets come behind the handshake, so something is read.
            within(ask(&mut stream, "/health")).await.expect("an answer");
            let kind = stream.get_ref().1.handshake_kind();
            assert!(
                matches!(
                    kind,
                    Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
                ),
                "{kind:?}"
            );
        }
    }
    member.stop().await;
}
