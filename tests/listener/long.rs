//! Answers that are long: what clients see of them is what they see of short ones.

use std::net::SocketAddr;

use kvorum::limits;
use kvorum::pb::kv_client::KvClient;
use kvorum::pb::range_request::{SortOrder, SortTarget};
use kvorum::pb::{self, KeyValue, RangeRequest, RangeResponse};
use prost::Message as _;
use tonic::transport::Channel;

use super::Member;

async fn client(address: SocketAddr) -> KvClient<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
    let channel = channel.connect().await.expect("the member listens");
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

async fn put(client: &mut KvClient<Channel>, key: &str, value: Vec<u8>) {
    let key = key.to_owned().into();
    let request = pb::PutRequest { key, value: value.into(), ..Default::default() };
    client.put(request).await.expect("the member writes");
}

/// Every key from "k" to "l".
fn all() -> RangeRequest {
    RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() }
}

async fn range(client: &mut KvClient<Channel>, request: RangeRequest) -> RangeResponse {
    client.range(request).await.expect("the member reads").into_inner()
}

fn rows(response: &RangeResponse) -> Vec<KeyValue> {
    response.kvs.iter().map(|row| KeyValue::decode(row.clone()).expect("a row")).collect()
}

#[tokio::test]
async fn long_ranges_are_answered_as_short_ones_are() {
    const KEYS: usize = 10_100;
    assert!(KEYS > limits::SHORT_RANGE_KEYS_MAX as usize);
    let member = Member::start(None, |_| {}).await;
    let mut client = client(member.address()).await;
    for from in (0..KEYS).step_by(100) {
        let put = |number: usize| {
            let key = format!("k{number:06}").into();
            let put = pb::PutRequest { key, value: "v".into(), ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
        };
        let success = (from..from + 100).map(put).collect();
        client.txn(pb::TxnRequest { success, ..Default::default() }).await.expect("it writes");
    }
    let whole = range(&mut client, all()).await;
    let header = whole.header.as_ref().expect("an answer has a header");
    assert!(header.member_id != 0 && header.raft_term != 0);
    assert_eq!((whole.count, whole.more, header.revision), (KEYS as i64, false, 102));
    let keys: Vec<_> = rows(&whole).into_iter().map(|row| row.key).collect();
    assert!(keys.len() == KEYS && keys.is_sorted());

    let cut = range(&mut client, RangeRequest { limit: 10_050, ..all() }).await;
    assert_eq!((cut.count, cut.more, cut.kvs.len()), (KEYS as i64, true, 10_050));
    assert_eq!(cut.kvs, whole.kvs[..10_050]);
    let past = range(&mut client, RangeRequest { revision: 101, ..all() }).await;
    assert_eq!((past.count, past.kvs.len()), (10_000, 10_000));
    let bare = range(&mut client, RangeRequest { keys_only: true, ..all() }).await;
    assert!(rows(&bare).iter().all(|row| row.value.is_empty() && row.version == 1));
    let mut down = RangeRequest { sort_order: SortOrder::Descend as i32, ..all() };
    down.sort_target = SortTarget::Create as i32;
    let down = range(&mut client, down).await;
    assert_eq!((down.count, down.kvs.len()), (KEYS as i64, KEYS));
    assert_eq!(rows(&down)[0].create_revision, 102);
    let late = range(&mut client, RangeRequest { min_mod_revision: 102, ..all() }).await;
    assert_eq!((late.count, late.kvs.len()), (KEYS as i64, 100));
    let unknown = client.range(RangeRequest { revision: 1000, ..all() }).await;
    assert_eq!(unknown.expect_err("the future").code(), tonic::Code::OutOfRange);

    // Of a transaction the answer is made at once, and so it is refused.
    let range =
        |request| pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(request)) };
    let success = vec![range(all()); 10];
    let refused = client.txn(pb::TxnRequest { success, ..Default::default() }).await;
    assert_eq!(refused.expect_err("too many keys").code(), tonic::Code::InvalidArgument);
    let success = vec![range(RangeRequest { count_only: true, ..all() }); 100];
    client.txn(pb::TxnRequest { success, ..Default::default() }).await.expect("they are short");
    member.stop().await;
}

#[tokio::test]
async fn ranges_of_large_values_are_answered_as_short_ones_are() {
    const VALUE: usize = 1 << 20;
    let member = Member::start(None, |_| {}).await;
    let mut client = client(member.address()).await;
    let values = limits::SHORT_RANGE_BYTES_MAX / VALUE + 2;
    for number in 0..values {
        put(&mut client, &format!("k{number:02}"), vec![number as u8; VALUE]).await;
    }
    for order in [SortOrder::None, SortOrder::Ascend] {
        let target = SortTarget::Version as i32;
        let sorted = RangeRequest { sort_order: order as i32, sort_target: target, ..all() };
        let request = if order == SortOrder::None { all() } else { sorted };
        let whole = range(&mut client, request).await;
        assert_eq!((whole.count, whole.more), (values as i64, false));
        for (number, row) in rows(&whole).into_iter().enumerate() {
            assert!(row.value == vec![number as u8; VALUE], "row {number} has another's value");
        }
    }
    member.stop().await;
}
