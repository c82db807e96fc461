//! How answers look in a script: compact, complete, and the same every time.
//!
//! A field that is not set is not printed. Ids of the cluster and its member differ from run to
//! run, so they are held against the first ones seen instead of printed.

use std::fmt::Write as _;

use kvorum::pb::{self, EventType, KeyValue};
use prost::Message as _;

/// Longer bytes are printed as their head, their length and a checksum.
const BYTES_MAX: usize = 64;
/// More rows are printed as the first ones, the last one, and a checksum of all.
const ROWS_MAX: usize = 12;

/// Prints answers of one server, which must stay the same member of the same cluster.
#[derive(Default)]
pub struct Printer {
    pub cluster_id: u64,
    pub member_id: u64,
    /// The member that was added last.
    pub other_id: u64,
}

impl Printer {
    /// A header is `rev=N`; `bare` says that nothing but the revision is in it.
    pub fn header(&mut self, header: Option<&pb::ResponseHeader>) -> String {
        let Some(header) = header else {
            return "no-header".to_owned();
        };
        let mut out = format!("rev={}", header.revision);
        if (header.cluster_id, header.member_id, header.raft_term) == (0, 0, 0) {
            out.push_str(" bare");
            return out;
        }
        self.check_ids(header.cluster_id, header.member_id, &mut out);
        if header.raft_term == 0 {
            out.push_str(" no-term");
        }
        out
    }

    fn check_ids(&mut self, cluster_id: u64, member_id: u64, out: &mut String) {
        for (known, id, name) in [
            (&mut self.cluster_id, cluster_id, "cluster"),
            (&mut self.member_id, member_id, "member"),
        ] {
            if id == 0 {
                out.push_str(&format!(" no-{name}"));
            } else if *known == 0 {
                *known = id;
            } else if *known != id {
                out.push_str(&format!(" other-{name}"));
            }
        }
    }

    /// A member id as a script may name it.
    pub fn member(&self, id: u64) -> String {
        if id == self.member_id && id != 0 { "self".to_owned() } else { id.to_string() }
    }
}

/// An error is its code and its text.
pub fn status(status: &tonic::Status) -> String {
    format!("{}: {}", code(status), status.message())
}

/// A code by gRPC's spelling.
pub fn code(status: &tonic::Status) -> String {
    match status.code() {
        tonic::Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}

/// Appends ` name=value` unless the value is zero.
pub fn number(out: &mut String, name: &str, value: i64) {
    if value != 0 {
        out.push_str(&format!(" {name}={value}"));
    }
}

/// Appends ` name` if it holds.
pub fn flag(out: &mut String, name: &str, holds: bool) {
    if holds {
        out.push_str(&format!(" {name}"));
    }
}

/// Bytes as Go's `%q` has them, cut when they are many.
pub fn bytes(bytes: &[u8]) -> String {
    if bytes.len() <= BYTES_MAX {
        return quoted(bytes);
    }
    let (head, crc) = (quoted(&bytes[..8]), crc32fast::hash(bytes));
    format!("{head}...({} bytes, crc {crc:08x})", bytes.len())
}

/// Bytes as Go's `%q` has them.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control if control.is_control() => {
                    out.push_str(&format!("\\x{:02x}", u32::from(control)));
                }
                plain => out.push(plain),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// A row: `"key"="value"` and its revisions.
pub fn row(encoded: &[u8]) -> String {
    let Ok(row) = KeyValue::decode(encoded) else {
        return format!("not a row: {}", bytes(encoded));
    };
    let mut out = bytes(&row.key);
    if !row.value.is_empty() {
        out.push_str(&format!("={}", bytes(&row.value)));
    }
    number(&mut out, "create", row.create_revision);
    number(&mut out, "mod", row.mod_revision);
    number(&mut out, "version", row.version);
    number(&mut out, "lease", row.lease);
    out
}

/// An event: `PUT row` or `DELETE row`, and what was there before.
pub fn event(encoded: &[u8]) -> String {
    let Ok(event) = pb::Event::decode(encoded) else {
        return format!("not an event: {}", bytes(encoded));
    };
    let mut out = match EventType::try_from(event.r#type) {
        Ok(EventType::Put) => "PUT".to_owned(),
        Ok(EventType::Delete) => "DELETE".to_owned(),
        Err(_) => format!("event type {}", event.r#type),
    };
    let kv = event.kv.as_ref().map_or("without a row".to_owned(), |kv| row(kv));
    out.push_str(&format!(" {kv}"));
    if let Some(before) = &event.prev_kv {
        out.push_str(&format!(" before({})", row(before)));
    }
    out
}

/// Rows or events on lines of their own, the middle left out when they are many.
pub fn list<B: AsRef<[u8]>>(out: &mut String, items: &[B], print: fn(&[u8]) -> String) {
    let lines: Vec<String> = items.iter().map(|item| print(item.as_ref())).collect();
    let hidden = if lines.len() > ROWS_MAX { 3..lines.len() - 1 } else { 0..0 };
    for (index, line) in lines.iter().enumerate() {
        if !hidden.contains(&index) {
            let _ = write!(out, "\n  {line}");
        } else if index == hidden.start {
            let crc = crc32fast::hash(lines.join("\n").as_bytes());
            let _ = write!(out, "\n  ... {} more, crc of all {crc:08x}", hidden.len());
        }
    }
}

/// Moves every line but the first to the right, under the answer it belongs to.
pub fn indent(text: &str) -> String {
    text.replace('\n', "\n  ")
}
