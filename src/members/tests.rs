//! Ids against values a real etcd 3.7 computes, and rows against the bytes it stores.

use super::*;

/// `etcd --name default` with default URLs is member 8e9e05c52164694d of cluster cdf818194e3a8c32.
#[test]
fn default_member_has_etcds_ids() {
    let cluster = [("default".to_owned(), "http://localhost:2380".to_owned())];
    let members = Members::founding(&cluster, "etcd-cluster");
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [0x8e9e_05c5_2164_694d]);
    assert_eq!(members.founding_cluster_id(), 0xcdf8_1819_4e3a_8c32);
}

#[test]
fn row_is_etcds_json_and_loads_back() {
    let mut member = Member::founding("m1", vec!["http://127.0.0.1:2380".to_owned()], "t");
    member.client_urls = vec!["http://127.0.0.1:2379".to_owned()];
    let Write::Put { table, key, value } = member.row() else { panic!("a member row is a put") };
    assert_eq!(
        std::str::from_utf8(&value).expect("JSON is text"),
        format!(
            r#"{{"id":{},"peerURLs":["{}"],"name":"m1","clientURLs":["{}"]}}"#,
            member.id, member.peer_urls[0], member.client_urls[0]
        )
    );
    let mut members = Members::default();
    members.load(table, &key, &value).expect("a row we wrote");
    assert_eq!(members.get(member.id), Some(&member));
    members.load(table, b"zz", &value).expect_err("not hex");
    members.load(table, b"1", &value).expect_err("another member's key");
}
