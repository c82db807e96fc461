//! What members say of themselves with every request, and why they are refused.
//!
//! - A request names its sender, its version, the oldest cluster version it can live in, the
//!   cluster it belongs to, its own peer URLs, and on a stream whom it means to reach.
//! - Who is of another cluster, or of an incompatible version, gets nowhere: 412. Who was removed
//!   learns so: 410, whereupon an etcd member stops itself. Who is not known *yet* is told 404 and
//!   tries again.
//! - Texts and statuses are etcd's, in etcd's order of checks, because members of etcd act on them.
//!   They were recorded (`tests/fixtures/peer/refusals.jsonl`).
//!
//! What differs from etcd: a version that is none is refused as incompatible, where etcd panics and
//! closes the connection.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::codec::Kind;
use crate::version;

mod fuzz;

#[cfg(test)]
mod tests;

pub use fuzz::fuzz_hello;

const SERVER_FROM: &str = "x-server-from";
const SERVER_VERSION: &str = "x-server-version";
const MIN_CLUSTER_VERSION: &str = "x-min-cluster-version";
/// The cluster that a request or an answer comes from.
pub const CLUSTER_ID: &str = "x-etcd-cluster-id";
const RAFT_TO: &str = "x-raft-to";
const PEER_URLS: &str = "x-peerurls";

/// The oldest cluster that members of this version can be part of, as etcd 3.7 says.
const MIN_CLUSTER: &str = "3.0.0";
/// What a request without a version comes from.
const BEFORE_VERSIONS: &str = "2.0.0";

/// Who this member is to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub member_id: u64,
    pub cluster_id: u64,
    /// Where others reach it.
    pub peer_urls: Vec<String>,
}

/// What the cluster says of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    Member,
    /// It was a member and never will be again.
    Removed,
    Unknown,
}

/// Why a request is refused; the text is its answer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("404 page not found")]
    NoSuchPath,
    #[error("Method Not Allowed")]
    Method { allowed: &'static str },
    #[error("incompatible version")]
    Version,
    #[error("cluster ID mismatch")]
    Cluster,
    #[error("to field mismatch")]
    Addressee,
    #[error("invalid path")]
    NoSuchStream,
    #[error("invalid from")]
    BadSender,
    #[error("removed member")]
    Removed,
    #[error("error sender not found")]
    UnknownSender,
    #[error("error reading raft message")]
    Unread,
    #[error("error unmarshalling raft message")]
    NotAMessage,
    #[error("error processing raft message")]
    NotForUs,
}

impl Refusal {
    /// The status that goes with the text.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::NoSuchPath
            | Refusal::NoSuchStream
            | Refusal::BadSender
            | Refusal::UnknownSender => StatusCode::NOT_FOUND,
            Refusal::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Version | Refusal::Cluster | Refusal::Addressee => {
                StatusCode::PRECONDITION_FAILED
            }
            Refusal::Removed => StatusCode::GONE,
            Refusal::Unread | Refusal::NotAMessage => StatusCode::BAD_REQUEST,
            Refusal::NotForUs => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why another member does not want what we ask, as far as we can act on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// This member must stop.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// It has not heard of us yet.
    #[error("the peer does not know this member")]
    Unknown,
    #[error("incompatible version")]
    Version,
    #[error("cluster ID mismatch")]
    Cluster,
    #[error("unexpected answer {status}: {text}")]
    Unexpected { status: u16, text: String },
}

impl Identity {
    /// The headers of a request; `to` is who is asked for a stream.
    pub fn headers(&self, to: Option<u64>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_FROM, id_value(self.member_id));
        headers.insert(SERVER_VERSION, HeaderValue::from_static(version::SERVER));
        headers.insert(MIN_CLUSTER_VERSION, HeaderValue::from_static(MIN_CLUSTER));
        headers.insert(CLUSTER_ID, id_value(self.cluster_id));
        if let Some(to) = to {
            headers.insert(RAFT_TO, id_value(to));
        }
        // URLs come from the configuration, which has none that cannot be written.
        if let Ok(urls) = HeaderValue::from_str(&self.peer_urls.join(",")) {
            headers.insert(PEER_URLS, urls);
        }
        headers
    }

    /// The headers of every answer to a request for a stream.
    pub fn stream_answer_headers(&self) -> HeaderMap {
        let mut headers = self.answer_headers();
        headers.insert(SERVER_VERSION, HeaderValue::from_static(version::SERVER));
        headers
    }

    /// The headers of every answer to a message.
    pub fn answer_headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(
            header::HeaderName::from_static(CLUSTER_ID),
            id_value(self.cluster_id),
        )])
    }

    /// Whether a request comes from a member of this cluster that we can talk to.
    pub fn check_compatible(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if !is_compatible(headers) {
            return Err(Refusal::Version);
        }
        match text(headers, CLUSTER_ID) == Some(&format!("{:x}", self.cluster_id)) {
            true => Ok(()),
            false => Err(Refusal::Cluster),
        }
    }

    /// Which stream a request asks for, and whose. `rest` is its path after `/raft/stream/`.
    pub fn admit_stream(
        &self,
        method: &Method,
        rest: &str,
        headers: &HeaderMap,
        membership: impl FnOnce(u64) -> Membership,
    ) -> Result<(Kind, u64), Refusal> {
        check_method(method, &Method::GET)?;
        self.check_compatible(headers)?;
        let (kind, from) = rest.rsplit_once('/').ok_or(Refusal::NoSuchStream)?;
        let kind = Kind::ALL.into_iter().find(|known| known.path() == kind);
        let kind = kind.ok_or(Refusal::NoSuchStream)?;
        let from = read_id(from).ok_or(Refusal::BadSender)?;
        match membership(from) {
            Membership::Removed => return Err(Refusal::Removed),
            Membership::Unknown => return Err(Refusal::UnknownSender),
            Membership::Member => {}
        }
        match text(headers, RAFT_TO) == Some(&format!("{:x}", self.member_id)) {
            true => Ok((kind, from)),
            false => Err(Refusal::Addressee),
        }
    }

    /// Whether the sender of a message may send one; what it says is looked at later.
    pub fn admit_message(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        check_method(method, &Method::POST)?;
        self.check_compatible(headers)
    }
}

