//! The founding members as DNS lists them: `--discovery-srv`.
//!
//! A domain has SRV records of its members, `_etcd-server-ssl._tcp` for those that speak TLS and
//! `_etcd-server._tcp` for the others, each with a host and a port. Which of them is this member is
//! told by its advertised peer URLs; the others need no name, since ids follow from URLs alone.
//!
//! Deliberately absent: search domains, caches, weights. It is asked once, for the full name, and
//! wants all answers.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::config::{Config, Discovery, Url};
use crate::node;

mod fuzz;

#[cfg(test)]
mod tests;

pub use fuzz::fuzz_dns;

/// How long a server is given to answer, and how often each is asked.
const PATIENCE: Duration = Duration::from_secs(5);
const ROUNDS: usize = 2;
/// The largest answer that comes without a connection; what is larger is asked for with one.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// Why the members are not found. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error("error querying DNS SRV records for {service}.{domain}: {why}")]
    Lookup { service: String, domain: String, why: LookupError },
    #[error("DNS has no SRV records {0}")]
    Nobody(String),
    #[error(
        "cannot find local etcd member {name:?} in SRV records: none of --initial-advertise-peer-\
         urls={advertised} is at an address of {found}"
    )]
    NotListed { name: String, advertised: String, found: String },
    #[error(
        "bootstrap at {found} from DNS for {service} has scheme mismatch with expected peer \
         {advertised}"
    )]
    Scheme { found: String, service: String, advertised: String },
}

/// Why a server did not say.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("{0} is no name")]
    Name(String),
    #[error("{server}: {source}")]
    Io { server: SocketAddr, source: io::Error },
    #[error("{server} did not answer in time")]
    Silent { server: SocketAddr },
    #[error("{server} answered {code:?}")]
    Refused { server: SocketAddr, code: RCODE },
    #[error("{server} answered what cannot be understood")]
    Garbled { server: SocketAddr },
}

/// A member as DNS lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    service: String,
    scheme: &'static str,
    /// `host:port`.
    place: String,
}

/// The configuration with the founding members that DNS lists, if it is to be asked: a member that
/// has data does not care how it began.
pub(super) async fn settle(mut config: Config) -> Result<Config, DiscoveryError> {
    if let Some(discovery) = config.discovery.clone()
        && !node::is_begun(&config)
    {
        config.initial_cluster = members(&config, &discovery).await?;
    }
    Ok(config)
}

/// The founding members that DNS lists, this one under its name.
async fn members(
    config: &Config,
    discovery: &Discovery,
) -> Result<Vec<(String, String)>, DiscoveryError> {
    let servers = match &discovery.servers[..] {
        [] => system_servers(),
        servers => servers.to_vec(),
    };
    let suffix = Some(&discovery.service_name).filter(|name| !name.is_empty());
    let suffix = suffix.map(|name| format!("-{name}")).unwrap_or_default();
    let mut listed = Vec::new();
    let mut failed = None;
    for (scheme, service) in [("https", "_etcd-server-ssl"), ("http", "_etcd-server")] {
        let service = format!("{service}{suffix}._tcp");
        match lookup(&servers, &format!("{service}.{}", discovery.domain)).await {
            Ok(places) => listed.extend(places.into_iter().map(|place| Listed {
                service: service.clone(),
                scheme,
                place,
            })),
            Err(why) => failed = Some((service, why)),
        }
    }
    let domain = discovery.domain.clone();
    match failed {
        Some((service, why)) if listed.is_empty() => {
            return Err(DiscoveryError::Lookup { service, domain, why });
        }
        // A domain need not have both.
        Some((service, why)) => tracing::info!(service, %why, "no such SRV records"),
        None if listed.is_empty() => {
            let names = ["_etcd-server-ssl", "_etcd-server"];
            let names = names.map(|name| format!("{name}{suffix}._tcp.{domain}"));
            return Err(DiscoveryError::Nobody(names.join(" or ")));
        }
        None => {}
    }
    let mut addresses = Vec::new();
    for one in &listed {
        addresses.push(resolve(&one.place).await);
    }
    let mut own = Vec::new();
    for url in config.initial_advertise_peer_urls.iter().filter_map(|url| Url::parse(url).ok()) {
        own.push((resolve(&url.address).await, url));
    }
    let pairs = named(&config.name, &own, listed.iter().zip(&addresses))?;
    tracing::info!(domain, members = ?pairs, "got bootstrap from DNS");
    Ok(pairs)
}

