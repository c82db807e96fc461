//! The encodings against bytes taken from a database etcd 3.7 wrote, and against damage.

use proptest::prelude::*;

use super::*;

#[test]
fn conf_state_is_written_as_etcd_writes_it() {
    let one = ConfState { voters: vec![4885544938433206482], ..ConfState::default() };
    let text = br#"{"voters":[4885544938433206482],"auto_leave":false}"#;
    assert_eq!(one.encode(), text);
    assert_eq!(ConfState::decode(text).unwrap(), one);
}

#[test]
fn conf_state_is_read_as_any_etcd_wrote_it() {
    let joint = ConfState {
        voters: vec![1, u64::MAX],
        learners: vec![3],
        voters_outgoing: vec![1],
        learners_next: vec![4],
        auto_leave: true,
    };
    let text = br#"{"voters":[1,18446744073709551615],"learners":[3],"voters_outgoing":[1],
        "learners_next":[4],"auto_leave":true}"#;
    assert_eq!(ConfState::decode(text).unwrap(), joint);
    assert_eq!(ConfState::decode(&joint.encode()).unwrap(), joint);
    assert_eq!(ConfState::decode(b"{}").unwrap(), ConfState::default());
    for damaged in [&b""[..], b"{", b"[]", br#"{"voters":[-1]}"#, b"\xff"] {
        assert!(ConfState::decode(damaged).is_err(), "{}", damaged.escape_ascii());
    }
}

#[test]
fn numbers_and_flags() {
    let [index, term] = applied(0x0102_0304_0506_0708, 2);
    let value = |write: Write| match write {
        Write::Put { value, .. } => value,
        Write::Delete { .. } => panic!("applied() only puts"),
    };
    let index = value(index);
    assert_eq!(index[..], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(decode_u64(Table::Meta, CONSISTENT_INDEX, &index).unwrap(), 0x0102_0304_0506_0708);
    assert_eq!(decode_u64(Table::Meta, TERM, &value(term)).unwrap(), 2);
    assert!(decode_u64(Table::Meta, TERM, &index[1..]).is_err());
    for on in [false, true] {
        assert_eq!(decode_flag(Table::Auth, AUTH_ENABLED, &encode_flag(on)).unwrap(), on);
    }
    assert!(decode_flag(Table::Auth, AUTH_ENABLED, b"").is_err());
    assert!(decode_flag(Table::Auth, AUTH_ENABLED, b"\x02").is_err());
}

#[test]
fn a_damaged_row_names_itself() {
    let fault = decode_text(Table::Cluster, CLUSTER_VERSION, b"\xff").unwrap_err();
    assert_eq!(
        fault.to_string(),
        "row clusterVersion of table cluster is damaged: not UTF-8. \
         Replace this member's data from its peers or a snapshot"
    );
}

#[test]
fn members_are_hex_without_padding() {
    assert_eq!(member_key(0x43cc_f13c_9d84_d8d2), "43ccf13c9d84d8d2");
    assert_eq!(member_key(0xa), "a");
    for damaged in [&b""[..], b"0a", b"A", b"+a", b"g", b"10000000000000000", b"\xff"] {
        assert!(member_id(Table::Members, damaged).is_err(), "{}", damaged.escape_ascii());
    }
}

#[test]
fn compact_revisions_are_17_bytes() {
    let value = encode_compact_revision(0x0102);
    assert_eq!(value, *b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\0");
    let decode = |value: &[u8]| decode_compact_revision(FINISHED_COMPACT_REV, value);
    assert_eq!(decode(&value).unwrap(), 0x0102);
    for at in 8..value.len() {
        let mut damaged = value;
        damaged[at] ^= 0x40;
        assert!(decode(&damaged).is_err(), "byte {at}");
    }
    assert!(decode(&value[..16]).is_err());
    assert!(decode(b"\xff\xff\xff\xff\xff\xff\xff\xff_\0\0\0\0\0\0\0\0").is_err());
}

proptest! {
    #[test]
    fn keys_sort_and_round_trip(a in 0..i64::MAX, b in 0..i64::MAX, id: u64) {
        prop_assert_eq!(a.cmp(&b), lease_key(a).cmp(&lease_key(b)));
        prop_assert_eq!(lease_id(&lease_key(a)).unwrap(), a);
        let key = member_key(id);
        prop_assert_eq!(member_id(Table::Members, key.as_bytes()).unwrap(), id);
        let revision = encode_compact_revision(a);
        let main = decode_compact_revision(SCHEDULED_COMPACT_REV, &revision).unwrap();
        prop_assert_eq!(main, a);
        prop_assert_eq!(a.cmp(&b), revision.cmp(&encode_compact_revision(b)));
    }

    #[test]
    fn bytes_from_disk_never_panic(bytes: Vec<u8>) {
        drop(lease_id(&bytes));
        drop(member_id(Table::MembersRemoved, &bytes));
        drop(decode_compact_revision(FINISHED_COMPACT_REV, &bytes));
        drop(ConfState::decode(&bytes));
    }
}
