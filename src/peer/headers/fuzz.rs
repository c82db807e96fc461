//! The body of the fuzz target `peer_hello`.

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{
    CLUSTER_ID, Identity, Membership, RAFT_TO, Refusal, introduction, read_id, read_message_answer,
    read_stream_answer, sender,
};

const OWN: u64 = 0xbeef;
const CLUSTER: u64 = 0xc1;

/// Takes the lines of `bytes` for the path of a stream and for headers, and judges both what they
/// ask for and what they answer. Whatever they are, this returns; and whoever is let in has said
/// what a member must.
pub fn fuzz_hello(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let path = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let place = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = HeaderName::from_bytes(&line[..place]);
        let value = HeaderValue::from_bytes(line[place..].get(1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let identity = Identity { member_id: OWN, cluster_id: CLUSTER, peer_urls: Vec::new() };
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);

    let asked = Cell::new(None);
    let membership = |id: u64| {
        asked.set(Some(id));
        [Membership::Member, Membership::Removed, Membership::Unknown][(id % 3) as usize]
    };
    let admitted = identity.admit_stream(&Method::GET, &path, &headers, membership);
    if let Ok((kind, from)) = admitted {
        assert_eq!((asked.get(), from % 3), (Some(from), 0), "only members are let in");
        assert!(path.starts_with(kind.path()), "{path:?}");
        assert!(is(CLUSTER_ID, "c1") && is(RAFT_TO, "beef"), "{headers:?}");
    }
    let is_compatible = identity.check_compatible(&headers).is_ok();
    assert!(is_compatible || admitted.is_err(), "strangers are not let in");
    assert_eq!(identity.admit_message(&Method::POST, &headers).is_ok(), is_compatible);
    let method = identity.admit_message(&Method::GET, &headers);
    assert_eq!(method, Err(Refusal::Method { allowed: "POST" }));
    if let Some((id, urls)) = introduction(&headers) {
        assert_eq!(Some(id), sender(&headers));
        assert!(!urls.is_empty());
    }
    check_answers(&path, &headers);
}

/// What is said is also an answer, to us.
fn check_answers(text: &str, headers: &HeaderMap) {
    for status in [200, 204, 403, 404, 410, 412, 500] {
        let status = StatusCode::from_u16(status).expect("a status");
        let _ = read_stream_answer(status, headers, text);
        let _ = read_message_answer(status, text);
    }
    if let Some(id) = read_id(text) {
        // What we say ourselves is understood, whoever we are.
        let urls = vec!["http://10.0.0.1:2380".to_owned()];
        let other = Identity { member_id: id, cluster_id: id, peer_urls: urls.clone() };
        let said = other.headers(Some(id));
        assert_eq!(introduction(&said), Some((id, urls)));
        let path = format!("message/{id:x}");
        let known = |_| Membership::Member;
        let admitted = other.admit_stream(&Method::GET, &path, &said, known);
        assert_eq!(admitted.map(|(_, from)| from), Ok(id));
    }
}