/// Gives this member's places its name, and all others names of their own.
fn named<'a>(
    name: &str,
    own: &[(BTreeSet<SocketAddr>, Url)],
    listed: impl Iterator<Item = (&'a Listed, &'a BTreeSet<SocketAddr>)> + Clone,
) -> Result<Vec<(String, String)>, DiscoveryError> {
    let mut pairs = Vec::new();
    let mut is_listed = false;
    for (one, addresses) in listed {
        let found = format!("{}://{}", one.scheme, one.place);
        let mine = own.iter().find(|(mine, _)| !mine.is_disjoint(addresses));
        let Some((_, advertised)) = mine else {
            // No member has an address for a name.
            pairs.push((found.clone(), found));
            continue;
        };
        let advertised = advertised.to_string();
        if !advertised.starts_with(&format!("{}://", one.scheme)) {
            let service = one.service.clone();
            return Err(DiscoveryError::Scheme { found, service, advertised });
        }
        is_listed = true;
        pairs.push((name.to_owned(), found));
    }
    if !is_listed {
        let advertised: Vec<String> = own.iter().map(|(_, url)| url.to_string()).collect();
        let found: Vec<String> = pairs.into_iter().map(|(_, url)| url).collect();
        return Err(DiscoveryError::NotListed {
            name: name.to_owned(),
            advertised: advertised.join(","),
            found: found.join(","),
        });
    }
    pairs.sort();
    Ok(pairs)
}

/// The addresses of a `host:port`; none if it has none today.
async fn resolve(place: &str) -> BTreeSet<SocketAddr> {
    match tokio::net::lookup_host(place).await {
        Ok(addresses) => addresses.collect(),
        Err(_) => BTreeSet::new(),
    }
}

/// The servers that this machine asks, as glibc reads them.
fn system_servers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let servers = lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    let servers: Vec<SocketAddr> = servers.map(|address| (address, 53).into()).collect();
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { servers }
}

/// All places that SRV records of this name list, as the first server that answers has them. A
/// name that does not exist lists none.
async fn lookup(servers: &[SocketAddr], name: &str) -> Result<Vec<String>, LookupError> {
    let id = rand::random();
    let query = query(id, name).ok_or_else(|| LookupError::Name(name.to_owned()))?;
    let mut last = LookupError::Name(name.to_owned());
    for server in servers.iter().cycle().take(ROUNDS * servers.len()) {
        let answer = tokio::time::timeout(PATIENCE, ask(*server, &query)).await;
        let answer = match answer {
            Err(_) => Err(LookupError::Silent { server: *server }),
            Ok(Err(source)) => Err(LookupError::Io { server: *server, source }),
            Ok(Ok(bytes)) => read(*server, id, &bytes),
        };
        match answer {
            Ok(places) => return Ok(places),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn query(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let (name, kind) = (Name::new(name).ok()?, QTYPE::TYPE(TYPE::SRV));
    packet.questions.push(Question::new(name, kind, QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().ok()
}

/// Asks one server, by a datagram; by a connection if the answer is too large for one.
async fn ask(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected, it hears nobody else.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let size = socket.recv(&mut answer).await?;
        // What answers another question is late, or forged.
        if size >= 12 && answer[..2] == query[..2] {
            answer.truncate(size);
            break;
        }
    }
    let is_cut = Packet::parse(&answer)
        .map_or_else(|_| answer[2] & 0b10 != 0, |packet| packet.has_flags(PacketFlag::TRUNCATION));
    if !is_cut {
        return Ok(answer);
    }
    let mut connection = TcpStream::connect(server).await?;
    let size = u16::try_from(query.len()).map_err(io::Error::other)?;
    connection.write_all(&size.to_be_bytes()).await?;
    connection.write_all(query).await?;
    let size = connection.read_u16().await?;
    let mut answer = vec![0; usize::from(size)];
    connection.read_exact(&mut answer).await?;
    Ok(answer)
}

fn read(server: SocketAddr, id: u16, bytes: &[u8]) -> Result<Vec<String>, LookupError> {
    let packet = Packet::parse(bytes).map_err(|_| LookupError::Garbled { server })?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Err(LookupError::Garbled { server });
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Vec::new()),
        code => return Err(LookupError::Refused { server, code }),
    }
    let services = packet.answers.iter().filter_map(|answer| match &answer.rdata {
        RData::SRV(service) => Some(service),
        _ => None,
    });
    let places = services.map(|service| format!("{}:{}", service.target, service.port));
    let places: Vec<String> = places.collect();
    match places.iter().all(|place| Url::parse(&format!("http://{place}")).is_ok()) {
        true => Ok(places),
        false => Err(LookupError::Garbled { server }),
    }
}
