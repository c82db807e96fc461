//! HTTP/1.1 by hand: one request, one connection, the answer as it stands.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::line::{Line, Outcome};

const TIME_MAX: Duration = Duration::from_secs(20);

/// What a script shows of an answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }
}

/// Runs `http METHOD PATH [body=TEXT] [headers="NAME: VALUE | ..."] [show="name name"] [no_body]`.
pub fn run(address: &str, mut line: Line) -> Outcome {
    let no_body = line.flag("no_body");
    let (method, path) = (line.text("method")?, line.text("path")?);
    let body = line.named("body").unwrap_or_default();
    let headers = line.named_text("headers")?.unwrap_or_default();
    let show = line.named_text("show")?.unwrap_or_default();
    line.finish()?;
    let headers: String =
        headers.split('|').map(|header| format!("{}\r\n", header.trim())).collect();
    let reply = exchange(address, &method, &path, headers.trim_start(), &body)?;
    let mut out = reply.status.to_string();
    for name in ["content-type", "allow", "location"].into_iter().chain(show.split_whitespace()) {
        if let Some(value) = reply.header(name) {
            write!(out, " {name}={value:?}")?;
        }
    }
    if no_body {
        return Ok(out);
    }
    for text in body_lines(&reply.body) {
        write!(out, "\n  {text}")?;
    }
    Ok(out)
}

/// The body line by line. Checks are sorted, since etcd lists them in random order, and the
/// server's own patch version is left out.
fn body_lines(body: &str) -> Vec<String> {
    let mut lines: Vec<String> = body.lines().map(mask_patch_version).collect();
    let checks = lines.iter().take_while(|line| line.starts_with('[')).count();
    lines[..checks].sort_by(|one, other| one[3..].cmp(&other[3..]));
    for line in lines.iter_mut().filter(|line| line.is_empty()) {
        line.push_str("(empty line)");
    }
    if !body.is_empty() && !body.ends_with('\n') {
        lines.push("(no newline)".to_owned());
    }
    lines
}

fn mask_patch_version(line: &str) -> String {
    const SERVER: &str = "{\"etcdserver\":\"3.7.";
    match line.strip_prefix(SERVER) {
        Some(rest) => {
            let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{SERVER}x{rest}")
        }
        None => line.to_owned(),
    }
}

/// Sends one request and reads until the server closes.
pub fn request(address: &str, method: &str, path: &str, body: &[u8]) -> Outcome<Reply> {
    exchange(address, method, path, "", body)
}

/// As [`request`], with lines of headers.
fn exchange(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Outcome<Reply> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(TIME_MAX))?;
    if connection.local_addr()? == connection.peer_addr()? {
        return Err("nobody listens there but this very connection".into());
    }
    let length = body.len();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    head.push_str(headers);
    if length > 0 {
        write!(head, "Content-Type: application/json\r\nContent-Length: {length}\r\n")?;
    }
    head.push_str("\r\n");
    connection.write_all(head.as_bytes())?;
    connection.write_all(body)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> Outcome<Reply> {
    const END: &[u8] = b"\r\n\r\n";
    let at = answer.windows(END.len()).position(|bytes| bytes == END);
    let (head, rest) = answer.split_at(at.ok_or("the answer has no head")?);
    let (head, rest) = (String::from_utf8_lossy(head), &rest[END.len()..]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status line")?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let mut reply = Reply { status: status.parse()?, headers, body: String::new() };
    let is_chunked = reply.header("transfer-encoding") == Some("chunked");
    let body = if is_chunked { dechunk(rest)? } else { rest.to_vec() };
    reply.body = String::from_utf8_lossy(&body).into_owned();
    Ok(reply)
}

fn dechunk(mut rest: &[u8]) -> Outcome<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end =
            rest.windows(2).position(|bytes| bytes == b"\r\n").ok_or("a chunk has no size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16)?;
        if size == 0 {
            return Ok(body);
        }
        let tail = &rest[end + 2..];
        body.extend_from_slice(tail.get(..size).ok_or("a chunk is cut short")?);
        rest = tail.get(size + 2..).ok_or("a chunk is cut short")?;
    }
}
