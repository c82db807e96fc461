//! The header fields of a gRPC request, compressed as HPACK (RFC 7541) has it.
//!
//! The first request of a connection spells them out and has the server remember them; all
//! others are seven bytes that refer to the server's table.

/// What our fields need of the server's table, with room to spare.
pub const TABLE_BYTES: u32 = 512;

/// The static table's `:method: POST` and `:scheme: http`.
const METHOD_POST: u8 = 3;
const SCHEME_HTTP: u8 = 6;
/// Names of the static table.
const AUTHORITY: u8 = 1;
const PATH: u8 = 4;
const CONTENT_TYPE: u8 = 31;
const USER_AGENT: u8 = 58;

/// A field given by its place in a table.
const INDEXED: u8 = 0x80;
/// A field that is spelled out, and from then on in the table.
const REMEMBERED: u8 = 0x40;

/// Method, scheme, and the five fields of `first`: the latest remembered is number 62.
pub const AGAIN: &[u8] = &[
    INDEXED | METHOD_POST,
    INDEXED | SCHEME_HTTP,
    INDEXED | 66,
    INDEXED | 65,
    INDEXED | 64,
    INDEXED | 63,
    INDEXED | 62,
];

/// The header block of a connection's first request.
pub fn first(authority: &str, path: &str) -> Vec<u8> {
    let mut block = vec![INDEXED | METHOD_POST, INDEXED | SCHEME_HTTP];
    block.push(REMEMBERED | PATH);
    text(&mut block, path);
    block.push(REMEMBERED | AUTHORITY);
    text(&mut block, authority);
    block.push(REMEMBERED | CONTENT_TYPE);
    text(&mut block, "application/grpc");
    block.push(REMEMBERED | USER_AGENT);
    text(&mut block, "kvorum-loader");
    block.push(REMEMBERED);
    text(&mut block, "te");
    text(&mut block, "trailers");
    block
}

fn text(block: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127, "a length of one byte");
    block.push(text.len() as u8);
    block.extend(text.as_bytes());
}
