//! The end of a member as its clients see it: answers that are due are given, streams are told.

use std::time::{Duration, Instant};

use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::lease_client::LeaseClient;
use kvorum::pb::etcdserverpb::watch_client::WatchClient;
use kvorum::pb::health::{HealthCheckRequest, health_client::HealthClient};
use kvorum::pb::{self, watch_request::RequestUnion};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::directory;
use super::member::Member;

/// Far less than what a connection that does not end is waited for.
const STOP_TIME_MAX: Duration = Duration::from_secs(4);
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

/// Puts until it is refused; how often that went well, and the refusal.
async fn write(channel: Channel) -> (usize, Status) {
    let mut kv = KvClient::new(channel);
    let put = pb::PutRequest { key: "b".into(), ..Default::default() };
    for done in 0.. {
        if let Err(status) = kv.put(put.clone()).await {
            return (done, status);
        }
    }
    unreachable!("the numbers do not end")
}

#[test]
fn streams_are_told_of_the_stop_and_answers_are_given() {
    let directory = directory();
    let mut member = Member::spawn(directory.path(), &[], &[]);
    let ready = member.wait_for("ready to serve client requests");
    let address = ready["address"].as_str().expect("an address").to_owned();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (ends, writers) = runtime.block_on(async {
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("the member listens");
        let mut open = Open::on(&channel).await.expect("streams are opened");
        let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write(channel.clone()))).collect();
        // Some of their answers come before the signal, some are due when it comes.
        let put = pb::PutRequest { key: "b".into(), ..Default::default() };
        KvClient::new(channel.clone()).put(put).await.expect("the member writes");
        let since = Instant::now();
        member.signal(Signal::TERM);
        let ends = tokio::time::timeout(STOP_TIME_MAX, open.ends()).await.expect("streams end");
        let mut refusals = Vec::new();
        for writer in writers {
            refusals.push(writer.await.expect("a writer does not panic"));
        }
        assert!(since.elapsed() < STOP_TIME_MAX, "the stop took {:?}", since.elapsed());
        (ends, refusals)
    });
    for end in ends {
        assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: server stopped"));
    }
    for (_, refusal) in &writers {
        // The connection said goodbye; nothing that was taken is left without an answer.
        assert!(matches!(refusal.code(), Code::Unavailable | Code::Cancelled), "{refusal:?}");
    }
    member.wait_for("the member has stopped");
    assert_eq!(member.ended_by(), Some(Signal::TERM.as_raw()));
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
