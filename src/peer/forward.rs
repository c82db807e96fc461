//! What members ask each other beside raft: leases, promotions, hashes. Both sides of it.
//!
//! Requests are etcd's, and so are the answers, recorded from etcd 3.7.3; statuses and texts are
//! all that tells one refusal from another. Connections are kept for the next request: clients keep
//! many leases alive through members that do not lead.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::dial::{Trouble, whole};
use super::headers::CLUSTER_ID;
use super::outward::Line;
use super::server::Desk;
use crate::error::Error;
use crate::limits;
use crate::members::Member;
use crate::mvcc::HashKv;
use crate::pb::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use crate::pb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

const LEASE_GONE: &str = "lease not found";
const NOT_FOUND: &str = "membership: ID not found";
const NOT_LEARNER: &str = "membership: can only promote a learner member";
const COMPACTED: &str = "mvcc: required revision has been compacted";
const FUTURE: &str = "mvcc: required revision is a future revision";

/// The longest request that is read, as in etcd.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The longest answer that is read: a lease's keys may be many.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The body of a question for a hash.
#[derive(Serialize, Deserialize)]
struct HashRequest {
    #[serde(default)]
    revision: i64,
}

/// The body of its answer.
#[derive(Serialize, Deserialize)]
struct HashAnswer {
    header: HashHeader,
    #[serde(default)]
    hash: u32,
    #[serde(default)]
    compact_revision: i64,
    #[serde(default)]
    hash_revision: i64,
}

#[derive(Serialize, Deserialize)]
struct HashHeader {
    #[serde(default)]
    revision: i64,
}

/// A refusal of another member.
pub(super) struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

impl Line {
    /// Renews a lease at this member, which should lead.
    pub async fn renew(self, id: i64) -> Result<i64, Error> {
        let request = LeaseKeepAliveRequest { id }.encode_to_vec();
        let answer = self.question(Method::POST, "/leases", request).await;
        let answer = answer?.map_err(|refused| lease_error(&refused))?;
        read_renewal(answer)
    }

    /// What this member, which should lead, knows of a lease.
    pub async fn time_to_live(self, id: i64, keys: bool) -> Result<LeaseTimeToLiveResponse, Error> {
        let lease_time_to_live_request = Some(LeaseTimeToLiveRequest { id, keys });
        let request = LeaseInternalRequest { lease_time_to_live_request }.encode_to_vec();
        let answer = self.question(Method::POST, "/leases/internal", request).await?;
        let answer = match answer.map_err(|refused| lease_error(&refused)) {
            Err(Error::LeaseNotFound) => {
                return Ok(LeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() });
            }
            answer => answer?,
        };
        read_lifetime(answer)
    }

    /// Has this member, which should lead, promote a learner.
    pub async fn promote(self, id: u64) -> Result<Vec<Member>, Error> {
        let path = format!("/members/promote/{id}");
        let answer = self.question(Method::POST, &path, Vec::new()).await?;
        let answer = answer.map_err(|refused| match refused.status {
            StatusCode::NOT_FOUND => Error::MemberNotFound,
            StatusCode::PRECONDITION_FAILED if refused.says(NOT_LEARNER) => Error::MemberNotLearner,
            StatusCode::PRECONDITION_FAILED => Error::LearnerNotReady,
            StatusCode::REQUEST_TIMEOUT => Error::Timeout,
            _ if refused.says(&Error::Unhealthy.to_string()) => Error::Unhealthy,
            _ if refused.says(&Error::MemberNotEnoughStarted.to_string()) => {
                Error::MemberNotEnoughStarted
            }
            _ => Error::NoLeader,
        })?;
        read_members(&answer)
    }

    /// This member's hash of the rows as of a revision.
    pub async fn hash_kv(self, revision: i64) -> Result<HashKv, Error> {
        let request = serde_json::to_vec(&HashRequest { revision }).expect("numbers are JSON");
        let answer = self.question(Method::GET, "/members/hashkv", request).await?;
        let answer = answer.map_err(|refused| match refused.status {
            _ if refused.says(COMPACTED) => Error::Compacted,
            _ if refused.says(FUTURE) => Error::FutureRev,
            StatusCode::PRECONDITION_FAILED => Error::ClusterIDMismatch,
            _ => Error::Unhealthy,
        })?;
        read_hash(&answer)
    }

    /// Asks, and reads the whole answer; no leader, if none comes.
    async fn question(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Result<Bytes, Refused>, Error> {
        let turn = self.remote.turn();
        match self.try_question(turn, method, path, body.into()).await {
            Ok(answer) => Ok(answer),
            Err(trouble) => {
                let peer_id = format!("{:x}", self.remote.id);
                tracing::debug!(peer_id, path, %trouble, "no answer");
                self.remote.pass(turn);
                Err(Error::NoLeader)
            }
        }
    }

    async fn try_question(
        &self,
        turn: u64,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Result<Bytes, Refused>, Trouble> {
        let kept = self.remote.take_connection();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect(turn, limits::PEER_IO_TIMEOUT).await?,
        };
        let asked =
            connection.ask_patiently(method, path, self.identity.headers(None), whole(body));
        let asked = async { read(asked.await?).await };
        let answer = super::dial::in_time(limits::PEER_QUESTION_TIMEOUT, asked).await?;
        self.remote.keep_connection(connection);
        Ok(answer)
    }
}

