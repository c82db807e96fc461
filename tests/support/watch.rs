//! Watch streams: requests go in as scripted, answers come out one by one.
//!
//! A stream is opened by the first request sent on it, since etcd answers nothing, not even
//! headers, before it has something to say. A task reads the answers so that the server is never
//! kept waiting by a script that looks elsewhere.

use std::time::Duration;

use kvorum::pb::etcdserverpb::watch_client::WatchClient;
use kvorum::pb::{self, watch_request::RequestUnion};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::line::{Line, Outcome};
use super::print::{self, Printer};

/// How long an answer may take: the longest anything here waits for is an expiring lease.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// One open stream.
pub struct Stream {
    /// Absent once the client's side is closed.
    requests: Option<mpsc::UnboundedSender<pb::WatchRequest>>,
    answers: mpsc::UnboundedReceiver<Result<pb::WatchResponse, Status>>,
}

impl Stream {
    /// Opens a stream; must be called within the runtime.
    pub fn open(channel: Channel) -> Self {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let (incoming, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
            let stream = client.watch(UnboundedReceiverStream::new(outgoing)).await;
            let mut stream = match stream {
                Ok(stream) => stream.into_inner(),
                Err(status) => return drop(incoming.send(Err(status))),
            };
            // The script may be over before the stream is; then nobody listens and that is fine.
            loop {
                match stream.message().await {
                    Ok(Some(answer)) => drop(incoming.send(Ok(answer))),
                    Ok(None) => return,
                    Err(status) => return drop(incoming.send(Err(status))),
                }
            }
        });
        Self { requests: Some(requests), answers }
    }

    /// Sends one request, be it one that says nothing.
    pub fn send(&mut self, request_union: Option<RequestUnion>) -> Outcome<()> {
        let requests = self.requests.as_ref().ok_or("the stream is closed")?;
        requests.send(pb::WatchRequest { request_union })?;
        Ok(())
    }

    /// Says that no more requests will come.
    pub fn close(&mut self) {
        self.requests = None;
    }

    /// The next answer, `end`, or an error; a server that says nothing fails the script.
    pub async fn receive(&mut self, printer: &mut Printer) -> Outcome {
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, self.answers.recv()).await;
        Ok(match answer.map_err(|_| "nothing was received in time")? {
            Some(Ok(answer)) => printer.watch(&answer),
            Some(Err(status)) => print::status(&status),
            None => "end".to_owned(),
        })
    }
}

/// Reads `watch KEY [end=] [start=] [id=] [filters=noput/nodelete] [prev_kv] [progress]
/// [fragment]`.
pub fn create_request(mut line: Line) -> Outcome<RequestUnion> {
    let key = line.word("key")?.into();
    let filters = line.named_text("filters")?.unwrap_or_default();
    let filters = filters.split('/').filter(|name| !name.is_empty()).map(|name| {
        let known = pb::watch_create_request::FilterType::from_str_name(&name.to_uppercase());
        known.map_or_else(|| name.parse(), |filter| Ok(filter as i32))
    });
    let request = pb::WatchCreateRequest {
        key,
        range_end: line.named("end").unwrap_or_default().into(),
        start_revision: line.named_number("start")?,
        progress_notify: line.flag("progress"),
        filters: filters.collect::<Result<_, _>>()?,
        prev_kv: line.flag("prev_kv"),
        watch_id: line.named_number("id")?,
        fragment: line.flag("fragment"),
    };
    line.finish()?;
    Ok(RequestUnion::CreateRequest(request))
}

/// Reads `cancel ID`.
pub fn cancel_request(mut line: Line) -> Outcome<RequestUnion> {
    let watch_id = line.number("watch id")?;
    line.finish()?;
    Ok(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }))
}

impl Printer {
    pub fn watch(&mut self, response: &pb::WatchResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        out.push_str(&format!(" id={}", response.watch_id));
        print::flag(&mut out, "created", response.created);
        print::flag(&mut out, "canceled", response.canceled);
        print::number(&mut out, "compacted", response.compact_revision);
        if !response.cancel_reason.is_empty() {
            out.push_str(&format!(" reason={:?}", response.cancel_reason));
        }
        print::flag(&mut out, "fragment", response.fragment);
        print::list(&mut out, &response.events, print::event);
        out
    }
}
