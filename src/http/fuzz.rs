//! The body of the fuzz target `http_path`.

use http::HeaderMap;
use http::header::HeaderValue;

use super::cors::Cors;
use super::query::{Query, clean_path, decode_path, encode_path};
use super::{Surface, health};

/// Routes `bytes` as a request's path, `?` and its parameters. Whatever they are, this returns; and
/// whoever is sent to another path is sent there once.
pub fn fuzz_path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    let path = decode_path(path);
    let clean = clean_path(&path);
    assert!(clean.starts_with('/') && clean_path(&clean) == clean, "{clean:?} is clean");
    let location = encode_path(&clean);
    HeaderValue::from_str(&location).expect("a location is plain");
    let arrived = decode_path(&location);
    assert_eq!(clean_path(&arrived), arrived, "{location:?} leads nowhere else");
    for surface in [Surface::Client, Surface::Grpc, Surface::Http, Surface::Metrics] {
        assert!(surface != Surface::Grpc || !surface.has(&path), "gRPC alone");
        assert!(!surface.has(&path) || path == clean, "only clean paths are answered");
    }
    let _ = health::is_probe(&path);
    let query = Query::parse(query);
    for name in ["exclude", "verbose", "serializable", "allowlist"] {
        assert_eq!(query.has(name), query.all(name).count() > 0);
        assert_eq!(query.first(name), query.all(name).next());
    }
    if let Ok(origin) = HeaderValue::from_bytes(bytes) {
        let (mut request, mut response) = (HeaderMap::new(), HeaderMap::new());
        request.insert(http::header::ORIGIN, origin.clone());
        Cors::new(&["http://a".to_owned()]).allow(&request, &mut response);
        assert_eq!(response.is_empty(), origin != "http://a", "others are not allowed");
    }
}