/// Whether a path is asked for as it may be.
pub fn check_method(method: &Method, allowed: &Method) -> Result<(), Refusal> {
    match (method == allowed, *allowed == Method::POST) {
        (true, _) => Ok(()),
        (false, true) => Err(Refusal::Method { allowed: "POST" }),
        (false, false) => Err(Refusal::Method { allowed: "GET" }),
    }
}

/// Who sends a request and where it is reached, if it says both: how a member that has not heard of
/// the sender yet can answer it.
pub fn introduction(headers: &HeaderMap) -> Option<(u64, Vec<String>)> {
    let sender = read_id(text(headers, SERVER_FROM)?)?;
    let urls = text(headers, PEER_URLS).filter(|urls| !urls.is_empty())?;
    Some((sender, urls.split(',').map(str::to_owned).collect()))
}

/// What an answer to a request for a stream means.
pub fn read_stream_answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &str,
) -> Result<(), Unwelcome> {
    match status {
        StatusCode::OK if !speaks_streams(headers) => Err(Unwelcome::Version),
        StatusCode::OK => Ok(()),
        StatusCode::GONE => Err(Unwelcome::Removed),
        StatusCode::NOT_FOUND => Err(Unwelcome::Unknown),
        status => Err(read_refusal(status, body)),
    }
}

/// What an answer to a message means.
pub fn read_message_answer(status: StatusCode, body: &str) -> Result<(), Unwelcome> {
    match status {
        StatusCode::NO_CONTENT => Ok(()),
        // Members up to 3.5 say so here as well.
        StatusCode::FORBIDDEN => Err(Unwelcome::Removed),
        status => Err(read_refusal(status, body)),
    }
}

fn read_refusal(status: StatusCode, body: &str) -> Unwelcome {
    let text = body.trim_end_matches('\n');
    match status {
        StatusCode::PRECONDITION_FAILED if text == Refusal::Version.to_string() => {
            Unwelcome::Version
        }
        StatusCode::PRECONDITION_FAILED if text == Refusal::Cluster.to_string() => {
            Unwelcome::Cluster
        }
        status => Unwelcome::Unexpected { status: status.as_u16(), text: text.to_owned() },
    }
}

fn speaks_streams(headers: &HeaderMap) -> bool {
    let server = text(headers, SERVER_VERSION).unwrap_or(BEFORE_VERSIONS);
    major_minor(server) >= major_minor(MIN_CLUSTER)
}

/// Whether the sender can live with us, and we with it.
fn is_compatible(headers: &HeaderMap) -> bool {
    let min_cluster = text(headers, MIN_CLUSTER_VERSION).unwrap_or(BEFORE_VERSIONS);
    let min_cluster = major_minor(min_cluster);
    speaks_streams(headers) && min_cluster.is_some() && min_cluster <= major_minor(version::SERVER)
}

/// Major and minor of `X.Y.Z`, which may carry a pre-release or build.
fn major_minor(version: &str) -> Option<(u64, u64)> {
    let numbers = version.split(['-', '+']).next()?;
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (Some(major), Some(minor), Some::<u64>(_), None) => Some((major, minor)),
        _ => None,
    }
}

/// Who a request says it is from.
pub fn sender(headers: &HeaderMap) -> Option<u64> {
    read_id(text(headers, SERVER_FROM)?)
}

/// An id as members write it: hexadecimal, without sign or prefix.
pub fn read_id(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

fn id_value(id: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("{id:x}")).expect("hexadecimal digits are visible ASCII")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // Go reads an empty header as none at all.
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty())
}
