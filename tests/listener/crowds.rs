//! Many clients, silent clients, dead clients.

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kvorum::limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Member;
use super::client::{Client, PATIENCE};
use super::pki::{fixture_text, fixture_tls};

fn friend() -> Client {
    Client::trusting(&fixture_text("ca.crt")).speaking(&["http/1.1"])
}

/// Both ends of every connection are in this process.
fn allow_descriptors(count: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, wanted).expect("the limit may be raised to its maximum");
    let enough = limit.maximum.is_none_or(|maximum| maximum >= count);
    assert!(enough, "this test needs {count} descriptors: ulimit -Hn");
}

/// Connects and says nothing.
fn silent(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_nonblocking(true).expect("a socket");
    stream
}

/// Whether the member has ended a silent connection.
fn is_ended(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(count) => panic!("{count} bytes to a client that said nothing"),
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_keep_nobody_out() {
    const FLOOD: usize = 2000;
    allow_descriptors(6000);
    let member = Member::start(Some(fixture_tls("p256")), |_| {}).await;
    let address = member.address();
    let began = Instant::now();
    let crowd: Vec<TcpStream> = (0..FLOOD).map(|_| silent(address)).collect();
    for _ in 0..5 {
        friend().get(address, "/health").await.expect("served beside the crowd");
    }
    // Who is above the bound goes at once. Nobody waits for the deadline of the others.
    let ended = || crowd.iter().filter(|stream| is_ended(stream)).count();
    let left = FLOOD - limits::TLS_HANDSHAKES_MAX;
    while ended() < left {
        let time = began.elapsed();
        assert!(time < limits::TLS_HANDSHAKE_TIMEOUT, "{} of {FLOOD} ended in {time:?}", ended());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_served_while_silent_ones_keep_coming() {
    allow_descriptors(6000);
    let member = Member::start(Some(fixture_tls("p256")), |_| {}).await;
    let address = member.address();
    let (stop, came) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let flood = std::thread::spawn({
        let (stop, came) = (stop.clone(), came.clone());
        move || {
            let mut crowd = std::collections::VecDeque::new();
            while !stop.load(Ordering::Relaxed) {
                crowd.push_back(silent(address));
                if crowd.len() > 2 * limits::TLS_HANDSHAKES_MAX {
                    crowd.pop_front();
                }
                came.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let began = Instant::now();
    let mut served = 0;
    while served < 5 || came.load(Ordering::Relaxed) < 2 * limits::TLS_HANDSHAKES_MAX {
        assert!(began.elapsed() < PATIENCE, "{served} served");
        // A client that was cut off in the crowd comes again, as clients do.
        served += usize::from(friend().get(address, "/health").await.is_ok());
    }
    stop.store(true, Ordering::Relaxed);
    flood.join().expect("the flood ends");
    member.stop().await;
}

#[tokio::test]
async fn silent_clients_do_not_hold_up_a_shutdown() {
    for tls in [None, Some(fixture_tls("p256"))] {
        let member = Member::start(tls, |_| {}).await;
        let crowd: Vec<TcpStream> = (0..10).map(|_| silent(member.address())).collect();
        let began = Instant::now();
        member.stop().await;
        // Connections that are being drained may take 5 s.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(crowd.iter().all(is_ended));
    }
}

/// The client's side of HTTP/2: preface, empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const PING: u8 = 6;

#[tokio::test]
async fn a_dead_client_is_dropped_and_a_silent_one_is_not() {
    let pinging = |config: &mut kvorum::config::Config| {
        config.grpc_keepalive_interval = Duration::from_millis(50);
        config.grpc_keepalive_timeout = Duration::from_millis(100);
    };
    let member = Member::start(None, pinging).await;
    let alive = tokio::net::TcpStream::connect(member.address()).await.expect("it listens");
    let (mut requests, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(alive),
    )
    .await
    .expect("HTTP/2");
    tokio::spawn(connection);

    // Two in a row, so that the live one has been silent for several intervals.
    for _ in 0..2 {
        let mut dead = tokio::net::TcpStream::connect(member.address()).await.expect("it listens");
        dead.write_all(PREFACE).await.expect("it reads");
        let mut heard = Vec::new();
        // A reset is an end, too: the member does not read what it has given up.
        let ended = tokio::time::timeout(PATIENCE, dead.read_to_end(&mut heard)).await;
        let _ = ended.expect("the member gives up a client that answers no ping");
        assert!(frames(&heard).contains(&PING), "it asked before: {heard:?}");
    }
    let request = http::Request::get("http://member/health")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("a request");
    let answer = requests.send_request(request).await.expect("the connection stands");
    assert_eq!(answer.status(), 200);
    drop(requests);
    member.stop().await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A client gives up at once all it had asked of a member that was stalled, and asks again.
#[tokio::test]
async fn cancelled_requests_do_not_end_a_connection() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    const END_OF_BOTH: u8 = 5;
    let member = Member::start(None, |_| {}).await;
    let mut stream = tokio::net::TcpStream::connect(member.address()).await.expect("it listens");
    // GET http /health, from "x", as HPACK has it.
    let ask = |id| frame(HEADERS, END_OF_BOTH, id, b"\x82\x86\x04\x07/health\x01\x01x");
    let cancelled = (0..1000).map(|number| 2 * number + 1);
    let mut bytes = PREFACE.to_vec();
    for id in cancelled {
        bytes.extend([ask(id), frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat());
    }
    bytes.extend(ask(2001));
    stream.write_all(&bytes).await.expect("it reads");
    let mut heard = Vec::new();
    while !frames(&heard).iter().any(|kind| [HEADERS, GOAWAY].contains(kind)) {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut heard)).await;
        assert_ne!(read.expect("an answer in time").expect("a connection"), 0, "{heard:?}");
    }
    assert!(!frames(&heard).contains(&GOAWAY), "{}", String::from_utf8_lossy(&heard));
    drop(stream);
    member.stop().await;
}

/// The types of the frames in a stream of HTTP/2.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, rest @ ..] = bytes {
        kinds.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = rest.get(5 + length..).unwrap_or_default();
    }
    kinds
}
