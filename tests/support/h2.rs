//! One HTTP/2 request as it stands: methods, headers and frames that no gRPC client would send.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::Status;

use super::line::{Line, Outcome};
use super::print;

/// Runs `h2 METHOD PATH [MESSAGE] [headers="NAME: VALUE | ..."] [flag=N] [code_only]`.
///
/// A message goes into a frame whose first byte is `flag`; without one the body is empty. The
/// request is gRPC by its content type unless `headers` have another.
pub async fn run(address: &str, mut line: Line) -> Outcome {
    let (method, path) = (line.text("method")?, line.text("path")?);
    let code_only = line.flag("code_only");
    let flag = u8::try_from(line.named_number("flag")?)?;
    let headers = line.named("headers").unwrap_or_default();
    let message = line.maybe_word();
    line.finish()?;
    let mut request = Request::builder().method(method.as_str());
    request = request.uri(format!("http://{address}{path}"));
    let request = request.body(message.map_or_else(Full::default, |message| frame(flag, &message)));
    let mut request = request?;
    *request.headers_mut() = parse(&headers)?;
    let (sender, connection) = {
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?
    };
    // The connection ends with its only request.
    tokio::spawn(connection);
    let mut sender = sender;
    show(sender.send_request(request).await?, code_only).await
}

fn frame(flag: u8, message: &[u8]) -> Full<Bytes> {
    let mut body = BytesMut::new();
    body.put_u8(flag);
    body.put_u32(u32::try_from(message.len()).expect("a script's message is short"));
    body.put_slice(message);
    Full::new(body.freeze())
}

fn parse(headers: &[u8]) -> Outcome<HeaderMap> {
    let mut map = HeaderMap::new();
    map.insert("content-type", HeaderValue::from_static("application/grpc"));
    map.insert("te", HeaderValue::from_static("trailers"));
    for header in headers.split(|byte| *byte == b'|').filter(|header| !header.is_empty()) {
        let colon = header.iter().position(|byte| *byte == b':').ok_or("a header has a colon")?;
        let (name, value) = (header[..colon].trim_ascii(), header[colon + 1..].trim_ascii());
        map.insert(HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value)?);
    }
    Ok(map)
}

/// The status of HTTP, that of gRPC wherever it stands, and how many messages came.
async fn show(response: Response<Incoming>, code_only: bool) -> Outcome {
    let (head, body) = response.into_parts();
    let body = body.collect().await?;
    let mut out = head.status.as_u16().to_string();
    for name in ["content-type", "grpc-encoding"] {
        if let Some(value) = head.headers.get(name) {
            write!(out, " {name}={value:?}")?;
        }
    }
    let trailers = body.trailers().cloned().unwrap_or_default();
    let bytes = body.to_bytes();
    if head.headers.get("content-type").is_none_or(|value| !value.as_bytes().ends_with(b"grpc")) {
        return Ok(out);
    }
    let status = Status::from_header_map(&head.headers).or(Status::from_header_map(&trailers));
    match status {
        None => out.push_str(" no status"),
        Some(status) if status.code() == tonic::Code::Ok => out.push_str(" Ok"),
        Some(status) if code_only => write!(out, " {}", print::code(&status))?,
        Some(status) => write!(out, " {}", print::status(&status))?,
    }
    for flag in flags(&bytes)? {
        write!(out, "\n  a message{}", if flag == 1 { ", zipped" } else { "" })?;
    }
    Ok(out)
}

/// The first byte of each frame.
fn flags(mut rest: &[u8]) -> Outcome<Vec<u8>> {
    let mut flags = Vec::new();
    while let [flag, a, b, c, d, tail @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        flags.push(*flag);
        rest = tail.get(length..).ok_or("a message is cut short")?;
    }
    Ok(flags)
}
