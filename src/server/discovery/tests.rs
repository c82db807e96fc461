//! Discovery against a small DNS server on this machine.

use simple_dns::rdata::SRV;
use simple_dns::{Packet, ResourceRecord};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// Records: full names with the ports that `localhost` has for them.
type Records = &'static [(&'static str, &'static [u16])];

/// What a server answers a question with; without a connection no more than fits.
fn answer(records: Records, question: &[u8], is_datagram: bool) -> Vec<u8> {
    let question = Packet::parse(question).expect("it is asked in order");
    let name = question.questions[0].qname.to_string();
    let mut reply = question.clone().into_reply();
    let known = records.iter().find(|(known, _)| *known == name);
    let Some((_, ports)) = known else {
        *reply.rcode_mut() = RCODE::NameError;
        return reply.build_bytes_vec().expect("it is small");
    };
    if is_datagram && ports.len() > 9 {
        reply.set_flags(PacketFlag::TRUNCATION);
        return reply.build_bytes_vec().expect("it is small");
    }
    for port in *ports {
        let target = Name::new("localhost").expect("a name");
        let service = RData::SRV(SRV { priority: 1, weight: 1, port: *port, target });
        let name = question.questions[0].qname.clone();
        reply.answers.push(ResourceRecord::new(name, CLASS::IN, 60, service));
    }
    reply.build_bytes_vec().expect("it is small")
}

/// Serves both ways on one port, until the test ends.
async fn serve(records: Records) -> SocketAddr {
    let (datagrams, connections) = loop {
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = datagrams.local_addr().expect("it is bound");
        // Somebody else may have the port for connections.
        if let Ok(connections) = TcpListener::bind(address).await {
            break (datagrams, connections);
        }
    };
    let address = datagrams.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((size, from)) = datagrams.recv_from(&mut question).await {
            let reply = answer(records, &question[..size], true);
            let _ = datagrams.send_to(&reply, from).await;
        }
    });
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = connections.accept().await {
            let size = connection.read_u16().await.expect("a question");
            let mut question = vec![0; usize::from(size)];
            connection.read_exact(&mut question).await.expect("a question");
            let reply = answer(records, &question, false);
            let size = u16::try_from(reply.len()).expect("it is small");
            connection.write_all(&size.to_be_bytes()).await.expect("it listens");
            connection.write_all(&reply).await.expect("it listens");
        }
    });
    address
}

/// What member `n` finds, advertising these.
async fn found(
    records: Records,
    service_name: &str,
    advertised: &[&str],
) -> Result<Vec<(String, String)>, String> {
    let servers = vec![serve(records).await];
    let (domain, service_name) = ("example.test".to_owned(), service_name.to_owned());
    let discovery = Discovery { domain, service_name, servers };
    let config = Config {
        name: "n".to_owned(),
        initial_advertise_peer_urls: advertised.iter().map(|url| url.to_string()).collect(),
        ..Config::default()
    };
    members(&config, &discovery).await.map_err(|error| error.to_string())
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, url)| (name.to_string(), url.to_string())).collect()
}

const PLAIN: Records = &[("_etcd-server._tcp.example.test", &[24491, 24492, 24493])];

#[tokio::test]
async fn a_member_finds_itself_by_its_address() {
    let others =
        [("http://localhost:24491", "http://localhost:24491"), ("n", "http://localhost:24492")];
    let expected = [others[0], ("http://localhost:24493", "http://localhost:24493"), others[1]];
    let by_name = found(PLAIN, "", &["http://localhost:24492"]).await;
    assert_eq!(by_name, Ok(pairs(&expected)));
    let by_address = found(PLAIN, "", &["http://127.0.0.1:24492"]).await;
    assert_eq!(by_address, Ok(pairs(&expected)));
}

#[tokio::test]
async fn both_services_are_asked_for() {
    let records: Records = &[
        ("_etcd-server-ssl-blue._tcp.example.test", &[24491]),
        ("_etcd-server-blue._tcp.example.test", &[24492]),
        ("_etcd-server._tcp.example.test", &[24493]),
    ];
    let expected =
        [("http://localhost:24492", "http://localhost:24492"), ("n", "https://localhost:24491")];
    let found = found(records, "blue", &["https://localhost:24491"]).await;
    assert_eq!(found, Ok(pairs(&expected)));
}

#[tokio::test]
async fn a_long_answer_comes_over_a_connection() {
    let records: Records = &[(
        "_etcd-server._tcp.example.test",
        &[24480, 24481, 24482, 24483, 24484, 24485, 24486, 24487, 24488, 24489, 24490],
    )];
    let found = found(records, "", &["http://localhost:24489"]).await.expect("it is listed");
    assert_eq!(found.len(), 11);
    assert!(found.contains(&("n".to_owned(), "http://localhost:24489".to_owned())));
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let none = found(&[], "", &["http://localhost:24491"]).await;
    assert_eq!(
        none.expect_err("nobody"),
        "DNS has no SRV records _etcd-server-ssl._tcp.example.test or \
         _etcd-server._tcp.example.test"
    );
    let other = found(PLAIN, "", &["http://localhost:24494"]).await.expect_err("not listed");
    assert!(
        other.starts_with("cannot find local etcd member \"n\" in SRV records: none of --initial-"),
        "{other}"
    );
    let scheme = found(PLAIN, "", &["https://localhost:24491"]).await.expect_err("no TLS");
    assert_eq!(
        scheme,
        "bootstrap at http://localhost:24491 from DNS for _etcd-server._tcp has scheme mismatch \
         with expected peer https://localhost:24491"
    );
}

#[tokio::test]
async fn servers_that_refuse_are_named() {
    // A port that nobody listens on: refused at once, by the kernel.
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr();
    let servers = vec![server.expect("it was bound")];
    let error = lookup(&servers, "a.test").await.expect_err("nobody answers").to_string();
    assert!(error.starts_with(&servers[0].to_string()), "{error}");
    assert!(read(servers[0], 1, b"noise").is_err());
    assert!(query(1, &"x".repeat(64)).is_none(), "no label is that long");
}
