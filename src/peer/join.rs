//! What a member asks of others before it is one: who they are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::dial::{Connection, Trouble, in_time, json, whole};
use crate::limits;
use crate::members::Member;
use crate::tls;

/// The longest list of members that is read.
const MEMBERS_BYTES_MAX: usize = 1024 * 1024;

/// Nobody said who the members are.
#[derive(Debug, thiserror::Error)]
#[error("could not retrieve cluster information from the given URLs: {0}")]
pub struct AskError(String);

/// The id and the members of the cluster that the first of `urls` that answers belongs to. Each is
/// given so much time.
pub async fn members(
    urls: &[String],
    tls: Option<&Arc<tls::Peers>>,
    patience: Duration,
) -> Result<(u64, Vec<Member>), AskError> {
    let mut why = Vec::new();
    for url in urls {
        match in_time(patience, ask(url, tls.map(|tls| &**tls))).await {
            Ok(answer) => return Ok(answer),
            Err(error) => why.push(format!("{url}: {error}")),
        }
    }
    Err(AskError(if why.is_empty() { "there are none".into() } else { why.join("; ") }))
}

async fn ask(url: &str, tls: Option<&tls::Peers>) -> Result<(u64, Vec<Member>), Trouble> {
    let mut connection = Connection::open(url, limits::PEER_IO_TIMEOUT, tls).await?;
    let asked = connection.ask(Method::GET, "/members", HeaderMap::new(), whole(Bytes::new()));
    let answer = asked.await?;
    json(answer, MEMBERS_BYTES_MAX, "it says nothing that a member would say").await
}