pub(super) async fn read(answer: Response<Incoming>) -> Result<Result<Bytes, Refused>, Trouble> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|_| Trouble::End)?.to_bytes();
    Ok(match status {
        StatusCode::OK => Ok(body),
        status => Err(Refused { status, text: String::from_utf8_lossy(&body).into_owned() }),
    })
}

pub(super) fn read_renewal(answer: Bytes) -> Result<i64, Error> {
    let answer = LeaseKeepAliveResponse::decode(answer).map_err(|_| Error::NoLeader)?;
    Ok(answer.ttl)
}

pub(super) fn read_lifetime(answer: Bytes) -> Result<LeaseTimeToLiveResponse, Error> {
    let answer = LeaseInternalResponse::decode(answer).ok();
    answer.and_then(|answer| answer.lease_time_to_live_response).ok_or(Error::NoLeader)
}

pub(super) fn read_members(answer: &[u8]) -> Result<Vec<Member>, Error> {
    serde_json::from_slice(answer).map_err(|_| Error::NoLeader)
}

pub(super) fn read_hash(answer: &[u8]) -> Result<HashKv, Error> {
    let answer: HashAnswer = serde_json::from_slice(answer).map_err(|_| Error::Unhealthy)?;
    let HashAnswer { header, hash, compact_revision, hash_revision } = answer;
    Ok(HashKv { hash, compact_revision, hash_revision, revision: header.revision })
}

fn lease_error(refused: &Refused) -> Error {
    match refused.status {
        StatusCode::NOT_FOUND => Error::LeaseNotFound,
        StatusCode::REQUEST_TIMEOUT => Error::Timeout,
        _ => Error::NoLeader,
    }
}

/// An answer of known bytes: its status, type and body.
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn of(kind: &'static str, body: Vec<u8>) -> Self {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
        Self { status: StatusCode::OK, headers, body: body.into() }
    }

    /// A refusal as Go writes it.
    pub fn refusal(status: StatusCode, text: &str) -> Self {
        let mut reply = Self::of("text/plain; charset=utf-8", format!("{text}\n").into_bytes());
        let nosniff = HeaderValue::from_static("nosniff");
        reply.headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        reply.status = status;
        reply
    }

    pub fn method(allowed: Option<&'static str>) -> Self {
        let mut reply = Self::refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        if let Some(allowed) = allowed {
            reply.headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        reply
    }
}

