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
    let decoders = DECODERS.len() + OTHERS.len();
    match usize::from(*kind) % decoders {
        kind if kind < DECODERS.len() => DECODERS[kind](bytes),
        kind => OTHERS[kind - DECODERS.len()](bytes),
    }
}

type Decoder = fn(&[u8]);

/// Requests that are looked at before anything else is done.
const DECODERS: &[Decoder] = &[
    |bytes| round_trip(bytes, |request| drop(validate::range(request))),
    |bytes| round_trip(bytes, |request| drop(validate::range_stream(request))),
    |bytes| round_trip(bytes, |request| drop(validate::put(request))),
    |bytes| round_trip(bytes, |request| drop(validate::delete_range(request))),
    |bytes| round_trip(bytes, |request| drop(validate::txn(request, TXN_OPS_MAX))),
    |bytes| {
        round_trip(bytes, |request: &pb::MemberAddRequest| {
            let Ok(urls) = validate::peer_urls(&request.peer_ur_ls) else { return };
            assert_eq!(validate::peer_urls(&urls).as_ref(), Ok(&urls), "one spelling");
        });
    },
];

/// All others, and what a log entry holds: commands of every kind, those of users and roles too.
const OTHERS: &[Decoder] = &[
    |bytes| round_trip(bytes, |_: &pb::InternalRaftRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::CompactionRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::WatchRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::LeaseGrantRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::LeaseRevokeRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::LeaseKeepAliveRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::LeaseTimeToLiveRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::LeaseLeasesRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::MemberRemoveRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::MemberUpdateRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::MemberListRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::MemberPromoteRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::AlarmRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::StatusRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::DefragmentRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::HashRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::HashKvRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::SnapshotRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::MoveLeaderRequest| ()),
    |bytes| round_trip(bytes, |_: &pb::DowngradeRequest| ()),
];

fn round_trip<M: Message + Default + PartialEq + Debug>(bytes: &[u8], check: fn(&M)) {
    let Ok(request) = M::decode(bytes) else { return };
    check(&request);
    let again = M::decode(&request.encode_to_vec()[..]);
    assert_eq!(again.as_ref(), Ok(&request), "an encoded request decodes");
}
