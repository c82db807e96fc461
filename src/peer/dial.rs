//! Requests to other members.

use std::error::Error;
use std::io::{self, ErrorKind::TimedOut};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::codec::BadStream;
use super::headers::{CLUSTER_ID, Unwelcome, read_id};
use super::patience::Patient;
use crate::config::{Scheme, Url};
use crate::limits;
use crate::tls;

/// The longest text of a refusal that is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why nothing comes of a request to another member.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no address that can be dialed: {0:?}")]
    Address(Vec<String>),
    #[error("not done within {} s", .0.as_secs_f32())]
    Slow(Duration),
    #[error("the stream ended")]
    End,
    #[error(
        "{0} asks for TLS, but there is no certificate to show: --peer-cert-file and \
         --peer-key-file are not given"
    )]
    NoTls(String),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{}", explain(.0))]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error(transparent)]
    Unwelcome(#[from] Unwelcome),
    #[error(transparent)]
    Stream(#[from] BadStream),
}

impl Trouble {
    /// Whether the other side closed the connection, or the stream. Silence is another matter.
    pub fn is_close(&self) -> bool {
        match self {
            Trouble::End => true,
            Trouble::Http(error) => !error.is_timeout() && io_kind(error) != Some(TimedOut),
            Trouble::Io(error) => error.kind() != TimedOut,
            Trouble::Address(_)
            | Trouble::Slow(_)
            | Trouble::NoTls(_)
            | Trouble::Tls(_)
            | Trouble::Request(_)
            | Trouble::Unwelcome(_)
            | Trouble::Stream(_) => false,
        }
    }

    /// Whether nobody listens at the other side, and its kernel says so.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Trouble::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// What the operating system said, if it did.
fn io_kind(error: &dyn Error) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// An error that says little itself, and what is behind it: an alert of TLS, a broken connection.
fn explain(error: &hyper::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What requests carry.
pub(super) type Load = UnsyncBoxBody<Bytes, io::Error>;

/// A request's body of known bytes.
pub(super) fn whole(bytes: Bytes) -> Load {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A connection that takes one request after another.
#[derive(Debug)]
pub(super) struct Connection {
    authority: String,
    requests: SendRequest<Load>,
}

impl Connection {
    /// Connects to the member at a URL, whose other side may let writes wait so long.
    pub async fn open(
        text: &str,
        patience: Duration,
        peers: Option<&tls::Peers>,
    ) -> Result<Self, Trouble> {
        let url = Url::parse(text.trim_end_matches('/'));
        let url = url.map_err(|_| Trouble::Address(vec![text.to_owned()]))?;
        let connect = async {
            let stream = TcpStream::connect(&*url.address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, Trouble>(Patient::new(stream, patience))
        };
        let opened = async {
            match (url.scheme, peers) {
                (Scheme::Http, _) => Self::on(connect.await?, &url.address).await,
                (Scheme::Https, Some(peers)) => {
                    let stream = peers.connect(url.host(), connect.await?).await;
                    Self::on(stream.map_err(Trouble::Tls)?, &url.address).await
                }
                (Scheme::Https, None) => Err(Trouble::NoTls(text.to_owned())),
                (Scheme::Unix | Scheme::Unixs, _) => Err(Trouble::Address(vec![text.to_owned()])),
            }
        };
        in_time(limits::PEER_DIAL_TIMEOUT, opened).await
    }

    /// Talks to a member over what connects to it.
    pub async fn on<S>(stream: S, authority: &str) -> Result<Self, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Ok(Self { authority: authority.to_owned(), requests: begin(stream).await? })
    }

    /// Whether another request can be sent.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Sends a request and waits for the head of the answer, not for long.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Load,
    ) -> Result<Response<Incoming>, Trouble> {
        let asked = self.ask_patiently(method, path, headers, body);
        in_time(limits::PEER_IO_TIMEOUT, asked).await
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn ask_patiently(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Load,
    ) -> Result<Response<Incoming>, Trouble> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(http::Error::from)?;
        *request.headers_mut() = headers;
        let host = header::HeaderValue::from_str(&self.authority).map_err(http::Error::from)?;
        request.headers_mut().insert(header::HOST, host);
        self.requests.ready().await?;
        Ok(self.requests.send_request(request).await?)
    }
}

/// Speaks HTTP on a stream. It ends with the last of the request and its answer; errors come out
/// there.
async fn begin<S>(stream: S) -> Result<SendRequest<Load>, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(requests)
}

/// The text of a refusal.
pub(super) async fn text(body: Incoming) -> String {
    let read = Limited::new(body, REFUSAL_BYTES_MAX).collect();
    match timeout(limits::PEER_IO_TIMEOUT, read).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Ok(Err(_)) | Err(_) => String::new(),
    }
}

/// The cluster that an answer comes from, and what it says in JSON of so many bytes at the most;
/// `otherwise` is what is said of one that says neither.
pub(super) async fn json<T: DeserializeOwned>(
    answer: Response<Incoming>,
    bytes_max: usize,
    otherwise: &str,
) -> Result<(u64, T), Trouble> {
    let status = answer.status();
    let cluster = answer.headers().get(CLUSTER_ID).and_then(|id| read_id(id.to_str().ok()?));
    if status != StatusCode::OK {
        let (status, text) = (status.as_u16(), text(answer.into_body()).await);
        return Err(Unwelcome::Unexpected { status, text }.into());
    }
    let body = Limited::new(answer.into_body(), bytes_max).collect().await;
    let said = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
    cluster.zip(said).ok_or_else(|| {
        Unwelcome::Unexpected { status: status.as_u16(), text: otherwise.to_owned() }.into()
    })
}

/// A future's outcome, or that it took too long.
pub(super) async fn in_time<T>(
    time: Duration,
    future: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    timeout(time, future).await.unwrap_or(Err(Trouble::Slow(time)))
}
