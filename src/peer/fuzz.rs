//! The bodies of the fuzz targets `peer_request` and `peer_answer`: both sides of a conversation
//! with another member, over a wire in memory.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::sync::mpsc;

use super::Host;
use super::codec::Kind;
use super::dial::{Connection, Trouble, json, text, whole};
use super::headers::{self, Identity, Membership};
use super::server::Desk;
use super::{forward, listener, prober, recall};
use crate::bolt;
use crate::error::Error;
use crate::members::{Member, join};
use crate::metrics::Metrics;
use crate::mvcc::HashKv;
use crate::node::{self, BoxFuture, Outgoing, Overrun, Promise, Replaced, Unreplaced};
use crate::pb::LeaseTimeToLiveResponse;
use crate::raft::{ConfState, Message, MessageType, wire};
use crate::tool::fuzz as rows;

const OWN: u64 = 1;
const OTHER: u64 = 2;
const CLUSTER: u64 = 7;
/// What of an answer to a made-up question is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Answers a request as the peer listener does. The first byte says whether `bytes` are all of it,
/// or path, headers and body in order and the rest of it is proper HTTP; the second, in what pieces
/// it comes. Whatever they are, there is an answer or an end.
pub fn fuzz_request(bytes: &[u8]) {
    let [how, cut, bytes @ ..] = bytes else { return };
    let (request, is_proper) = match how % 4 {
        0 => (bytes.to_vec(), false),
        how => (proper(how, bytes), true),
    };
    let answer = alone(ask(request, usize::from(*cut).max(1) * 64, is_proper));
    assert!(!is_proper || answer.starts_with(b"HTTP/1.1 "), "a proper request has an answer");
}

/// Runs what the transport's thread would.
fn alone<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime needs memory only").block_on(future)
}

/// What the listener answers to the bytes of a request.
async fn ask(request: Vec<u8>, pieces: usize, is_proper: bool) -> Vec<u8> {
    let (here, there) = duplex(pieces);
    let identity = Identity { member_id: OWN, cluster_id: CLUSTER, peer_urls: Vec::new() };
    let desk = Desk::new(identity, Arc::new(Stub), None);
    let from = (Ipv4Addr::LOCALHOST, 2380).into();
    let served = tokio::spawn(listener::answer_all(desk, there, from));
    let (mut incoming, mut outgoing) = split(here);
    let asked = async {
        // Who answers early need not read to the end.
        let _ = outgoing.write_all(&request).await;
        if !is_proper {
            let _ = outgoing.shutdown().await;
        }
    };
    let mut answer = Vec::new();
    let (_, _) = tokio::join!(asked, incoming.read_to_end(&mut answer));
    drop((incoming, outgoing));
    served.await.expect("nothing panics in a connection");
    answer
}

