//! `--cors`: which web pages a browser lets read the answers.

use http::header::{self, HeaderMap, HeaderValue};

/// Whom to allow.
#[derive(Debug)]
pub(super) enum Cors {
    /// Everybody, as etcd does unless told otherwise.
    All,
    Origins(Vec<String>),
}

impl Cors {
    /// The origins of a configuration; `*` is everybody.
    pub fn new(origins: &[String]) -> Self {
        if origins.iter().any(|origin| origin == "*") {
            Self::All
        } else {
            Self::Origins(origins.to_vec())
        }
    }

    /// Adds what a browser wants to see, if the page that asks is allowed.
    pub fn allow(&self, request: &HeaderMap, response: &mut HeaderMap) {
        let origin = match self {
            Self::All => HeaderValue::from_static("*"),
            Self::Origins(allowed) => match request.get(header::ORIGIN) {
                Some(origin) if allowed.iter().any(|allowed| origin == allowed) => origin.clone(),
                _ => return,
            },
        };
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        let headers = HeaderValue::from_static("accept, content-type, authorization");
        response.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
    }
}
