//! Joining, against members that run, and every mistake an operator can make of it.

use super::*;
use crate::members::urls::Resolve;

const CLUSTER: u64 = 0xc1;

fn remote(id: u64, name: &str, urls: &[&str]) -> Member {
    let mut member = Member { id, name: name.to_owned(), ..Member::default() };
    member.peer_urls = urls.iter().map(|url| format!("http://{url}")).collect();
    if !name.is_empty() {
        member.client_urls = vec!["http://10.0.0.9:2379".to_owned()];
    }
    member
}

/// Members `a` and `b` at work, and one that was added.
fn cluster() -> Vec<Member> {
    vec![
        remote(0xa, "a", &["10.0.0.1:1"]),
        remote(0xb, "b", &["10.0.0.2:1", "10.0.0.2:2"]),
        remote(0xc, "", &["10.0.0.3:1"]),
    ]
}

/// What the manifests say: `name=host:port,...`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |piece: &str| {
        let (name, url) = piece.split_once('=').expect("a name and a URL");
        (name.to_owned(), format!("http://{url}"))
    };
    text.split(',').map(pair).collect()
}

const ALL: &str = "c=10.0.0.3:1,b=10.0.0.2:2,a=10.0.0.1:1,b=10.0.0.2:1";
const BLIND: Resolve<'static> = &str::to_owned;

fn join_as(name: &str, cluster: &str, remote: &[Member]) -> Result<u64, String> {
    let joined = join(remote, CLUSTER, &pairs(cluster), name, 1, BLIND);
    let (id, members) = joined.map_err(|error| error.to_string())?;
    assert!(members.iter().eq(remote), "the book is what the others said");
    Ok(id)
}

#[test]
fn a_member_finds_itself_by_its_urls() {
    assert_eq!(join_as("c", ALL, &cluster()), Ok(0xc));
    // Names are the operator's own affair.
    let other = ALL.replace("a=", "x=").replace("c=", "y=");
    assert_eq!(join_as("y", &other, &cluster()), Ok(0xc));
    // A founder that never ran has a name, and may still come.
    let mut founder = cluster();
    founder[2].name = "c".to_owned();
    assert_eq!(join_as("c", ALL, &founder), Ok(0xc));
}

#[test]
fn names_are_looked_up_where_texts_differ() {
    let dns = |url: &str| url.replace("etcd-", "10.0.0.");
    let named = pairs("a=10.0.0.1:1,b=etcd-2:1,b=10.0.0.2:2,c=etcd-3:1");
    let joined = join(&cluster(), CLUSTER, &named, "c", 1, &dns);
    assert_eq!(joined.map(|(id, _)| id), Ok(0xc));
    assert!(join(&cluster(), CLUSTER, &named, "c", 1, BLIND).is_err(), "without DNS");
}

#[test]
fn every_mistake_has_its_words() {
    let cases = [
        ("d", ALL, "couldn't find local name \"d\""),
        (
            "d",
            "a=10.0.0.1:1,b=10.0.0.2:1,b=10.0.0.2:2,d=10.0.0.4:1",
            "cluster c1 has no member with the peer URLs http://10.0.0.4:1: this one was not added \
             to it, or was removed. Run `etcdctl member add d --peer-urls=http://10.0.0.4:1` first",
        ),
        (
            "c",
            "a=10.0.0.1:1,b=10.0.0.2:1,b=10.0.0.2:2,c=10.0.0.3:1,c=10.0.0.3:2",
            "was added to cluster c1 as c with the peer URLs http://10.0.0.3:1, but \
             --initial-cluster has c with http://10.0.0.3:1,http://10.0.0.3:2 (len(",
        ),
        (
            "a",
            ALL,
            "member a of cluster c1 was started before, as \"a\", and its data directory here is \
             empty",
        ),
        (
            "c",
            "a=10.0.0.1:1,c=10.0.0.3:1",
            "member count is unequal: --initial-cluster has 2 (a, c), but cluster c1 has 3: \
             a=http://10.0.0.1:1 (a) b=http://10.0.0.2:1,http://10.0.0.2:2 (b) \
             unstarted=http://10.0.0.3:1 (c); name exactly those",
        ),
        ("c", "a=10.0.0.1:1,b=10.0.0.2:1,b=10.0.0.2:2,c=10.0.0.3:1,d=10.0.0.4:1", "count is"),
        (
            "c",
            "a=10.0.0.1:1,b=10.0.0.2:1,c=10.0.0.3:1",
            "PeerURLs: no match found for existing member (b, http://10.0.0.2:1,http://10.0.0.2:2)",
        ),
        (
            "c",
            "a=10.0.0.7:1,b=10.0.0.2:1,b=10.0.0.2:2,c=10.0.0.3:1",
            "PeerURLs: no match found for existing member (a, http://10.0.0.1:1): nobody in \
             --initial-cluster=a=http://10.0.0.7:1,b=",
        ),
    ];
    for (name, named, words) in cases {
        let error = join_as(name, named, &cluster()).expect_err(named);
        assert!(error.contains(words), "{named}\n{error}\n{words}");
    }
    let nobody = join(&[], CLUSTER, &pairs(ALL), "c", 1, BLIND);
    assert_eq!(nobody, Err(JoinError::Nobody));
}

#[test]
fn all_members_allow_the_same_number_of_learners() {
    let mut learners = cluster();
    learners[1].is_learner = true;
    learners[2].is_learner = true;
    let with = |max| join(&learners, CLUSTER, &pairs(ALL), "c", max, BLIND).map(|(id, _)| id);
    assert_eq!(with(2), Ok(0xc));
    assert_eq!(with(1), Err(JoinError::Learners { count: 2, max: 1 }));
}

#[test]
fn a_founder_is_founded_once() {
    assert!(is_bootstrapped(&cluster(), 0xa));
    assert!(!is_bootstrapped(&cluster(), 0xc), "added, and never at work");
    assert!(!is_bootstrapped(&cluster(), 0xd), "of another cluster");
}

#[test]
fn lists_of_urls_are_sets() {
    let urls = |text: &[&str]| -> Vec<String> { text.iter().map(|url| url.to_string()).collect() };
    assert_eq!(difference(&urls(&["b", "a"]), &urls(&["a", "b"]), BLIND), None);
    let longer = difference(&urls(&["a"]), &urls(&["b", "a"]), BLIND).expect("they differ");
    assert_eq!(longer.to_string(), r#"len(["a"]) != len(["a" "b"])"#);
    let other = difference(&urls(&["a", "c"]), &urls(&["b", "a"]), BLIND).expect("they differ");
    assert_eq!(other.to_string(), r#"resolved urls: "c" != "b""#);
}