/// The bytes of a request in proper HTTP: `[path][fields][length, field]…[body]`.
fn proper(how: u8, mut bytes: &[u8]) -> Vec<u8> {
    let path = [
        ("POST", "/raft"),
        ("POST", "/raft/snapshot"),
        ("GET", "/raft/stream/message/2"),
        ("GET", "/raft/stream/msgapp/2"),
        ("GET", "/raft/probing"),
        ("GET", "/members"),
        ("GET", "/version"),
        ("POST", "/leases"),
        ("POST", "/leases/internal"),
        ("GET", "/members/hashkv"),
        ("POST", "/members/promote/2"),
        ("GET", "/downgrade/enabled"),
        ("GET", "/kvorum/promises"),
        ("POST", "/kvorum/replace"),
        // Last, for it needs another thread.
        ("GET", "/kvorum/state"),
    ];
    let (method, path) = path[usize::from(byte(&mut bytes)) % path.len()];
    let mut head = Vec::from(format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n"));
    let other = Identity { member_id: OTHER, cluster_id: CLUSTER, peer_urls: Vec::new() };
    let mut fields = other.headers(Some(OWN));
    for _ in 0..byte(&mut bytes) % 4 {
        let length = usize::from(byte(&mut bytes)).min(bytes.len());
        let (field, rest) = bytes.split_at(length);
        bytes = rest;
        let place = field.iter().position(|byte| *byte == b':').unwrap_or(field.len());
        let name = http::HeaderName::from_bytes(&field[..place]);
        let value = http::HeaderValue::from_bytes(field[place..].get(1..).unwrap_or_default());
        let (Ok(name), Ok(value)) = (name, value) else { continue };
        // These say how long the body is, which is said below.
        if name != http::header::CONTENT_LENGTH && name != http::header::TRANSFER_ENCODING {
            fields.insert(name, value);
        }
    }
    for (name, value) in &fields {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let body = match how {
        1 => bytes.to_vec(),
        _ => snapshot(how == 2, bytes),
    };
    head.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    [head, body].concat()
}

fn byte(bytes: &mut &[u8]) -> u8 {
    if bytes.is_empty() { 0 } else { bytes.get_u8() }
}

/// The body of a snapshot: a message in order, and a file that at least opens.
fn snapshot(is_raw: bool, mut bytes: &[u8]) -> Vec<u8> {
    let mut message = Message { to: OWN, from: OTHER, term: 3, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    let metadata = message.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (u64::from(byte(&mut bytes)), 2);
    metadata.conf_state = Some(ConfState { voters: vec![OWN, OTHER], ..ConfState::default() });
    let message = wire::encode(message);
    let file = match is_raw {
        true => bolt::mended(bytes).unwrap_or_else(|| bytes.to_vec()),
        false => rows::file(&rows::engine(bytes)),
    };
    [&(message.len() as u64).to_be_bytes(), &message[..], &file].concat()
}

/// Reads the answer of another member. The first byte says to what, the second in what pieces it
/// comes, `bytes` are all of it. Whatever they are, this side has an answer or a reason for none.
pub fn fuzz_answer(bytes: &[u8]) {
    let [what, cut, bytes @ ..] = bytes else { return };
    alone(async {
        let (here, mut there) = duplex(usize::from(*cut).max(1) * 16);
        // The stream ends with it.
        let answered = async move {
            // First the question, or an early answer would end the connection.
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                if there.read_buf(&mut question).await.is_ok_and(|bytes| bytes > 0) {
                    continue;
                }
                return;
            }
            let _ = there.write_all(bytes).await;
        };
        let _ = tokio::join!(hear(*what, here), answered);
    });
}

/// Asks, and reads what is answered.
async fn hear(what: u8, stream: DuplexStream) -> Result<(), Trouble> {
    let mut connection = Connection::on(stream, "other").await?;
    let asked = connection.ask_patiently(Method::GET, "/", HeaderMap::new(), whole(Bytes::new()));
    let answer = asked.await?;
    let status = answer.status();
    match what % 8 {
        0 => {
            let said = json::<Vec<Member>>(answer, ANSWER_BYTES_MAX, "nothing").await;
            let (cluster_id, members) = said?;
            check_join(cluster_id, &members);
        }
        1 => {
            let (_, said) =
                json::<Vec<recall::Promised>>(answer, ANSWER_BYTES_MAX, "nothing").await?;
            assert!(said.len() <= ANSWER_BYTES_MAX);
        }
        2 => drop(json::<Replaced>(answer, ANSWER_BYTES_MAX, "nothing").await?),
        3 | 4 => {
            let kind = Kind::ALL[usize::from(what % 8 - 3)];
            let head = answer.headers().clone();
            if !status.is_success() {
                headers::read_stream_answer(status, &head, &text(answer.into_body()).await)?;
                return Err(Trouble::End);
            }
            headers::read_stream_answer(status, &head, "")?;
            let mut decoder = super::codec::Decoder::new(kind, OWN, OTHER);
            let mut body = answer.into_body();
            while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
                decoder.push(&frame?.into_data().unwrap_or_default());
                while decoder.next_frame()?.is_some() {}
            }
        }
        5 => headers::read_message_answer(status, &text(answer.into_body()).await)?,
        6 => drop(prober::read(&text(answer.into_body()).await)),
        _ => {
            if let Ok(answer) = forward::read(answer).await? {
                drop(forward::read_renewal(answer.clone()));
                drop(forward::read_lifetime(answer.clone()));
                drop((forward::read_members(&answer), forward::read_hash(&answer)));
            }
        }
    }
    Ok(())
}

/// Tries to join whoever there is said to be.
fn check_join(cluster_id: u64, remote: &[Member]) {
    let urls = || remote.iter().flat_map(|member| member.peer_urls.iter().cloned());
    let mut cluster: Vec<_> = urls().map(|url| (url.clone(), url)).collect();
    cluster.extend(urls().next().map(|url| ("own".to_owned(), url)));
    let unresolved = |url: &str| url.to_owned();
    for name in ["own", "nobody"] {
        if let Ok((id, members)) = join(remote, cluster_id, &cluster, name, 1, &unresolved) {
            assert!(members.get(id).is_some(), "who joins is one of them");
        }
    }
    for member in remote {
        let mut members = crate::members::Members::default();
        let crate::storage::engine::Write::Put { table, key, value } = member.row() else {
            unreachable!("a member's row is a put")
        };
        members.load(table, &key, &value).expect("a row that was written is read");
        assert_eq!(members.get(member.id), Some(member));
    }
}

/// A member that has a place for what comes, and says no to most questions.
struct Stub;

/// Made once, for there are many.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new(false));

impl Host for Stub {
    fn receive(&self, message: Message) -> Result<(), Overrun> {
        assert_eq!(message.to, OWN, "what is for others stops at the listener");
        if message.index.is_multiple_of(5) { Err(Overrun) } else { Ok(()) }
    }

    fn receive_snapshot(
        &self,
        message: Message,
        chunks: mpsc::Receiver<io::Result<Bytes>>,
    ) -> BoxFuture<'static, Result<(), String>> {
        assert_eq!((message.to, message.msg_type()), (OWN, MessageType::MsgSnapshot));
        Box::pin(async move {
            let engine = node::receive_in_memory(&message, chunks).await?;
            rows::work_on(&engine);
            Ok(())
        })
    }

    fn membership(&self, id: u64) -> Membership {
        match id {
            OWN | OTHER => Membership::Member,
            // Whoever is not known yet would be called at the address that it gives.
            _ => Membership::Removed,
        }
    }

    fn renew(&self, id: i64) -> BoxFuture<'static, Result<i64, Error>> {
        Box::pin(async move { if id % 2 == 0 { Ok(id) } else { Err(Error::LeaseNotFound) } })
    }

    fn time_to_live(
        &self,
        id: i64,
        _: bool,
    ) -> BoxFuture<'static, Result<LeaseTimeToLiveResponse, Error>> {
        let answer = LeaseTimeToLiveResponse { id, ttl: id, ..Default::default() };
        Box::pin(async move { Ok(answer) })
    }

    fn promote(&self, id: u64) -> BoxFuture<'static, Result<Vec<Member>, Error>> {
        Box::pin(async move { Ok(vec![Member { id, ..Member::default() }]) })
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'static, Result<HashKv, Error>> {
        Box::pin(
            async move { if revision < 0 { Err(Error::Compacted) } else { Err(Error::FutureRev) } },
        )
    }

    fn replace(&self, _: Vec<String>) -> BoxFuture<'static, Result<Replaced, Unreplaced>> {
        Box::pin(async { Err(Unreplaced::NotLeader) })
    }

    fn promises(&self) -> BTreeMap<u64, Promise> {
        BTreeMap::from([(OTHER, Promise { term: 2, index: 9 })])
    }

    fn members(&self) -> Vec<Member> {
        // None, or a request could have names looked up.
        Vec::new()
    }

    fn hand_out_state(&self) -> Result<Outgoing, Error> {
        Err(Error::Stopped)
    }

    fn unreachable(&self, _: u64) {}
    fn snapshot_sent(&self, _: u64, _: bool) {}
    fn disconnected(&self, _: u64) {}
    fn removed(&self) {}

    fn metrics(&self) -> &Metrics {
        &METRICS
    }

    fn cluster_version(&self) -> Option<String> {
        None
    }
}
