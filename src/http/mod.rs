//! Plain HTTP beside gRPC: health, version, metrics.
//!
//! Paths, statuses, headers and bodies are etcd's. Anything else is 404; a method other than GET is
//! 405 where the path exists.

mod cors;
mod fuzz;
mod health;
mod metrics;
mod query;

pub use fuzz::fuzz_path;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::config::Config;
use crate::error::Error;
use crate::node::Handle;
use crate::version;
use cors::Cors;
use query::Query;

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

    /// Whether browsers and clients come here, and not only those who watch over the member.
    fn is_for_clients(self) -> bool {
        matches!(self, Surface::Client | Surface::Http)
    }

    fn has(self, path: &str) -> bool {
        match self {
            Surface::Grpc => false,
            Surface::Client | Surface::Http | Surface::Metrics => match path {
                "/health" | "/metrics" => true,
                "/version" => self.is_for_clients(),
                _ => health::is_probe(path),
            },
        }
    }
}

/// What is configured of plain HTTP, and what its answers share.
#[derive(Debug)]
pub struct Rules {
    cors: Cors,
    /// Whether somebody may expect the JSON gateway.
    gateway: bool,
    scrapes: metrics::Scrapes,
}

impl Rules {
    /// The rules of a member.
    pub fn new(config: &Config) -> Self {
        Self {
            cors: Cors::new(&config.cors),
            gateway: config.enable_grpc_gateway,
            scrapes: Default::default(),
        }
    }
}

/// Answers one plain request.
pub async fn answer<B>(
    node: &Handle,
    surface: Surface,
    rules: &Rules,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    if !surface.is_for_clients() {
        return route(node, surface, rules, request).await;
    }
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(Full::new(Bytes::new()))
    } else {
        route(node, surface, rules, request).await
    };
    rules.cors.allow(request.headers(), response.headers_mut());
    response
}

async fn route<B>(
    node: &Handle,
    surface: Surface,
    rules: &Rules,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    let path = query::decode_path(request.uri().path());
    let clean = query::clean_path(&path);
    if clean != path {
        return redirect(&clean, request);
    }
    if !surface.has(&path) {
        if rules.gateway && surface.is_for_clients() && path.starts_with("/v3/") {
            return no_gateway();
        }
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if request.method() != Method::GET && path != "/metrics" {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match &*path {
        "/health" => health::health(node, &query).await,
        "/metrics" => metrics::metrics(node, &rules.scrapes, request.headers()).await,
        "/version" => version_of(node).await,
        _ => health::probe(node, &path, &query).await,
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

/// Sends a client from `//health` to `/health`.
fn redirect<B>(path: &str, request: &Request<B>) -> Response<Full<Bytes>> {
    let mut location = query::encode_path(path);
    if let Some(query) = request.uri().query() {
        location = format!("{location}?{query}");
    }
    let Ok(value) = HeaderValue::from_str(&location) else {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let link = location.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;");
    let body = match *request.method() {
        Method::GET => format!("<a href=\"{link}\">Temporary Redirect</a>.\n\n"),
        _ => String::new(),
    };
    let mut response = respond(StatusCode::TEMPORARY_REDIRECT, "text/html; charset=utf-8", body);
    response.headers_mut().insert(header::LOCATION, value);
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    response
}

/// The refusal of the JSON gateway, in the shape its errors have.
fn no_gateway() -> Response<Full<Bytes>> {
    let error = Error::NotBuilt("the JSON gateway");
    let (code, message) = (error.code() as i32, error.to_string());
    let body = serde_json::json!({ "code": code, "message": message, "details": [] });
    respond(StatusCode::NOT_IMPLEMENTED, "application/json", body.to_string())
}

/// A response with Go's content type for text.
fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = respond(status, "text/plain; charset=utf-8", body);
    if status != StatusCode::OK {
        no_sniffing(&mut response);
    }
    response
}

/// Tells browsers to believe the content type.
fn no_sniffing(response: &mut Response<Full<Bytes>>) {
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
