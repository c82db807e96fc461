//! The door with limits short enough to wait for.

use std::path::PathBuf;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::config::Tls;

fn tls() -> Arc<rustls::ServerConfig> {
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/listener/fixtures"));
    let (cert_file, key_file) = (fixtures.join("p256.crt"), fixtures.join("p256.key"));
    let tls = Tls { cert_file, key_file, ..Tls::default() };
    Arc::new(crate::tls::server_config(&tls).expect("the fixtures are good"))
}

/// A client's end and a member's.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("it listens"), accepted.expect("somebody connects").0)
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_cut_off() {
    let time = Duration::from_millis(50);
    let door = Door::new(Endpoint::Client, time, 8);
    // A record of 200 bytes, none of which follows.
    for start in [&b""[..], b"\x16\x03\x01\x00\xc8"] {
        let (mut client, server) = connection().await;
        client.write_all(start).await.expect("there is room");
        let began = Instant::now();
        assert!(door.shake_hands(server, tls(), "client").await.is_none());
        assert!(began.elapsed() >= time, "{:?}", began.elapsed());
        let _ = client.read_to_end(&mut Vec::new()).await;
        assert!(door.pending.lock().callers.is_empty());
    }
}

#[tokio::test]
async fn at_the_bound_the_oldest_goes() {
    let door = Arc::new(Door::new(Endpoint::Client, Duration::from_secs(3600), 2));
    let (mut clients, mut handshakes) = (Vec::new(), JoinSet::new());
    for number in 0..5_u64 {
        let (client, server) = connection().await;
        clients.push(client);
        let shared = door.clone();
        handshakes.spawn(async move {
            (number, shared.shake_hands(server, tls(), "client").await.is_some())
        });
        if number >= 2 {
            let ended = tokio::time::timeout(Duration::from_secs(10), handshakes.join_next()).await;
            let ended = ended.expect("one goes at once").expect("it was spawned");
            assert_eq!(ended.expect("no panic"), (number - 2, false));
        }
        while door.pending.lock().next <= number {
            tokio::task::yield_now().await;
        }
        let waiting: Vec<u64> = door.pending.lock().callers.keys().copied().collect();
        assert_eq!(waiting, (number.saturating_sub(1)..=number).collect::<Vec<_>>());
    }
}
