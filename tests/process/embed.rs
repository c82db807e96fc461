//! A member within this process: what a program that embeds one relies on.

use kvorum::config::{Config, Url};
use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::watch_client::WatchClient;
use kvorum::pb::{self, watch_request::RequestUnion};
use kvorum::{Running, Server};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::directory;

async fn start(data_dir: std::path::PathBuf, listen: Url) -> Running {
    let config = Config {
        data_dir,
        listen_client_urls: vec![listen],
        worker_threads: 1,
        listen_peer_urls: vec![Url::http("127.0.0.1:0")],
        ..Config::default()
    };
    Server::start(config).await.expect("the member starts")
}

async fn put(channel: Channel, key: &'static str) -> i64 {
    let request = pb::PutRequest { key: key.into(), ..Default::default() };
    let answer = KvClient::new(channel).put(request).await.expect("the member writes");
    answer.into_inner().header.expect("an answer has a header").revision
}

#[test]
fn a_client_within_the_process_is_one_like_any_other() {
    let directory = directory();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let running = start(directory.path().join("data"), Url::http("127.0.0.1:0")).await;
        let inside = running.client();
        assert_eq!(put(inside.clone(), "a").await, 2);
        let outside = format!("http://{}", running.client_addresses()[0]);
        let outside = Channel::from_shared(outside).expect("an address").connect().await;
        assert_eq!(put(outside.expect("the member listens"), "a").await, 3);
        assert_eq!(put(inside, "a").await, 4);
        // Every call of it connects anew, and all end in the same member.
        assert_eq!(put(running.client(), "a").await, 5);
        running.shutdown().await;
    });
}

#[test]
fn a_member_without_a_port_is_reached_from_within() {
    let directory = directory();
    let socket = directory.path().join("socket");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let url = Url::parse(&format!("unix://{}", socket.display())).expect("a URL");
        let running = start(directory.path().join("data"), url).await;
        assert!(running.client_addresses().is_empty());
        assert_eq!(put(running.client(), "a").await, 2);
        running.shutdown().await;
    });
}

#[test]
fn the_stop_ends_streams_within_the_process_and_what_was_written_stays() {
    let directory = directory();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let data = directory.path().join("data");
        let running = start(data.clone(), Url::http("127.0.0.1:0")).await;
        let channel = running.client();
        let (requests, outgoing) = mpsc::unbounded_channel();
        let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
        let request_union = Some(RequestUnion::CreateRequest(create));
        requests.send(pb::WatchRequest { request_union }).expect("the stream takes requests");
        let outgoing = UnboundedReceiverStream::new(outgoing);
        let watch = WatchClient::new(channel.clone()).watch(outgoing).await;
        let mut watch = watch.expect("a stream").into_inner();
        watch.message().await.expect("the watch is created");
        assert_eq!(put(channel.clone(), "a").await, 2);
        watch.message().await.expect("the event comes");
        running.shutdown().await;
        let end = watch.message().await.expect_err("the stream is over");
        assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: server stopped"));
        let late = KvClient::new(channel).put(pb::PutRequest::default()).await;
        assert!(late.is_err(), "nobody is there any more");

        let running = start(data, Url::http("127.0.0.1:0")).await;
        assert_eq!(put(running.client(), "a").await, 3);
        running.shutdown().await;
    });
}
