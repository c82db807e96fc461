//! Ids against values a real etcd 3.7 computes, and rows against the bytes it stores.

mod joining;
mod quorum;

use super::*;
use crate::error::Error;

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

fn member(id: u64, port: u16, is_learner: bool) -> Member {
    let peer_urls = vec![format!("http://127.0.0.1:{port}")];
    Member { id, peer_urls, is_learner, ..Member::default() }
}

/// Voters 1 and 2 at ports 1 and 2, learner 3 at port 3; member 9 was removed.
fn book() -> Members {
    let mut members = Members::default();
    for change in [
        Change::Add(member(1, 1, false)),
        Change::Add(member(2, 2, false)),
        Change::Add(member(3, 3, true)),
        Change::Add(member(9, 9, false)),
        Change::Remove(9),
    ] {
        assert_eq!(members.check(&change, 1), Ok(()), "{change:?}");
        members.change(change);
    }
    members
}

#[test]
fn changes_are_refused_as_etcd_refuses_them() {
    let update = |id, port| Change::Update { id, peer_urls: member(id, port, false).peer_urls };
    let cases = [
        (Change::Add(member(9, 4, false)), Err(Error::MemberNotFound)),
        (Change::Promote(9), Err(Error::MemberNotFound)),
        (update(9, 4), Err(Error::MemberNotFound)),
        (Change::Remove(9), Err(Error::MemberNotFound)),
        (Change::Add(member(1, 4, false)), Err(Error::MemberExist)),
        // The id is looked at first, then the URLs, then the number of learners.
        (Change::Add(member(1, 2, true)), Err(Error::MemberExist)),
        (Change::Add(member(4, 2, true)), Err(Error::PeerURLExist)),
        (Change::Add(member(4, 4, true)), Err(Error::TooManyLearners)),
        (Change::Add(member(4, 4, false)), Ok(())),
        (Change::Add(member(4, 9, false)), Ok(())),
        (Change::Promote(4), Err(Error::MemberNotFound)),
        (Change::Promote(1), Err(Error::MemberNotLearner)),
        (Change::Promote(3), Ok(())),
        (update(4, 4), Err(Error::MemberNotFound)),
        (update(1, 3), Err(Error::PeerURLExist)),
        (update(1, 1), Ok(())),
        (Change::Update { id: 1, peer_urls: Vec::new() }, Ok(())),
        (Change::Remove(4), Err(Error::MemberNotFound)),
        (Change::Remove(1), Ok(())),
    ];
    for (change, expected) in cases {
        assert_eq!(book().check(&change, 1), expected, "{change:?}");
    }
    assert_eq!(book().check(&Change::Add(member(4, 4, true)), 2), Ok(()));
}

/// The rows that a change leaves are those that load into the same book.
#[test]
fn rows_of_changes_load_as_the_book_they_make() {
    let mut members = Members::default();
    let mut rows = BTreeMap::new();
    for change in [
        Change::Add(member(1, 1, false)),
        Change::Add(member(0xab, 2, true)),
        Change::Update { id: 1, peer_urls: Vec::new() },
        Change::Promote(0xab),
        Change::Remove(1),
        Change::Add(member(3, 3, true)),
        Change::Update { id: 3, peer_urls: vec!["http://10.0.0.3:2380".to_owned()] },
    ] {
        for write in members.change(change) {
            match write {
                Write::Put { table, key, value } => rows.insert((table, key), value),
                Write::Delete { table, key } => rows.remove(&(table, key)),
            };
        }
        let mut loaded = Members::default();
        for ((table, key), value) in &rows {
            loaded.load(*table, key, value).expect("a row we wrote");
        }
        assert_eq!(loaded, members);
    }
}

/// The bytes are those in the database of an etcd 3.7.3 that went through the same.
#[test]
fn rows_of_a_learner_are_etcds() {
    let learner = Member {
        id: 0x9550_10e4_2bf5_6739,
        peer_urls: vec!["http://127.0.0.1:24402".to_owned()],
        is_learner: true,
        ..Member::default()
    };
    let put = |table, value: &'static str| Write::Put {
        table,
        key: "955010e42bf56739".into(),
        value: value.into(),
    };
    let added = concat!(
        r#"{"id":10759118081964205881,"peerURLs":["http://127.0.0.1:24402"],"#,
        r#""isLearner":true}"#
    );
    let mut members = Members::default();
    assert_eq!(members.change(Change::Add(learner.clone())), [put(Table::Members, added)]);
    let removed = [
        Write::Delete { table: Table::Members, key: "955010e42bf56739".into() },
        put(Table::MembersRemoved, "removed"),
    ];
    assert_eq!(members.change(Change::Remove(learner.id)), removed);
}

/// Go escapes these, serde does not; what Go reads back is the same.
#[test]
fn rows_escape_as_go_does() {
    let named = Member { id: 1, name: "a<b>&\u{2028}ü\"".to_owned(), ..Member::default() };
    let Write::Put { table, key, value } = named.row() else { panic!("a member row is a put") };
    let text = std::str::from_utf8(&value).expect("JSON is text");
    assert_eq!(text, r#"{"id":1,"peerURLs":null,"name":"a\u003cb\u003e\u0026\u2028ü\""}"#);
    let mut members = Members::default();
    members.load(table, &key, &value).expect("a row we wrote");
    assert_eq!(members.get(1), Some(&named));
}
