//! What was recorded of etcd, for the tests of this room: `tests/fixtures/peer`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::peer::headers::Membership;

/// Ids for the names in `refusals.jsonl`.
pub(in crate::peer) const SELF: u64 = 0x271b_e7cf_c3d2_6437;
pub(in crate::peer) const OTHER: u64 = 0xbfe8_5caf_bce7_ee54;
pub(in crate::peer) const GONE: u64 = 0xd7a1_e247_81d9_f9cf;
pub(in crate::peer) const STRANGER: u64 = 0x77;
pub(in crate::peer) const CLUSTER: u64 = 0xe1ef_2ac7_12f4_ca9c;

/// A request to a peer port and etcd's answer.
#[derive(Debug, serde::Deserialize)]
pub(in crate::peer) struct Exchange {
    pub name: String,
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub status: u16,
    pub answer_headers: BTreeMap<String, String>,
    pub answer: String,
}

/// A file of the folder.
pub(in crate::peer) fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peer");
    std::fs::read(folder.join(name)).expect("a fixture")
}

/// All of `refusals.jsonl`.
pub(in crate::peer) fn exchanges() -> Vec<Exchange> {
    let text = String::from_utf8(file("refusals.jsonl")).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("an exchange")).collect()
}

/// A text with the names of ids replaced by ids.
pub(in crate::peer) fn fill(text: &str) -> String {
    filled(text, |id| format!("{id:x}"))
}

/// The body of a request, in which ids are varints.
pub(in crate::peer) fn body(exchange: &Exchange) -> Vec<u8> {
    let varint = |id: u64| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(id, &mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let hex = filled(&exchange.body, varint);
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn filled(text: &str, show: impl Fn(u64) -> String) -> String {
    let members = [("SELF", SELF), ("OTHER", OTHER), ("GONE", GONE), ("STRANGER", STRANGER)];
    let ids = [&members[..], &[("CLUSTER", CLUSTER)]].concat();
    ids.iter()
        .fold(text.to_owned(), |text, (name, id)| text.replace(&format!("{{{name}}}"), &show(*id)))
}

/// What the recorded cluster says of an id.
pub(in crate::peer) fn membership(id: u64) -> Membership {
    match id {
        SELF | OTHER => Membership::Member,
        GONE => Membership::Removed,
        _ => Membership::Unknown,
    }
}
