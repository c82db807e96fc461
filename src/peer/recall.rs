//! What a member asks of kvorums before it begins: what they heard it promise, and to be replaced
//! if it forgot that. Not of rafthttp.
//!
//! ```text
//! GET  /kvorum/promises    200, what members were heard to promise: their ids, terms, indexes
//! POST /kvorum/replace     200, the new id and the members; 503, ask again; 403, no
//! ```
//!
//! Who asks to be replaced has no log and can prove nothing by one. It must call from an address
//! that a host of its peer URLs has; where peers use TLS, the door has compared its certificate
//! with that address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::dial::{Connection, Trouble, in_time, json, whole};
use super::forward::{Reply, read_request, unreadable};
use super::headers::Unwelcome;
use super::server::Desk;
use crate::config::Url;
use crate::limits;
use crate::node::{Heard, Promise, Replaced};
use crate::tls;

pub(super) const PROMISES: &str = "/kvorum/promises";
pub(super) const REPLACE: &str = "/kvorum/replace";

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[derive(Serialize, Deserialize)]
pub(super) struct Promised {
    member: u64,
    term: u64,
    index: u64,
}

/// The body of a request to be replaced.
#[derive(Serialize, Deserialize)]
struct ReplaceRequest {
    peer_urls: Vec<String>,
}

/// Why a member is not replaced.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Somebody else may say yes, or the same one a moment later.
    #[error("{0}")]
    NotNow(String),
    #[error("{0}")]
    No(String),
}

/// What those of `urls` that answer in time have heard.
pub async fn promises(urls: &[String], tls: Option<&Arc<tls::Peers>>, patience: Duration) -> Heard {
    let mut asking = tokio::task::JoinSet::new();
    for url in urls {
        let (url, tls) = (url.clone(), tls.cloned());
        asking.spawn(async move {
            let asked = ask::<Vec<Promised>>(&url, tls.as_deref(), Method::GET, PROMISES, b"");
            let answer = in_time(patience, asked).await;
            answer.inspect_err(|error| tracing::debug!(url, %error, "no promises are told"))
        });
    }
    let mut heard = Heard::new();
    while let Some(answer) = asking.join_next().await {
        let Ok(Ok((cluster, promises))) = answer else { continue };
        for Promised { member, term, index } in promises {
            let known = heard.entry((cluster, member)).or_default();
            *known = Promise { term, index }.max(*known);
        }
    }
    heard
}

/// Asks one member to have the one with these peer URLs replaced.
pub async fn replace(
    url: &str,
    tls: Option<&Arc<tls::Peers>>,
    peer_urls: &[String],
) -> Result<Replaced, Denied> {
    let request = ReplaceRequest { peer_urls: peer_urls.to_vec() };
    let body = serde_json::to_vec(&request).expect("texts are JSON");
    let asked = ask::<Replaced>(url, tls.map(|tls| &**tls), Method::POST, REPLACE, &body);
    match in_time(limits::PEER_QUESTION_TIMEOUT, asked).await {
        Ok((_, replaced)) => Ok(replaced),
        Err(Trouble::Unwelcome(Unwelcome::Unexpected { status: 403, text })) => {
            Err(Denied::No(text.trim().to_owned()))
        }
        Err(Trouble::Unwelcome(Unwelcome::Unexpected { status: 503, text })) => {
            Err(Denied::NotNow(text.trim().to_owned()))
        }
        Err(error) => Err(Denied::NotNow(error.to_string())),
    }
}

/// The cluster that an answer comes from, and what it says.
async fn ask<T: DeserializeOwned>(
    url: &str,
    tls: Option<&tls::Peers>,
    method: Method,
    path: &str,
    body: &[u8],
) -> Result<(u64, T), Trouble> {
    let mut connection = Connection::open(url, limits::PEER_QUESTION_TIMEOUT, tls).await?;
    let body = whole(Bytes::copy_from_slice(body));
    let answer = connection.ask_patiently(method, path, HeaderMap::new(), body).await?;
    json(answer, ANSWER_BYTES_MAX, "it says nothing that a kvorum would say").await
}

impl Desk {
    /// What we heard others promise.
    pub(super) fn promises(&self, method: &Method) -> Reply {
        if method != Method::GET {
            return Reply::method(Some("GET"));
        }
        let heard: BTreeMap<u64, Promise> = self.host.promises();
        let told = heard.into_iter();
        let told = told.map(|(member, Promise { term, index })| Promised { member, term, index });
        let told: Vec<Promised> = told.collect();
        let body = serde_json::to_vec(&told).expect("numbers are JSON");
        self.signed(Reply::of("application/json", body))
    }

    /// Replaces the member that calls.
    pub(super) async fn replacement(&self, method: &Method, body: Incoming, from: IpAddr) -> Reply {
        if method != Method::POST {
            return Reply::method(Some("POST"));
        }
        let request = match read_request(body).await {
            Ok(request) => serde_json::from_slice(&request),
            Err(refusal) => return refusal,
        };
        let Ok(ReplaceRequest { peer_urls }) = request else { return unreadable() };
        // Only a member's names are looked up. Without one of these URLs the node says no.
        let members = self.host.members();
        let known = members.iter().flat_map(|member| &member.peer_urls);
        let known: Vec<_> = known.filter(|url| peer_urls.contains(url)).cloned().collect();
        if !known.is_empty() && !lives_at(&known, from).await {
            tracing::warn!(%from, ?peer_urls, "a stranger asks to have a member replaced");
            let why = format!("{from} is no address of {}", peer_urls.join(", "));
            return self.signed(Reply::refusal(StatusCode::FORBIDDEN, &why));
        }
        self.signed(match self.host.replace(peer_urls).await {
            Ok(replaced) => {
                let body = serde_json::to_vec(&replaced).expect("members are strings and numbers");
                Reply::of("application/json", body)
            }
            Err(why) if why.may_pass() => {
                Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())
            }
            Err(why) => Reply::refusal(StatusCode::FORBIDDEN, &why.to_string()),
        })
    }
}

/// Whether a host of one of these URLs has this address.
async fn lives_at(peer_urls: &[String], from: IpAddr) -> bool {
    for url in peer_urls {
        let Ok(url) = Url::parse(url) else { continue };
        let found = tokio::net::lookup_host(url.address.clone()).await;
        let is_from =
            |address: std::net::SocketAddr| address.ip().to_canonical() == from.to_canonical();
        if found.is_ok_and(|mut found| found.any(is_from)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_member_lives_at_the_addresses_of_its_hosts() {
        let lives = async |urls: &[&str], from: &str| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            lives_at(&urls, from.parse().expect("an address")).await
        };
        assert!(lives(&["http://127.0.0.1:2380"], "127.0.0.1").await);
        assert!(lives(&["http://127.0.0.1:2380"], "::ffff:127.0.0.1").await);
        assert!(lives(&["https://192.0.2.1:2380", "http://[::1]:2380"], "::1").await);
        assert!(lives(&["https://localhost:2380"], "127.0.0.1").await);
        assert!(!lives(&["http://127.0.0.1:2380"], "127.0.0.2").await);
        assert!(!lives(&["http://192.0.2.1:2380", "nonsense"], "127.0.0.1").await);
        assert!(!lives(&[], "127.0.0.1").await);
    }
}
