//! Requests that etcd sent, answers that etcd gave, and what we make of both.

use super::super::tests::recorded::{self, Exchange};
use super::*;

fn identity() -> Identity {
    Identity {
        member_id: recorded::SELF,
        cluster_id: recorded::CLUSTER,
        peer_urls: vec!["http://127.0.0.1:2380".to_owned()],
    }
}

fn headers_of(exchange: &Exchange) -> HeaderMap {
    let pairs = exchange.headers.iter().map(|(name, value)| {
        let name = header::HeaderName::try_from(name).expect("a name");
        (name, HeaderValue::from_str(&recorded::fill(value)).expect("a value"))
    });
    pairs.collect()
}

/// Requests for streams and the heads of messages are judged as etcd judged them.
#[test]
fn refusals_are_etcds() {
    let (mut streams, mut messages) = (0, 0);
    for exchange in recorded::exchanges() {
        let headers = headers_of(&exchange);
        let method = Method::from_bytes(exchange.method.as_bytes()).expect("a method");
        let path = recorded::fill(&exchange.path);
        let judged = if let Some(rest) = path.strip_prefix("/raft/stream/") {
            streams += 1;
            let admitted = identity().admit_stream(&method, rest, &headers, recorded::membership);
            admitted.map(|_| ())
        } else if path == "/raft" && !matches!(exchange.status, 400 | 500) {
            messages += 1;
            identity().admit_message(&method, &headers)
        } else {
            continue;
        };
        match judged {
            Ok(()) => assert_eq!(exchange.status, 204, "{}", exchange.name),
            Err(refusal) => {
                assert_eq!(refusal.status().as_u16(), exchange.status, "{}", exchange.name);
                assert_eq!(format!("{refusal}\n"), exchange.answer, "{}", exchange.name);
            }
        }
    }
    assert_eq!((streams, messages), (18, 4));
}

/// The recorded answers, as the member that asked would take them.
#[test]
fn answers_are_understood() {
    let mut seen = std::collections::BTreeMap::new();
    for exchange in recorded::exchanges() {
        let status = StatusCode::from_u16(exchange.status).expect("a status");
        let meaning = match exchange.path.strip_prefix("/raft") {
            Some("") => read_message_answer(status, &exchange.answer),
            Some(_) => read_stream_answer(status, &HeaderMap::new(), &exchange.answer),
            None => continue,
        };
        let meaning = meaning.map_or_else(|error| error.to_string(), |()| "welcome".to_owned());
        *seen.entry(meaning).or_insert(0) += 1;
    }
    let seen: Vec<String> = seen.iter().map(|(what, count)| format!("{count} {what}")).collect();
    let expected = [
        "3 cluster ID mismatch",
        "6 incompatible version",
        "1 the member has been permanently removed from the cluster",
        "8 the peer does not know this member",
        "1 unexpected answer 400: error unmarshalling raft message",
        "2 unexpected answer 405: Method Not Allowed",
        "2 unexpected answer 412: to field mismatch",
        "3 unexpected answer 500: error processing raft message",
        "1 welcome",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_stream_is_opened_with_etcds_headers() {
    let names = ["m1-message.request", "m1-msgapp.request", "m2-message.request"];
    for request in names.map(recorded::file) {
        let request = String::from_utf8(request).expect("text");
        let theirs: Vec<(String, String)> = request
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .filter(|(name, _)| name.starts_with("x-"))
            .collect();
        let value = |name: &str| {
            let found = theirs.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).expect("etcd sends it")
        };
        let id = |name: &str| read_id(&value(name)).expect("an id");
        let identity = Identity {
            member_id: id(SERVER_FROM),
            cluster_id: id(CLUSTER_ID),
            peer_urls: vec![value(PEER_URLS)],
        };
        let ours = identity.headers(Some(id(RAFT_TO)));
        let mut ours: Vec<(String, String)> = ours
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
            .collect();
        ours.sort();
        assert_eq!(ours, theirs);
        assert_eq!(
            introduction(&identity.headers(None)),
            Some((identity.member_id, identity.peer_urls.clone()))
        );
    }
}

#[test]
fn versions_are_compared_by_major_and_minor() {
    let judge = |server: &str, min_cluster: &str| {
        let mut headers = identity().headers(None);
        headers.insert(SERVER_VERSION, server.parse().expect("text"));
        headers.insert(MIN_CLUSTER_VERSION, min_cluster.parse().expect("text"));
        identity().check_compatible(&headers)
    };
    for server in ["3.0.0", "3.7.3", "3.7.99", "4.0.0", "3.8.0-alpha.0", "3.7.3+git"] {
        assert_eq!(judge(server, "3.0.0"), Ok(()), "{server}");
    }
    for server in ["2.3.9", "3", "3.7", "v3.7.3", "3.7.3.1", "nonsense", "-", "3.x.0"] {
        assert_eq!(judge(server, "3.0.0"), Err(Refusal::Version), "{server}");
    }
    assert_eq!(judge("3.9.0", "3.7.9"), Ok(()));
    for min_cluster in ["3.8.0", "4.0.0", "nonsense"] {
        assert_eq!(judge("3.9.0", min_cluster), Err(Refusal::Version), "{min_cluster}");
    }
}

#[test]
fn a_stream_of_an_old_server_is_not_read() {
    let answer = |version: &'static str| {
        let name = header::HeaderName::from_static(SERVER_VERSION);
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(version))]);
        read_stream_answer(StatusCode::OK, &headers, "")
    };
    assert_eq!(answer("3.4.0"), Ok(()));
    assert_eq!(answer("2.3.0"), Err(Unwelcome::Version));
    assert_eq!(read_stream_answer(StatusCode::OK, &HeaderMap::new(), ""), Err(Unwelcome::Version));
    let ours = identity().stream_answer_headers();
    assert_eq!(read_stream_answer(StatusCode::OK, &ours, ""), Ok(()));
    let forbidden = read_message_answer(StatusCode::FORBIDDEN, "");
    assert_eq!(forbidden, Err(Unwelcome::Removed));
}

#[test]
fn who_says_nothing_is_not_introduced() {
    let whole = identity().headers(None);
    for missing in [SERVER_FROM, PEER_URLS] {
        let mut headers = whole.clone();
        headers.remove(missing);
        assert_eq!(introduction(&headers), None, "{missing}");
    }
    let mut two = whole;
    two.insert(PEER_URLS, HeaderValue::from_static("http://a:1,http://b:2"));
    let urls = vec!["http://a:1".to_owned(), "http://b:2".to_owned()];
    assert_eq!(introduction(&two), Some((recorded::SELF, urls)));
}
