//! What clients of a cluster do, and how long tests wait for it.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::watch_client::WatchClient;
use kvorum::pb::{
    Event, KeyValue, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long anything that must come is waited for, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Waits until there is something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it did not come: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for what must come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let came = tokio::time::timeout(PATIENCE, future).await;
    came.unwrap_or_else(|_| panic!("it did not come: {what}"))
}

pub async fn put(mut kv: KvClient<Channel>, key: &str, value: &str) -> Result<i64, Status> {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let request = PutRequest { key, value, ..PutRequest::default() };
    let answer = kv.put(request).await?.into_inner();
    Ok(answer.header.expect("an answer has a header").revision)
}

pub async fn get(
    mut kv: KvClient<Channel>,
    key: &str,
    serializable: bool,
) -> Result<Option<String>, Status> {
    let key = key.to_owned().into();
    let request = RangeRequest { key, serializable, ..RangeRequest::default() };
    let rows = kv.range(request).await?.into_inner().kvs;
    Ok(rows.first().map(|row| {
        let row = KeyValue::decode(&row[..]).expect("a row is a message");
        String::from_utf8(row.value.to_vec()).expect("values are text")
    }))
}

/// One watch stream with one watcher.
pub struct Watch {
    _requests: mpsc::UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watch {
    pub async fn open(channel: Channel, prefix: &str, start_revision: i64) -> Self {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let key = prefix.to_owned();
        let mut range_end = key.clone().into_bytes();
        *range_end.last_mut().expect("a prefix") += 1;
        let create = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision,
            ..WatchCreateRequest::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        requests.send(WatchRequest { request_union }).expect("the stream is there");
        let outgoing = UnboundedReceiverStream::new(outgoing);
        let mut client = WatchClient::new(channel);
        let answers = within("a watch", client.watch(outgoing)).await.expect("a watch");
        let mut watch = Self { _requests: requests, answers: answers.into_inner() };
        assert!(watch.next().await.expect("an answer").created);
        watch
    }

    /// The next answer.
    pub async fn next(&mut self) -> Result<WatchResponse, Status> {
        let answer = within("an answer of a watch", self.answers.message()).await?;
        Ok(answer.expect("the stream goes on"))
    }

    /// Keys with the revisions they changed at, up to a revision.
    pub async fn up_to(&mut self, revision: i64) -> Vec<(i64, String)> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|(last, _)| *last < revision) {
            let answer = self.next().await.expect("the stream goes on");
            assert!(!answer.canceled, "the watch was canceled: {answer:?}");
            seen.extend(answer.events.iter().map(|event| {
                let event = Event::decode(&event[..]).expect("an event is a message");
                let row = event.kv.expect("an event has a row");
                let row = KeyValue::decode(&row[..]).expect("a row is a message");
                (row.mod_revision, String::from_utf8_lossy(&row.key).into_owned())
            }));
        }
        seen
    }
}

/// An error, or what should have been one.
pub fn refused<T: Debug>(answer: Result<T, Status>) -> Status {
    answer.expect_err("it is refused")
}
