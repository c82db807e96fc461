//! The body of the fuzz target `request_decode`.

use std::fmt::Debug;

use prost::Message;

use super::validate;
use crate::limits::TXN_OPS_MAX;
use crate::pb;

/// Decodes `bytes` after the first, which picks a type of request, checks what can be checked
/// without state, and encodes again. Whatever they are, this returns; and what was decoded comes
/// back from its own encoding.
pub fn fuzz_request(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let decoders: &[fn(&[u8])] = &[
        |bytes| round_trip(bytes, |request| drop(validate::range(request))),
        |bytes| round_trip(bytes, |request| drop(validate::range_stream(request))),
        |bytes| round_trip(bytes, |request| drop(validate::put(request))),
        |bytes| round_trip(bytes, |request| drop(validate::delete_range(request))),
        |bytes| round_trip(bytes, |request| drop(validate::txn(request, TXN_OPS_MAX))),
        // What a log entry holds: commands of every kind, those of users and roles included.
        |bytes| round_trip(bytes, |_: &pb::InternalRaftRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::CompactionRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::WatchRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::LeaseGrantRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::LeaseKeepAliveRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::LeaseTimeToLiveRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::MemberAddRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::MemberUpdateRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::AlarmRequest| ()),
        |bytes| round_trip(bytes, |_: &pb::HashKvRequest| ()),
    ];
    decoders[usize::from(*kind) % decoders.len()](bytes);
}

fn round_trip<M: Message + Default + PartialEq + Debug>(bytes: &[u8], check: fn(&M)) {
    let Ok(request) = M::decode(bytes) else { return };
    check(&request);
    let again = M::decode(&request.encode_to_vec()[..]);
    assert_eq!(again.as_ref(), Ok(&request), "an encoded request decodes");
}
