//! Answers to other members.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::Host;
use super::codec::{check_addresses, decode_message};
use super::forward::Reply;
use super::headers::{Identity, Membership, Refusal, check_method, introduction};
use super::lane::Outgoing;
use super::recall;
use super::snapshot;
use super::state::{self, Given, State};
use super::transport::Peers;
use crate::limits;
use crate::tls;
use crate::version;

/// What an answer is made of: all of it, or a stream.
pub(super) type Answer = Response<Either<Full<Bytes>, Either<Outgoing, State>>>;

/// What answers need.
#[derive(Clone)]
pub(super) struct Desk {
    pub identity: Arc<Identity>,
    pub host: Arc<dyn Host>,
    pub peers: Arc<Peers>,
    /// What members with https URLs are shown when they are called.
    pub tls: Option<Arc<tls::Peers>>,
    /// How many more snapshots may be taken in.
    pub snapshots: Arc<Semaphore>,
    /// How many more bytes of posted messages may be read.
    pub posts: Arc<Semaphore>,
}

impl Desk {
    pub fn new(identity: Identity, host: Arc<dyn Host>, tls: Option<Arc<tls::Peers>>) -> Self {
        let snapshots = Arc::new(Semaphore::new(limits::PEER_SNAPSHOTS_MAX));
        let posts = Arc::new(Semaphore::new(limits::PEER_MESSAGE_BYTES_MAX));
        Self { identity: Arc::new(identity), host, peers: Arc::default(), tls, snapshots, posts }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, from: IpAddr) -> Answer {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        if let Some(rest) = path.strip_prefix("/raft/stream/") {
            return self.stream(&head.method, rest, &head.headers);
        }
        match path {
            "/raft" => self.message(&head.method, &head.headers, body).await,
            "/raft/snapshot" => self.snapshot(&head.method, &head.headers, body).await,
            "/raft/probing" => whole("text/plain; charset=utf-8", probe()),
            "/members" => self.members(&head.method),
            "/version" => self.version(&head.method),
            state::PATH => match self.state(&head.method, &head.headers).await {
                Given::State(state) => {
                    let mut answer = self.no_content();
                    *answer.status_mut() = StatusCode::OK;
                    answer.headers_mut().extend(state.headers());
                    answer.map(|_| Either::Right(Either::Right(state)))
                }
                Given::Refused(status, words) => {
                    let mut answer = whole("text/plain; charset=utf-8", words);
                    *answer.status_mut() = status;
                    answer.headers_mut().extend(self.identity.answer_headers());
                    answer
                }
            },
            recall::PROMISES => known(self.promises(&head.method)),
            recall::REPLACE => known(self.replacement(&head.method, body, from).await),
            path => match self.question(&head.method, path, &head.headers, body).await {
                Some(reply) => known(reply),
                None => refuse(Refusal::NoSuchPath, HeaderMap::new()),
            },
        }
    }

    fn stream(&self, method: &Method, rest: &str, headers: &HeaderMap) -> Answer {
        let membership = |id| self.host.membership(id);
        let (kind, from) = match self.identity.admit_stream(method, rest, headers, membership) {
            Ok(admitted) => admitted,
            Err(refusal @ Refusal::Method { .. }) => return refuse(refusal, HeaderMap::new()),
            Err(refusal) => {
                if refusal == Refusal::UnknownSender {
                    self.meet(headers);
                }
                return refuse(refusal, self.identity.stream_answer_headers());
            }
        };
        // A member that the node has not told us of yet will ask again.
        let Some(remote) = self.peers.get(from) else {
            return refuse(Refusal::UnknownSender, self.identity.stream_answer_headers());
        };
        let outgoing = Outgoing::open(kind, remote, self.host.clone());
        let body = Either::Right(Either::Left(outgoing));
        let mut answer = Response::new(body);
        *answer.headers_mut() = self.identity.stream_answer_headers();
        answer
    }

    async fn message(&self, method: &Method, headers: &HeaderMap, body: Incoming) -> Answer {
        if let Err(refusal) = self.identity.admit_message(method, headers) {
            return match refusal {
                Refusal::Method { .. } => refuse(refusal, HeaderMap::new()),
                refusal => refuse(refusal, self.identity.answer_headers()),
            };
        }
        self.meet(headers);
        match self.take(headers, body).await {
            Err(refusal) => refuse(refusal, self.identity.answer_headers()),
            Ok(()) => self.no_content(),
        }
    }