impl Desk {
    /// The answer to a question that is not raft's, if `path` is one.
    pub(super) async fn question(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Option<Reply> {
        Some(match path {
            "/leases" | "/leases/internal" if method != Method::POST => Reply::method(None),
            "/leases" => self.renewal(body).await,
            "/leases/internal" => self.lifetime(body).await,
            "/members/hashkv" => self.hash(method, headers, body).await,
            "/downgrade/enabled" if method != Method::GET => Reply::method(Some("GET")),
            "/downgrade/enabled" => self.signed(Reply::of("text/plain", b"false".to_vec())),
            path => match path.strip_prefix("/members/promote/") {
                Some(_) if method != Method::POST => Reply::method(Some("POST")),
                Some(id) => self.promotion(id).await,
                None => return None,
            },
        })
    }

    pub(super) fn signed(&self, mut reply: Reply) -> Reply {
        reply.headers.extend(self.identity.answer_headers());
        reply
    }

    async fn renewal(&self, body: Incoming) -> Reply {
        let request = match read_request(body).await {
            Ok(request) => LeaseKeepAliveRequest::decode(request),
            Err(refusal) => return refusal,
        };
        let Ok(LeaseKeepAliveRequest { id }) = request else { return unreadable() };
        match self.host.renew(id).await {
            Ok(ttl) => {
                let answer = LeaseKeepAliveResponse { header: None, id, ttl };
                Reply::of("application/protobuf", answer.encode_to_vec())
            }
            Err(error) => lease_refusal(&error),
        }
    }

    async fn lifetime(&self, body: Incoming) -> Reply {
        let request = match read_request(body).await {
            Ok(request) => LeaseInternalRequest::decode(request),
            Err(refusal) => return refusal,
        };
        let request = request.ok().and_then(|request| request.lease_time_to_live_request);
        let Some(LeaseTimeToLiveRequest { id, keys }) = request else { return unreadable() };
        match self.host.time_to_live(id, keys).await {
            Ok(answer) if answer.ttl < 0 => Reply::refusal(StatusCode::NOT_FOUND, LEASE_GONE),
            Ok(answer) => {
                let header = Some(answer.header.unwrap_or_default());
                let lease_time_to_live_response =
                    Some(LeaseTimeToLiveResponse { header, ..answer });
                let answer = LeaseInternalResponse { lease_time_to_live_response };
                Reply::of("application/protobuf", answer.encode_to_vec())
            }
            Err(error) => lease_refusal(&error),
        }
    }

    async fn promotion(&self, id: &str) -> Reply {
        let Ok(id) = id.parse() else {
            let text = format!("member {id} not found in cluster");
            return self.signed(Reply::refusal(StatusCode::NOT_FOUND, &text));
        };
        self.signed(match self.host.promote(id).await {
            Ok(members) => {
                let body = serde_json::to_vec(&members).expect("members are strings and numbers");
                Reply::of("application/json", [body, b"\n".to_vec()].concat())
            }
            Err(Error::MemberNotFound) => Reply::refusal(StatusCode::NOT_FOUND, NOT_FOUND),
            Err(Error::MemberNotLearner) => {
                Reply::refusal(StatusCode::PRECONDITION_FAILED, NOT_LEARNER)
            }
            Err(error @ Error::LearnerNotReady) => {
                Reply::refusal(StatusCode::PRECONDITION_FAILED, &error.to_string())
            }
            Err(error @ Error::Timeout) => {
                Reply::refusal(StatusCode::REQUEST_TIMEOUT, &error.to_string())
            }
            Err(error) => Reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        })
    }

    async fn hash(&self, method: &Method, headers: &HeaderMap, body: Incoming) -> Reply {
        if method != Method::GET {
            return Reply::method(Some("GET"));
        }
        let ours = format!("{:x}", self.identity.cluster_id);
        let theirs = headers.get(CLUSTER_ID);
        if theirs.is_some_and(|theirs| theirs.as_bytes() != ours.as_bytes()) {
            return Reply::refusal(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
        }
        let request = match read_request(body).await {
            Ok(request) => serde_json::from_slice(&request),
            Err(refusal) => return refusal,
        };
        let Ok(HashRequest { revision }) = request else { return unreadable() };
        match self.host.hash_kv(revision).await {
            Ok(HashKv { hash, compact_revision, hash_revision, revision }) => {
                let header = HashHeader { revision };
                let answer = HashAnswer { header, hash, compact_revision, hash_revision };
                let body = serde_json::to_vec(&answer).expect("numbers are JSON");
                self.signed(Reply::of("application/json", [body, b"\n".to_vec()].concat()))
            }
            Err(Error::Compacted) => Reply::refusal(StatusCode::BAD_REQUEST, COMPACTED),
            Err(Error::FutureRev) => Reply::refusal(StatusCode::BAD_REQUEST, FUTURE),
            Err(error) => Reply::refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
}

pub(super) async fn read_request(body: Incoming) -> Result<Bytes, Reply> {
    match Limited::new(body, REQUEST_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Err(Reply::refusal(status, "http: request body too large"))
        }
        Err(_) => Err(Reply::refusal(StatusCode::BAD_REQUEST, "error reading body")),
    }
}

pub(super) fn unreadable() -> Reply {
    Reply::refusal(StatusCode::BAD_REQUEST, "error unmarshalling request")
}

fn lease_refusal(error: &Error) -> Reply {
    match error {
        Error::LeaseNotFound => Reply::refusal(StatusCode::NOT_FOUND, LEASE_GONE),
        Error::Timeout => Reply::refusal(
            StatusCode::REQUEST_TIMEOUT,
            "waiting for node to catch up its applied index has timed out",
        ),
        error => Reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
