//! gRPC's health service from the start of a member to its end, as clients and as the wire see it.

use std::io::{self, Read, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kvorum::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum::pb::health::health_check_response::ServingStatus;
use kvorum::pb::health::health_client::HealthClient;
use kvorum::pb::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest};
use kvorum::pb::{self};
use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use super::directory;
use super::member::Member;

/// For machines however slow.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(directory: &std::path::Path, more: &[&str]) -> (Member, String) {
    let mut member = Member::spawn(directory, more, &[]);
    let ready = member.wait_for("ready to serve client requests");
    let address = ready["address"].as_str().expect("an address").to_owned();
    (member, address)
}

async fn connect(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("the member listens")
}

async fn watch(channel: &Channel, service: &str) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: service.into() };
    let watched = HealthClient::new(channel.clone()).watch(request).await;
    watched.expect("it can be watched").into_inner()
}

async fn next(stream: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("it is told");
    message.expect("the stream goes on").expect("the stream goes on").status()
}

#[test]
fn who_watches_hears_that_the_member_goes_before_it_is_gone() {
    let directory = directory();
    let (member, address) = start(directory.path(), &[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let channel = connect(&address).await;
        let mut client = HealthClient::new(channel.clone());
        let (mut own, mut other) = (watch(&channel, "").await, watch(&channel, "other").await);
        assert_eq!(next(&mut own).await, ServingStatus::Serving);
        assert_eq!(next(&mut other).await, ServingStatus::ServiceUnknown);
        let check = |service: &str| HealthCheckRequest { service: service.into() };
        let now = client.check(check("")).await.expect("an answer").into_inner();
        assert_eq!(now.status(), ServingStatus::Serving);
        let unknown = client.check(check("other")).await.expect_err("nobody knows it");
        assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "unknown service"));
        let list = client.list(HealthListRequest {}).await.expect("an answer").into_inner();
        assert_eq!(list.statuses[""].status(), ServingStatus::Serving);
        assert_eq!(list.statuses.len(), 1);

        member.signal(Signal::TERM);
        assert_eq!(next(&mut own).await, ServingStatus::NotServing);
        for stream in [own, other].iter_mut() {
            let end = stream.message().await.expect_err("it ends");
            let told = (end.code(), end.message());
            assert_eq!(told, (Code::Unavailable, "etcdserver: server stopped"));
        }
    });
    assert_eq!(member.ended_by(), Some(Signal::TERM.as_raw()));
}

#[test]
fn a_member_that_is_defragmented_says_so_if_it_is_asked_to() {
    let directory = directory();
    let gate = ["--feature-gates=StopGRPCServiceOnDefrag=true"];
    let (_member, address) = start(directory.path(), &gate);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let channel = connect(&address).await;
        let mut stream = watch(&channel, "").await;
        assert_eq!(next(&mut stream).await, ServingStatus::Serving);
        let mut maintenance = MaintenanceClient::new(channel);
        let began = Instant::now();
        // One may be over before anybody looks: it is told how things stand, not what has been.
        let defragment = async {
            while began.elapsed() < PATIENCE {
                maintenance.defragment(pb::DefragmentRequest {}).await.expect("it is done");
            }
        };
        tokio::select! {
            () = defragment => panic!("it was not told"),
            status = next(&mut stream) => assert_eq!(status, ServingStatus::NotServing),
        }
        assert_eq!(next(&mut stream).await, ServingStatus::Serving);
    });
}

/// Kinds of HTTP/2 frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("it is short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The next frame of a connection: its kind, its flags, what it holds. Nothing at its end.
fn read(connection: &mut impl Read) -> io::Result<Option<(u8, u8, Vec<u8>)>> {
    let mut head = [0; 9];
    match connection.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    connection.read_exact(&mut payload)?;
    Ok(Some((head[3], head[4], payload)))
}

/// A watch of this member's health, byte by byte: the headers are in HPACK, none of them indexed
/// but the method (POST) and the scheme (http).
fn request() -> Vec<u8> {
    let path = b"/grpc.health.v1.Health/Watch";
    let kind = b"application/grpc";
    let length = |text: &[u8]| u8::try_from(text.len()).expect("it is short");
    let headers = [
        &[0x83, 0x86, 0x04, length(path)],
        &path[..],
        &[0x01, 1, b'm', 0x0f, 0x10, length(kind)],
        &kind[..],
    ];
    let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat();
    // With the end of its headers, and with the end of what it has to say: an empty message.
    [begin, frame(HEADERS, 4, 1, &headers.concat()), frame(DATA, 1, 1, &[0; 5])].concat()
}

#[test]
fn not_serving_is_on_the_wire_before_the_goodbye() {
    const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
    const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];
    let directory = directory();
    let (member, address) = start(directory.path(), &["--worker-threads=2"]);
    let mut connection = TcpStream::connect(address).expect("the member listens");
    connection.set_read_timeout(Some(PATIENCE)).expect("a socket");
    connection.write_all(&request()).expect("the member listens");
    let mut seen = Vec::new();
    while let Some((kind, flags, payload)) = read(&mut connection).expect("frames come") {
        match (kind, &payload[..]) {
            (DATA, SERVING) => {
                seen.push("serving");
                member.signal(Signal::TERM);
            }
            (DATA, NOT_SERVING) => seen.push("not serving"),
            (GOAWAY, _) => seen.push("goodbye"),
            (PING, _) if flags == 0 => {
                connection.write_all(&frame(PING, 1, 0, &payload)).expect("it listens still");
            }
            _ => {}
        }
    }
    seen.dedup();
    assert_eq!(seen, ["serving", "not serving", "goodbye"]);
    assert_eq!(member.ended_by(), Some(Signal::TERM.as_raw()));
}