    fn no_content(&self) -> Answer {
        let mut answer = Response::new(Either::Left(Full::default()));
        *answer.status_mut() = StatusCode::NO_CONTENT;
        *answer.headers_mut() = self.identity.answer_headers();
        answer
    }

    async fn snapshot(&self, method: &Method, headers: &HeaderMap, body: Incoming) -> Answer {
        if let Err(refusal) = self.identity.admit_message(method, headers) {
            return match refusal {
                Refusal::Method { .. } => refuse(refusal, HeaderMap::new()),
                refusal => refuse(refusal, self.identity.answer_headers()),
            };
        }
        self.meet(headers);
        match snapshot::take_in(self.clone(), body).await {
            Ok(()) => self.no_content(),
            Err(refused) => {
                let mut answer = refuse_in_words(refused.status, &refused.text);
                answer.headers_mut().extend(self.identity.answer_headers());
                answer
            }
        }
    }

    /// Reads a posted message and hands it to the node.
    async fn take(&self, headers: &HeaderMap, body: Incoming) -> Result<(), Refusal> {
        let read = tokio::time::timeout(limits::PEER_POST_TIMEOUT, self.read(body)).await;
        let (bytes, _room) = read.ok().flatten().ok_or(Refusal::Unread)?;
        let size = bytes.len();
        let message = decode_message(bytes).map_err(|_| Refusal::NotAMessage)?;
        if self.host.membership(message.from) == Membership::Removed {
            return Err(Refusal::NotForUs);
        }
        let sender = introduction(headers).map_or(message.from, |(sender, _)| sender);
        check_addresses(&message, self.identity.member_id, sender)
            .map_err(|_| Refusal::NotForUs)?;
        let taken = self.host.receive(message);
        if let Some(remote) = self.peers.get(sender) {
            remote.note_posted(size, taken.is_ok());
        }
        taken.map_err(|_| Refusal::NotForUs)
    }

    /// Reads a posted message and what room it takes, if there is so much beside the others.
    async fn read(&self, mut body: Incoming) -> Option<(Bytes, Option<OwnedSemaphorePermit>)> {
        let (mut bytes, mut room) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.ok()?.into_data() else { continue };
            if bytes.len() + piece.len() > limits::PEER_POST_BYTES_FREE {
                let more = u32::try_from(piece.len()).ok()?;
                let more = self.posts.clone().try_acquire_many_owned(more).ok()?;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
            }
            bytes.extend_from_slice(&piece);
        }
        Some((bytes.freeze(), room))
    }

    /// Makes it possible to answer a member that the node has not heard of yet.
    fn meet(&self, headers: &HeaderMap) {
        if let Some((id, urls)) = introduction(headers)
            && self.host.membership(id) == Membership::Unknown
        {
            self.peers.welcome(self, id, urls);
        }
    }

    fn members(&self, method: &Method) -> Answer {
        if let Err(refusal) = check_method(method, &Method::GET) {
            return refuse(refusal, HeaderMap::new());
        }
        let members = self.host.members();
        let body = serde_json::to_string(&members).expect("members have strings and numbers only");
        let mut answer = whole("application/json", body + "\n");
        answer.headers_mut().extend(self.identity.answer_headers());
        answer
    }

    fn version(&self, method: &Method) -> Answer {
        if let Err(refusal) = check_method(method, &Method::GET) {
            return refuse(refusal, HeaderMap::new());
        }
        let (server, storage) = (version::SERVER, version::STORAGE);
        let cluster = self.host.cluster_version().unwrap_or_else(|| "not_decided".to_owned());
        let body = format!(
            r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}"}}"#
        );
        whole("application/json", body)
    }
}

/// What a probe is told: that somebody is here, and what its clock shows.
fn probe() -> String {
    let mut now = String::new();
    SystemTime.format_time(&mut Writer::new(&mut now)).expect("a string takes everything");
    format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n")
}

fn known(Reply { status, headers, body }: Reply) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    answer
}

fn whole(content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(body)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A refusal as Go writes it.
fn refuse(refusal: Refusal, headers: HeaderMap) -> Answer {
    let mut answer = refuse_in_words(refusal.status(), &refusal.to_string());
    answer.headers_mut().extend(headers);
    if let Refusal::Method { allowed } = refusal {
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    answer
}

fn refuse_in_words(status: StatusCode, words: &str) -> Answer {
    let mut answer = whole("text/plain; charset=utf-8", format!("{words}\n"));
    *answer.status_mut() = status;
    let nosniff = HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}
