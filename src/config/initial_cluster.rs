//! The founding members: reading `--initial-cluster`, and whether this member is among them.
//!
//! The text is read at every start. Whether it fits is asked only when a cluster is founded: a
//! member that has data ignores what its manifest still says about the beginning.

use std::collections::BTreeMap;
use std::fmt;
use std::net::ToSocketAddrs as _;

use super::url::{Url, UrlError};
use super::{ClusterState, Config};

/// Why a cluster is not founded. The words are those operators know from etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundingError {
    #[error(
        "--initial-cluster-state=existing joins a running cluster, and this version of kvorum runs \
         clusters of one member only; found one with --initial-cluster-state=new, or restore a \
         snapshot"
    )]
    Existing,
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotNamed(String),
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={urls} \
         ({why})"
    )]
    NotAdvertised { missing: String, urls: String, why: Difference },
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}"
    )]
    NotFounding { missing: String, cluster: String },
    #[error("failed to resolve {urls} to match --initial-cluster={cluster} ({why})")]
    Different { urls: String, cluster: String, why: Difference },
    #[error("initial cluster {0} has duplicate url")]
    Duplicate(String),
    #[error(
        "--initial-cluster={0} names several members, and this version of kvorum runs clusters of \
         one member only; name this member alone"
    )]
    Several(String),
}

/// How two lists of URLs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    Length(Vec<String>, Vec<String>),
    Url(String, String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |urls: &[String]| {
            let urls: Vec<String> = urls.iter().map(|url| format!("{url:?}")).collect();
            urls.join(" ")
        };
        match self {
            Self::Length(ours, theirs) => {
                write!(f, "len([{}]) != len([{}])", quote(ours), quote(theirs))
            }
            Self::Url(ours, theirs) => write!(f, "resolved urls: {ours:?} != {theirs:?}"),
        }
    }
}

/// Reads `name=url` pairs. Pairs come back sorted by name and URL; empty pieces are skipped.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, UrlError> {
    let mut pairs = Vec::new();
    for piece in text.split(',').filter(|piece| !piece.is_empty()) {
        let (name, url) = piece.split_once('=').unwrap_or((piece, ""));
        pairs.push((name.to_owned(), Url::parse(url)?.to_string()));
    }
    pairs.sort();
    Ok(pairs)
}

/// What `--initial-cluster` is when nobody says it: this member with all its peer URLs.
pub fn of_one(name: &str, peer_urls: &[String]) -> Vec<(String, String)> {
    peer_urls.iter().map(|url| (name.to_owned(), url.clone())).collect()
}

/// The pairs in the spelling of the flag.
pub fn print(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, url)| format!("{name}={url}")).collect();
    pairs.join(",")
}

impl Config {
    /// Whether this member may found the cluster it is told to found. Names are looked up in DNS
    /// if the URLs differ as texts.
    pub fn verify_founding(&self) -> Result<(), FoundingError> {
        let cluster = print(&self.initial_cluster);
        let ours: Vec<&String> = self
            .initial_cluster
            .iter()
            .filter(|(name, _)| *name == self.name)
            .map(|(_, url)| url)
            .collect();
        if ours.is_empty() || self.name.is_empty() {
            return Err(FoundingError::NotNamed(self.name.clone()));
        }
        self.verify_advertised(&ours)?;
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, url) in &self.initial_cluster {
            *uses.entry(url).or_default() += 1;
        }
        if uses.values().any(|count| *count > 1) {
            return Err(FoundingError::Duplicate(cluster));
        }
        match self.initial_cluster_state {
            ClusterState::New => Ok(()),
            ClusterState::Existing => Err(FoundingError::Existing),
        }
    }

    fn verify_advertised(&self, ours: &[&String]) -> Result<(), FoundingError> {
        let mut founding: Vec<String> = ours.iter().map(|url| (*url).clone()).collect();
        let mut advertised = self.initial_advertise_peer_urls.clone();
        founding.sort();
        advertised.sort();
        let Some(why) = difference(&advertised, &founding) else { return Ok(()) };
        let urls = advertised.join(",");
        let named = |url: &String| format!("{}={url}", self.name);
        let missing: Vec<String> =
            founding.iter().filter(|url| !advertised.contains(url)).map(named).collect();
        if !missing.is_empty() {
            return Err(FoundingError::NotAdvertised { missing: missing.join(","), urls, why });
        }
        let missing: Vec<String> =
            advertised.iter().filter(|url| !founding.contains(url)).cloned().collect();
        let cluster = print(&self.initial_cluster);
        if !missing.is_empty() {
            return Err(FoundingError::NotFounding { missing: missing.join(","), cluster });
        }
        // One pair written twice, which a widely copied manifest does.
        let cluster = ours.iter().map(|url| named(url)).collect::<Vec<_>>();
        let cluster = cluster.first().cloned().unwrap_or_default();
        Err(FoundingError::Different { urls, cluster, why })
    }
}

/// How two sorted lists differ; nothing if they are the same, or name the same addresses.
fn difference(ours: &[String], theirs: &[String]) -> Option<Difference> {
    if ours == theirs {
        return None;
    }
    if ours.len() != theirs.len() {
        return Some(Difference::Length(ours.to_vec(), theirs.to_vec()));
    }
    let (ours, theirs) = (resolve_all(ours), resolve_all(theirs));
    let (ours, theirs) = ours.into_iter().zip(theirs).find(|(ours, theirs)| ours != theirs)?;
    Some(Difference::Url(ours, theirs))
}

fn resolve_all(urls: &[String]) -> Vec<String> {
    let mut urls: Vec<String> = urls.iter().map(|url| resolve(url)).collect();
    urls.sort();
    urls
}

/// The URL with an address for its name, if it has one. `localhost` stays: it names no place.
fn resolve(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if !url.is_unix() && url.host() != "localhost" => {
            match url.address.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()) {
                Some(address) => Url { address: address.to_string(), ..url }.to_string(),
                None => text.to_owned(),
            }
        }
        Ok(_) | Err(_) => text.to_owned(),
    }
}
