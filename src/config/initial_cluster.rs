//! The founding members: reading `--initial-cluster`, and whether this member is among them.
//!
//! The text is read at every start. Whether it fits is asked only when a cluster is founded or
//! joined: a member that has data ignores what its manifest still says about the beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs as _;

use super::url::{Url, UrlError};
use super::{ClusterState, Config};
use crate::members::{Difference, difference};

/// Why a cluster is neither founded nor joined. The words are those operators know from etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundingError {
    #[error(
        "--initial-cluster-state=existing joins a cluster that runs, and founds none; found one \
         with --initial-cluster-state=new, or restore a snapshot"
    )]
    Existing,
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotNamed(String),
    #[error("--initial-cluster={cluster} has {pair} twice; name every member once")]
    Twice { cluster: String, pair: String },
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={urls} \
         ({why}){}", several(*.repeated)
    )]
    NotAdvertised { missing: String, urls: String, why: Difference, repeated: usize },
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}"
    )]
    NotFounding { missing: String, cluster: String },
    #[error("initial cluster {cluster} has duplicate url {url}")]
    Duplicate { cluster: String, url: String },
}

/// What a name that stands several times means, for those who meant several members.
fn several(repeated: usize) -> String {
    match repeated {
        0 | 1 => String::new(),
        times => format!(
            "; its name stands {times} times in --initial-cluster, which makes it one member with \
             {times} URLs: give every member a name of its own"
        ),
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

/// Names that stand several times, with their URLs. It is allowed, and seldom meant.
pub fn repeated(pairs: &[(String, String)]) -> Vec<(String, String)> {
    let mut urls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, url) in pairs {
        urls.entry(name).or_default().push(url);
    }
    let repeated = urls.into_iter().filter(|(_, urls)| urls.len() > 1);
    repeated.map(|(name, urls)| (name.to_owned(), urls.join(","))).collect()
}

impl Config {
    /// Whether this member may found the cluster it is told to found. Names are looked up in DNS
    /// if the URLs differ as texts.
    pub fn verify_founding(&self) -> Result<(), FoundingError> {
        let ours = self.founding_urls()?;
        self.verify_once()?;
        self.verify_advertised(&ours)?;
        self.verify_apart()?;
        match self.initial_cluster_state {
            ClusterState::New => Ok(()),
            ClusterState::Existing => Err(FoundingError::Existing),
        }
    }

    /// Whether this member may ask the members it is told of to join them. What they say decides
    /// the rest, see [`crate::members::join`].
    pub fn verify_joining(&self) -> Result<(), FoundingError> {
        self.founding_urls()?;
        self.verify_once()?;
        self.verify_apart()
    }

    /// The peer URLs of this member in `--initial-cluster`.
    fn founding_urls(&self) -> Result<Vec<String>, FoundingError> {
        let own = self.initial_cluster.iter().filter(|(name, _)| *name == self.name);
        let urls: Vec<String> = own.map(|(_, url)| url.clone()).collect();
        if urls.is_empty() || self.name.is_empty() {
            return Err(FoundingError::NotNamed(self.name.clone()));
        }
        Ok(urls)
    }

    /// Refuses a pair written twice.
    fn verify_once(&self) -> Result<(), FoundingError> {
        let mut pairs = BTreeSet::new();
        let cluster = &self.initial_cluster;
        let Some(pair) = cluster.iter().find(|pair| !pairs.insert(*pair)) else { return Ok(()) };
        let pair = print(std::slice::from_ref(pair));
        Err(FoundingError::Twice { cluster: print(cluster), pair })
    }

    /// Refuses a URL that is said to be of two members.
    fn verify_apart(&self) -> Result<(), FoundingError> {
        let mut urls = BTreeSet::new();
        let mut all = self.initial_cluster.iter().map(|(_, url)| url);
        let Some(url) = all.find(|url| !urls.insert(*url)) else { return Ok(()) };
        let cluster = print(&self.initial_cluster);
        Err(FoundingError::Duplicate { cluster, url: url.clone() })
    }

    fn verify_advertised(&self, founding: &[String]) -> Result<(), FoundingError> {
        let mut advertised = self.initial_advertise_peer_urls.clone();
        advertised.sort();
        advertised.dedup();
        let Some(why) = difference(&advertised, founding, &resolve) else { return Ok(()) };
        let missing: Vec<String> = founding
            .iter()
            .filter(|url| !advertised.contains(url))
            .map(|url| format!("{}={url}", self.name))
            .collect();
        if !missing.is_empty() {
            let (missing, urls) = (missing.join(","), advertised.join(","));
            let repeated = if founding.len() > advertised.len() { founding.len() } else { 0 };
            return Err(FoundingError::NotAdvertised { missing, urls, why, repeated });
        }
        let missing: Vec<String> =
            advertised.iter().filter(|url| !founding.contains(url)).cloned().collect();
        let (missing, cluster) = (missing.join(","), print(&self.initial_cluster));
        Err(FoundingError::NotFounding { missing, cluster })
    }
}

/// The URL with an address for its name, if it has one. `localhost` stays: it names no place.
pub fn resolve(text: &str) -> String {
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
