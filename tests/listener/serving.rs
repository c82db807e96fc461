//! Who is served over TLS, and how.

use kvorum::config::{Tls, TlsVersions, Url};
use kvorum::pb::PutRequest;
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Client, ask, within};
use super::pki::{Authority, Flaw, Identity, fixture_text, fixture_tls, fixture_tls_with_clients};
use super::{Member, config};

const HEALTHY: &str = r#"{"health":"true","reason":""}"#;

fn put() -> PutRequest {
    PutRequest { key: "k".into(), value: "v".into(), ..Default::default() }
}

/// A client with the right certificate.
fn friend() -> Client {
    Client::trusting(&fixture_text("ca.crt")).with(Identity::fixture("client"))
}

#[tokio::test]
async fn certificates_of_operators_serve_every_version_and_protocol() {
    for certificate in ["p256", "p521", "rsa"] {
        let tls = fixture_tls_with_clients(certificate);
        let metrics = |config: &mut kvorum::config::Config| {
            config.listen_metrics_urls = vec![Url::parse("https://127.0.0.1:0").expect("a URL")];
        };
        let member = Member::start(Some(tls), metrics).await;
        for (version, number) in
            [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
        {
            let client = Client { versions: vec![version], ..friend() };
            let stream = within(client.connect(member.address())).await.expect("a handshake");
            let (_, session) = stream.get_ref();
            assert_eq!(session.protocol_version(), Some(number));
            assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
            drop(stream);

            let h2 = client.clone().speaking(&["h2"]);
            let body = h2.get_h2(member.address(), "/health").await.expect("an answer");
            assert_eq!(body, HEALTHY, "{certificate} {number:?}");
            // etcd serves HTTP/1.1 also to who negotiates nothing, as old clients do.
            for protocols in [&["http/1.1"][..], &[]] {
                let h1 = client.clone().speaking(protocols);
                for address in [member.address(), member.running().metrics_addresses()[0]] {
                    let answer = h1.get(address, "/health").await.expect("an answer");
                    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                    assert!(answer.ends_with(HEALTHY), "{certificate} {number:?}: {answer}");
                }
            }
            let mut kv = client.kv(member.address()).await.expect("a connection");
            kv.put(put()).await.expect("a put");
        }
        member.stop().await;
    }
}

#[tokio::test]
async fn only_the_asked_versions_and_suites_are_spoken() {
    let versions = [(TlsVersions::Only12, &TLS12, &TLS13), (TlsVersions::Only13, &TLS13, &TLS12)];
    for (versions, spoken, other) in versions {
        let tls = Tls { versions, ..fixture_tls("rsa") };
        let member = Member::start(Some(tls), |_| {}).await;
        let client = |version| Client { versions: vec![version], ..friend() };
        client(spoken).get(member.address(), "/health").await.expect("the version it speaks");
        let refused = client(other).get(member.address(), "/health").await;
        assert!(refused.expect_err("another version").to_string().contains("ProtocolVersion"));
        member.stop().await;
    }

    let suite = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
    let tls = Tls { cipher_suites: vec![suite.to_owned()], ..fixture_tls("rsa") };
    let member = Member::start(Some(tls), |_| {}).await;
    let client = Client { versions: vec![&TLS12], ..friend() };
    let stream = within(client.connect(member.address())).await.expect("a handshake");
    let negotiated = stream.get_ref().1.negotiated_cipher_suite().expect("after a handshake");
    assert_eq!(format!("{:?}", negotiated.suite()), suite);
    drop(stream);
    member.stop().await;
}

#[tokio::test]
async fn a_ca_file_alone_asks_for_client_certificates_as_in_etcd() {
    let authority = Authority::new("another");
    let trusted = Authority::new("trusted");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ca_file = directory.path().join("bundle");
    // A bundle may hold several.
    let bundle = format!("# two authorities\n{}{}", fixture_text("ca.crt"), trusted.pem());
    std::fs::write(&ca_file, bundle).expect("a writable directory");

    for client_cert_auth in [false, true] {
        let trusted_ca_file = Some(ca_file.clone());
        let tls = Tls { trusted_ca_file, client_cert_auth, ..fixture_tls("p256") };
        let member = Member::start(Some(tls), |_| {}).await;
        for version in [&TLS12, &TLS13] {
            let nobody =
                Client { versions: vec![version], ..Client::trusting(&fixture_text("ca.crt")) };
            let refused = nobody.get(member.address(), "/health").await;
            refused.expect_err("no certificate");
            for (why, identity) in [
                ("another CA", authority.sign("client", Flaw::None)),
                ("expired", trusted.sign("client", Flaw::Expired)),
                ("not yet valid", trusted.sign("client", Flaw::NotYetValid)),
                ("for servers only", trusted.sign("client", Flaw::ForServersOnly)),
            ] {
                let client = nobody.clone().with(identity);
                client.get(member.address(), "/health").await.expect_err(why);
                let put = match client.kv(member.address()).await {
                    Ok(mut kv) => kv.put(put()).await.map(drop),
                    Err(refused) => Err(refused),
                };
                put.expect_err(why);
            }
            for identity in [Identity::fixture("client"), trusted.sign("client", Flaw::None)] {
                let client = nobody.clone().with(identity);
                let answer = client.get(member.address(), "/health").await.expect("an answer");
                assert!(answer.ends_with(HEALTHY), "{answer}");
                let mut kv = client.kv(member.address()).await.expect("a connection");
                kv.put(put()).await.expect("a put");
            }
        }
        member.stop().await;
    }
}

#[tokio::test]
async fn without_a_ca_nobody_is_asked_for_a_certificate() {
    let member = Member::start(Some(fixture_tls("p256")), |_| {}).await;
    let stranger = Authority::new("another").sign("client", Flaw::None);
    for client in [Client::trusting(&fixture_text("ca.crt")), friend().with(stranger)] {
        client.get(member.address(), "/health").await.expect("an answer");
    }
    member.stop().await;
}

#[tokio::test]
async fn who_comes_to_the_wrong_port_is_told_so() {
    let secure = Member::start(Some(fixture_tls("p256")), |_| {}).await;
    let plain = Member::start(None, |_| {}).await;
    for _ in 0..50 {
        let mut stream = TcpStream::connect(secure.address()).await.expect("it listens");
        let answer = within(ask(&mut stream, "/health")).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("use https://"), "{answer}");

        // A TLS library takes the answer for a broken record, which is how it looks in practice;
        // here it is read as it is.
        let mut stream = TcpStream::connect(plain.address()).await.expect("it listens");
        stream.write_all(b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4").await.expect("it reads");
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("use http://"), "{answer}");
        friend().get(plain.address(), "/health").await.expect_err("no TLS here");
    }
    friend().get(secure.address(), "/health").await.expect("it serves still");
    let mut stream = TcpStream::connect(plain.address()).await.expect("it listens");
    let answer = within(ask(&mut stream, "/health")).await.expect("an answer");
    assert!(answer.ends_with(HEALTHY), "{answer}");
    plain.stop().await;
    secure.stop().await;
}

#[tokio::test]
async fn a_unix_socket_may_speak_tls() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("socket");
    let mut config = config(directory.path(), Some(fixture_tls_with_clients("p256")));
    let url = format!("unixs://{}", path.display());
    config.listen_client_urls = vec![Url::parse(&url).expect("a URL")];
    let running = kvorum::Server::start(config).await.expect("the member starts");
    let stream = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    let mut stream = within(friend().connect_over(stream)).await.expect("a handshake");
    let answer = within(ask(&mut stream, "/health")).await.expect("an answer");
    assert!(answer.ends_with(HEALTHY), "{answer}");
    running.shutdown().await;
}
