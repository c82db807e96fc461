//! The end of a member as its clients see it: answers that are due are given, streams are told.

use std::error::Error as _;
use std::io;
use std::iter::successors;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::lease_client::LeaseClient;
use kvorum::pb::etcdserverpb::watch_client::WatchClient;
use kvorum::pb::health::{HealthCheckRequest, health_client::HealthClient};
use kvorum::pb::{self, watch_request::RequestUnion};
use prost::Message as _;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tower::service_fn;

use super::directory;
use super::member::Member;

/// For machines however slow; that nothing is cut is seen in the log.
const STOP_TIME_MAX: Duration = Duration::from_secs(120);
const WRITERS: usize = 8;

/// Streams that nothing but their client or the server ends. The senders keep the client's half
/// open.
struct Open {
    watch: Streaming<pb::WatchResponse>,
    idle: Streaming<pb::WatchResponse>,
    kept: Streaming<pb::LeaseKeepAliveResponse>,
    health: Streaming<kvorum::pb::health::HealthCheckResponse>,
    _watching: [mpsc::UnboundedSender<pb::WatchRequest>; 2],
    _keeping: mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>,
}

impl Open {
    async fn on(channel: &Channel) -> Result<Self, Box<dyn std::error::Error>> {
        let (watching, requests) = mpsc::unbounded_channel();
        let mut client = WatchClient::new(channel.clone());
        let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
        let request_union = Some(RequestUnion::CreateRequest(create));
        watching.send(pb::WatchRequest { request_union })?;
        let requests = UnboundedReceiverStream::new(requests);
        let mut watch = client.watch(requests).await?.into_inner();
        watch.message().await?;
        let (idling, requests) = mpsc::unbounded_channel();
        let idle = client.watch(UnboundedReceiverStream::new(requests)).await?.into_inner();
        let (keeping, requests) = mpsc::unbounded_channel();
        let mut leases = LeaseClient::new(channel.clone());
        keeping.send(pb::LeaseKeepAliveRequest { id: 1 })?;
        let requests = UnboundedReceiverStream::new(requests);
        let mut kept = leases.lease_keep_alive(requests).await?.into_inner();
        kept.message().await?;
        let mut client = HealthClient::new(channel.clone());
        let mut health = client.watch(HealthCheckRequest::default()).await?.into_inner();
        health.message().await?;
        Ok(Self { watch, idle, kept, health, _watching: [watching, idling], _keeping: keeping })
    }

    /// How the streams end, whatever they still say before that.
    async fn ends(&mut self) -> [Status; 4] {
        [
            end(&mut self.watch).await,
            end(&mut self.idle).await,
            end(&mut self.kept).await,
            end(&mut self.health).await,
        ]
    }
}

async fn end<T>(stream: &mut Streaming<T>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok("the end"),
            Err(status) => return status,
        }
    }
}

fn put() -> pb::PutRequest {
    pb::PutRequest { key: "b".into(), ..Default::default() }
}

/// Puts until it is refused; how often that went well, and the refusal.
async fn write(channel: Channel) -> (i64, Status) {
    let mut kv = KvClient::new(channel);
    for done in 0.. {
        if let Err(status) = kv.put(put()).await {
            return (done, status);
        }
    }
    unreachable!("the numbers do not end")
}

/// Whether the client says that the request was not taken: it had no connection any more, or the
/// server had said goodbye (GOAWAY with no error) before this request.
fn was_not_taken(refusal: &Status) -> bool {
    let goodbye = |cause: &dyn std::error::Error| {
        cause.to_string() == "connection error received: not a result of an error"
    };
    matches!(refusal.code(), Code::Unavailable | Code::Cancelled)
        || successors(refusal.source(), |cause| (*cause).source()).any(goodbye)
}

/// A member that is ready, and where it is.
fn start(directory: &Path) -> (Member, String) {
    let mut member = Member::spawn(directory, &[], &[]);
    let ready = member.wait_for("ready to serve client requests");
    let address = ready["address"].as_str().expect("an address").to_owned();
    (member, address)
}

/// A channel of one connection. Left alone, it would connect anew after the goodbye, and what
/// becomes of a connection that nobody accepts any more is the kernel's: often a reset, which is
/// not to be mixed up with one of the connection that was served.
async fn connect(address: &str) -> Channel {
    let mut stream = Some(TcpStream::connect(address).await.expect("the member listens"));
    let once = service_fn(move |_| {
        let stream = stream.take().map(TokioIo::new);
        std::future::ready(stream.ok_or(io::Error::from(io::ErrorKind::ConnectionRefused)))
    });
    let endpoint = Endpoint::from_static("http://member");
    endpoint.connect_with_connector(once).await.expect("a fresh stream")
}

#[test]
fn streams_are_told_of_the_stop_and_answers_are_given() {
    let directory = directory();
    let (mut member, address) = start(directory.path());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (ends, writers) = runtime.block_on(async {
        let channel = connect(&address).await;
        let mut open = Open::on(&channel).await.expect("streams are opened");
        let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write(channel.clone()))).collect();
        // Some of their answers come before the signal, some are due when it comes.
        KvClient::new(channel.clone()).put(put()).await.expect("the member writes");
        member.signal(Signal::TERM);
        let ends = tokio::time::timeout(STOP_TIME_MAX, open.ends()).await.expect("streams end");
        let mut refusals = Vec::new();
        for writer in writers {
            refusals.push(writer.await.expect("a writer does not panic"));
        }
        (ends, refusals)
    });
    for end in ends {
        assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: server stopped"));
    }
    for (_, refusal) in &writers {
        assert!(was_not_taken(refusal), "{refusal:?}");
    }
    let log = member.read_to("the member has stopped");
    assert!(!log.contains("did not drain in time"), "{log}");
    assert_eq!(member.ended_by(), Some(Signal::TERM.as_raw()));

    // Nothing that was taken is left without an answer: what was done is what was answered.
    let (_member, address) = start(directory.path());
    let done = runtime.block_on(async {
        let mut kv = KvClient::new(connect(&address).await);
        let range = pb::RangeRequest { key: "b".into(), ..Default::default() };
        let found = kv.range(range).await.expect("the member reads").into_inner();
        pb::KeyValue::decode(found.kvs[0].clone()).expect("a pair").version
    });
    assert_eq!(done, 1 + writers.iter().map(|(answered, _)| answered).sum::<i64>());
}

#[test]
fn signals_that_come_together_are_one() {
    let directory = directory();
    let mut member = Member::spawn(directory.path(), &[], &[]);
    member.wait_for("ready to serve client requests");
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        member.signal(signal);
    }
    member.wait_for("the member has stopped");
}
