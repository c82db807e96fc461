//! Plain HTTP beside gRPC: health, version, metrics.
//!
//! Paths, statuses and bodies are etcd's. Anything else is 404; a method other than GET is 405
//! where the path exists.

mod health;
mod metrics;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use crate::node::Handle;
use crate::version;

/// Which paths a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// A client listener: gRPC and everything here.
    Client,
    /// A client listener that leaves plain HTTP to another: gRPC alone.
    Grpc,
    /// A client listener without gRPC.
    Http,
    /// A metrics listener: metrics and health alone.
    Metrics,
}

impl Surface {
    /// Whether gRPC is answered.
    pub fn has_grpc(self) -> bool {
        matches!(self, Surface::Client | Surface::Grpc)
    }

    fn has(self, path: &str) -> bool {
        match self {
            Surface::Grpc => false,
            Surface::Client | Surface::Http | Surface::Metrics => match path {
                "/health" | "/metrics" => true,
                "/version" => self != Surface::Metrics,
                _ => health::is_probe(path),
            },
        }
    }
}

/// Answers one plain request.
pub async fn answer<B>(
    node: &Handle,
    surface: Surface,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !surface.has(path) {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if request.method() == Method::OPTIONS {
        return Response::new(Full::new(Bytes::new()));
    }
    if request.method() != Method::GET && path != "/metrics" {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET"));
        return response;
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match path {
        "/health" => health::health(node, &query).await,
        "/metrics" => metrics::metrics(node),
        "/version" => version_of(node).await,
        _ => health::probe(node, path, &query).await,
    }
}

/// `/version`: what is served, and what the cluster agreed on.
async fn version_of(node: &Handle) -> Response<Full<Bytes>> {
    let agreed = node.inspect(|machine| machine.cluster_version().map(str::to_owned)).await;
    let cluster = agreed.ok().flatten().unwrap_or_else(|| "not_decided".to_owned());
    let body = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{cluster}","storage":"{}"}}"#,
        version::SERVER,
        version::STORAGE,
    );
    respond(StatusCode::OK, "application/json", body)
}

/// A response with Go's content type for text.
fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    if status != StatusCode::OK {
        let nosniff = header::HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    }
    response
}

/// The parameters of a request, in order, percent-decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }
}

/// Undoes percent-encoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
