//! The requests that etcd was asked, asked of ours.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::recorded::{self, CLUSTER, GONE, OTHER, SELF, STRANGER};
use super::world::{Node, within};

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Sends a request on a connection of its own and reads all that comes.
async fn ask(address: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let length = body.len();
    let head = format!("{head}Host: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("it reads");
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.expect("it answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer { status: status.expect("a status"), headers: headers.collect(), body: body.to_owned() }
}

fn node() -> Node {
    let node = Node::start(SELF, CLUSTER);
    node.transport.set(OTHER, Vec::new());
    node.witness.gone.lock().insert(GONE);
    node.witness.strangers.lock().insert(STRANGER);
    node
}

#[tokio::test]
async fn every_recorded_request_is_answered_as_etcd_did() {
    let node = node();
    let framing = ["content-length", "transfer-encoding", "connection", "date"];
    for exchange in recorded::exchanges() {
        let name = &exchange.name;
        let mut head = format!("{} {} HTTP/1.1\r\n", exchange.method, exchange.path);
        for (header, value) in &exchange.headers {
            head += &format!("{header}: {value}\r\n");
        }
        // An empty message has no sender; etcd reads it as a proposal of nobody.
        let body = recorded::body(&exchange);
        let mut answer = ask(node.address, &recorded::fill(&head), &body).await;
        answer.headers.retain(|header, _| !framing.contains(&header.as_str()));
        let theirs = exchange.answer_headers.iter();
        let theirs = theirs.map(|(header, value)| (header.to_lowercase(), recorded::fill(value)));
        let theirs = theirs.filter(|(header, _)| !framing.contains(&header.as_str()));
        assert_eq!(answer.status, exchange.status, "{name}");
        assert_eq!(answer.body, exchange.answer, "{name}");
        assert_eq!(answer.headers, theirs.collect(), "{name}");
    }
    let received = node.witness.received.lock();
    let senders: Vec<u64> = received.iter().map(|message| message.from).collect();
    assert_eq!(senders, [OTHER], "one of the messages is in order");
}

#[tokio::test]
async fn members_and_probes_are_answered_in_etcds_form() {
    let node = node();
    let answer = ask(node.address, "GET /members HTTP/1.1\r\n", b"").await;
    let members = "[{\"id\":2818100871379969079,\"peerURLs\":[\"http://127.0.0.1:24331\"],\
        \"name\":\"r\",\"clientURLs\":[\"http://127.0.0.1:24332\"]}]\n";
    assert_eq!((answer.status, answer.body.as_str()), (200, members));
    assert_eq!(answer.headers["x-etcd-cluster-id"], format!("{CLUSTER:x}"));
    assert_eq!(answer.headers["content-type"], "application/json");

    let answer = ask(node.address, "GET /raft/probing HTTP/1.1\r\n", b"").await;
    let probe: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, &probe["OK"]), (200, &serde_json::Value::Bool(true)));
    let now = probe["Now"].as_str().expect("a time");
    assert!(now.starts_with("20") && now.ends_with('Z') && now.contains('T'), "{now}");
}
