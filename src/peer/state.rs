//! A member's whole state, for another that lost its own. Not of rafthttp: between kvorums only.
//!
//! ```text
//! GET /kvorum/state      200, the state as a bbolt file
//! ```
//!
//! Whoever asks has no node yet: its state is damaged, and it must not begin without one. It says
//! who it is as in every other request, and is answered if it is a member of this cluster.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::dial::{Connection, Trouble, text, whole};
use super::headers::{CLUSTER_ID, Identity, Membership, Unwelcome};
use super::server::Desk;
use crate::limits;
use crate::node::Outgoing;
use crate::tls;

pub(super) const PATH: &str = "/kvorum/state";

/// Why another member's state did not come.
#[derive(Debug, thiserror::Error)]
#[error("{urls}: {why}")]
pub struct FetchError {
    urls: String,
    why: String,
}

/// Writes the state of the first of `urls` that gives it into `file`; which one it was.
pub async fn fetch(
    identity: &Identity,
    urls: &[String],
    tls: Option<&Arc<tls::Peers>>,
    file: &Path,
) -> Result<String, FetchError> {
    let mut why = String::from("nobody to ask");
    for url in urls {
        match fetch_from(identity, url, tls.map(|tls| &**tls), file).await {
            Ok(()) => return Ok(url.clone()),
            Err(error) => {
                tracing::warn!(url, %error, "a peer does not give its state");
                why = error.to_string();
            }
        }
    }
    Err(FetchError { urls: urls.join(", "), why })
}

async fn fetch_from(
    identity: &Identity,
    url: &str,
    tls: Option<&tls::Peers>,
    file: &Path,
) -> Result<(), Trouble> {
    let patience = limits::PEER_SNAPSHOT_STALL;
    let mut connection = Connection::open(url, patience, tls).await?;
    let asked =
        connection.ask_patiently(Method::GET, PATH, identity.headers(None), whole(Bytes::new()));
    let answer = timeout(patience, asked).await.map_err(|_| Trouble::Slow(patience))??;
    let status = answer.status();
    let cluster = answer.headers().get(CLUSTER_ID).and_then(|id| id.to_str().ok());
    if cluster != Some(&format!("{:x}", identity.cluster_id)) {
        return Err(Unwelcome::Cluster.into());
    }
    if status != StatusCode::OK {
        let (status, text) = (status.as_u16(), text(answer.into_body()).await);
        return Err(Unwelcome::Unexpected { status, text }.into());
    }
    receive(answer.into_body(), file).await
}

async fn receive(mut body: Incoming, path: &Path) -> Result<(), Trouble> {
    let patience = limits::PEER_SNAPSHOT_STALL;
    let said = body.size_hint().exact();
    let (mut file, mut bytes) = (File::create(path)?, 0);
    loop {
        let frame = timeout(patience, body.frame()).await.map_err(|_| Trouble::Slow(patience))?;
        let Some(frame) = frame else { break };
        if let Ok(piece) = frame?.into_data() {
            // Nothing else runs yet, so nobody waits for this write.
            file.write_all(&piece)?;
            bytes += piece.len() as u64;
        }
    }
    if said.is_some_and(|said| said != bytes) { Err(Trouble::End) } else { Ok(()) }
}

/// The file, as the body of an answer.
pub(super) struct State {
    state: Outgoing,
    _seat: OwnedSemaphorePermit,
}

/// What becomes of a request for our state.
pub(super) enum Given {
    State(State),
    Refused(StatusCode, String),
}

impl Desk {
    /// Our state, for a member of this cluster.
    pub(super) async fn state(&self, method: &Method, headers: &HeaderMap) -> Given {
        if method != Method::GET {
            return Given::Refused(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".into());
        }
        if let Err(refusal) = self.identity.check_compatible(headers) {
            return Given::Refused(refusal.status(), format!("{refusal}\n"));
        }
        let from = super::headers::sender(headers);
        if !from.is_some_and(|id| self.host.membership(id) == Membership::Member) {
            let why = "only members of this cluster are given its state\n";
            return Given::Refused(StatusCode::FORBIDDEN, why.into());
        }
        let busy = || Given::Refused(StatusCode::SERVICE_UNAVAILABLE, "busy, ask again\n".into());
        let Ok(seat) = self.snapshots.clone().try_acquire_owned() else { return busy() };
        let host = self.host.clone();
        match tokio::task::spawn_blocking(move || host.hand_out_state()).await {
            Ok(Ok(state)) => Given::State(State { state, _seat: seat }),
            Ok(Err(error)) => Given::Refused(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
            Err(_) => busy(),
        }
    }
}

impl State {
    pub fn headers(&self) -> HeaderMap {
        let kind = header::HeaderValue::from_static("application/octet-stream");
        HeaderMap::from_iter([
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_LENGTH, header::HeaderValue::from(self.state.bytes)),
        ])
    }
}

impl Body for State {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.state.chunks.poll_recv(context).map(|piece| Some(piece?.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.state.bytes)
    }
}
