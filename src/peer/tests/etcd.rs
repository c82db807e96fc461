//! A real member of etcd as the other one: `ETCD_BIN=… cargo test peer::tests::etcd -- --ignored`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::pki::{Authority, Folder, Wish};
use super::world::Node;
use crate::config::{PeerTls, Tls, Url};
use crate::members::Members;
use crate::pb::PutRequest;
use crate::pb::kv_client::KvClient;
use crate::peer::Listener;
use crate::raft::{Message, MessageType};

/// A process that ends with the test.
struct Etcd(Child);

impl Etcd {
    fn start(folder: &Path, [theirs, ours, clients]: [&str; 3], tls: Option<&PeerTls>) -> Self {
        let binary = std::env::var("ETCD_BIN").expect("ETCD_BIN names a binary");
        let log = std::fs::File::create(folder.join("log")).expect("a file");
        let etcd = Command::new(binary)
            .arg("--name=etcd")
            .arg(format!("--data-dir={}", folder.join("data").display()))
            .arg(format!("--listen-peer-urls={theirs}"))
            .arg(format!("--initial-advertise-peer-urls={theirs}"))
            .arg(format!("--listen-client-urls={clients}"))
            .arg(format!("--advertise-client-urls={clients}"))
            .arg(format!("--initial-cluster=etcd={theirs},kvorum={ours}"))
            .arg("--initial-cluster-token=mixed")
            .args(tls.map(flags).unwrap_or_default())
            .stderr(log)
            .stdout(Stdio::null())
            .spawn();
        Self(etcd.expect("ETCD_BIN can be run"))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// What a follower that believes everything answers.
fn obey(message: &Message) -> Option<Message> {
    let (kind, index) = match message.msg_type() {
        MessageType::MsgRequestPreVote => (MessageType::MsgRequestPreVoteResponse, 0),
        MessageType::MsgRequestVote => (MessageType::MsgRequestVoteResponse, 0),
        MessageType::MsgHeartbeat => (MessageType::MsgHeartbeatResponse, 0),
        MessageType::MsgAppend => {
            let last = message.entries.last().map_or(message.index, |entry| entry.index);
            (MessageType::MsgAppendResponse, last)
        }
        _ => return None,
    };
    let context = match kind {
        MessageType::MsgHeartbeatResponse => message.context.clone(),
        _ => bytes::Bytes::new(),
    };
    let (to, from, term) = (message.from, message.to, message.term);
    Some(Message { msg_type: kind.into(), to, from, term, index, context, ..Message::default() })
}

#[tokio::test]
#[ignore = "needs ETCD_BIN, the binary of an etcd"]
async fn etcd_leads_us() {
    leads_us(None).await;
}

#[tokio::test]
#[ignore = "needs ETCD_BIN, the binary of an etcd"]
async fn etcd_leads_us_behind_tls() {
    let authority = Authority::new("ca");
    let mut folder = Folder::new(&authority, &authority.sign(Wish::default()));
    folder.tls.allowed_cn = vec!["member".to_owned()];
    leads_us(Some(folder)).await;
}

/// The flags that say the same to etcd.
fn flags(tls: &PeerTls) -> Vec<String> {
    let Tls { cert_file, key_file, trusted_ca_file, .. } = &tls.listener;
    let ca = trusted_ca_file.as_ref().expect("a CA");
    vec![
        format!("--peer-cert-file={}", cert_file.display()),
        format!("--peer-key-file={}", key_file.display()),
        format!("--peer-trusted-ca-file={}", ca.display()),
        "--peer-client-cert-auth".to_owned(),
        format!("--peer-cert-allowed-cn={}", tls.allowed_cn.join(",")),
    ]
}

/// etcd asks us for our streams and we ask for its; it is elected by our vote and commits what we
/// acknowledge.
async fn leads_us(folder: Option<Folder>) {
    let data = tempfile::tempdir().expect("a folder");
    let tls = folder.as_ref().map(|folder| &folder.tls);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let our_address = free().await.to_string();
    let ours = format!("{scheme}://{our_address}");
    let (theirs, clients) =
        (format!("{scheme}://{}", free().await), format!("http://{}", free().await));
    let founding = [("etcd".to_owned(), theirs.clone()), ("kvorum".to_owned(), ours.clone())];
    let members = Members::founding(&founding, "mixed");
    let id_of = |name: &str| {
        members.iter().find(|member| member.name == name).expect("a founding member").id
    };
    let ids = (id_of("kvorum"), members.founding_cluster_id());
    let node = match tls {
        Some(tls) => Node::start_tls(&our_address, ids, tls),
        None => {
            let listener = Listener::bind(&Url::http(&our_address), None).expect("it was free");
            Node::start_on(listener, ids.0, ids.1)
        }
    };
    let (sender, mut received) = mpsc::unbounded_channel();
    *node.witness.forward.lock() = Some(sender);
    node.transport.set(id_of("etcd"), vec![theirs.clone()]);

    let _etcd = Etcd::start(data.path(), [&theirs, &ours, &clients], tls);

    let transport = node.transport.clone();
    let follow = async {
        while let Some(message) = received.recv().await {
            if let Some(answer) = obey(&message) {
                transport.send(answer);
            }
        }
    };
    let write = async {
        let began = Instant::now();
        loop {
            let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
            let put = async { KvClient::connect(clients.clone()).await.ok()?.put(put).await.ok() };
            let put = tokio::time::timeout(Duration::from_secs(2), put).await;
            if let Ok(Some(answer)) = put {
                return answer.into_inner().header.expect("a header");
            }
            assert!(began.elapsed() < Duration::from_secs(30), "etcd commits nothing");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let header = tokio::select! {
        header = write => header,
        () = follow => unreachable!("the witness holds the other end"),
    };
    assert_eq!((header.revision, header.member_id), (2, id_of("etcd")));
    assert_eq!(header.cluster_id, members.founding_cluster_id());
    let traffic = node.transport.traffic(id_of("etcd")).expect("it was added");
    assert!(traffic.sent > 0 && traffic.received > 0, "both ways on streams: {traffic:?}");
    assert!(!node.witness.indexes(MessageType::MsgAppend, id_of("etcd")).is_empty());
}
