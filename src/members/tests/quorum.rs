//! What a cluster can bear, case by case as etcd 3.7 decides it.

use super::*;
use crate::error::Error::{MemberNotEnoughStarted, Unhealthy};

/// Asks member 1 of a cluster. Each member is a letter that says how it is heard: `s`teadily,
/// `r`ecently, or `l`ost; `u` never was started. After a blank come learners.
fn check(cluster: &str, change: &Change) -> Result<(), Error> {
    let mut members = Members::default();
    let mut contacts = BTreeMap::new();
    let (voters, learners) = cluster.split_once(' ').unwrap_or((cluster, ""));
    let all = voters.chars().map(|c| (c, false)).chain(learners.chars().map(|c| (c, true)));
    for (id, (how, is_learner)) in (1..).zip(all) {
        let mut member = member(id, u16::try_from(id).expect("few"), is_learner);
        member.name = if how == 'u' { String::new() } else { format!("m{id}") };
        members.add(member);
        let contact = match how {
            's' => Contact::Steady,
            'r' => Contact::Recent,
            _ => Contact::Lost,
        };
        contacts.insert(id, contact);
    }
    members.check_quorum(change, 1, |id| contacts.get(&id).copied().unwrap_or(Contact::Lost))
}

#[test]
fn a_new_member_is_counted_as_not_at_work() {
    let voter = Change::Add(member(99, 99, false));
    let learner = Change::Add(member(99, 99, true));
    let cases = [
        // Whoever is alone may always get another.
        ("s", Ok(()), Ok(())),
        ("u", Err(MemberNotEnoughStarted), Ok(())),
        ("su", Err(MemberNotEnoughStarted), Err(Unhealthy)),
        ("sl", Err(Unhealthy), Err(Unhealthy)),
        ("sr", Err(Unhealthy), Err(Unhealthy)),
        ("ss", Ok(()), Ok(())),
        ("ssl", Err(Unhealthy), Err(Unhealthy)),
        ("sss", Ok(()), Ok(())),
        ("ssu", Err(MemberNotEnoughStarted), Err(Unhealthy)),
        // Learners have no say.
        ("s l", Ok(()), Ok(())),
        ("ssl s", Err(Unhealthy), Err(Unhealthy)),
        ("ssss", Ok(()), Ok(())),
        ("sssl", Ok(()), Ok(())),
        ("sssll", Err(Unhealthy), Err(Unhealthy)),
        ("ssssl", Ok(()), Ok(())),
        ("sssuu", Err(MemberNotEnoughStarted), Err(Unhealthy)),
    ];
    for (cluster, as_voter, as_learner) in cases {
        assert_eq!(check(cluster, &voter), as_voter, "a voter to {cluster}");
        assert_eq!(check(cluster, &learner), as_learner, "a learner to {cluster}");
    }
}

#[test]
fn who_is_left_is_a_majority_at_work() {
    let cases = [
        ("s", 1, Err(MemberNotEnoughStarted)),
        ("ss", 1, Ok(())),
        ("ss", 2, Ok(())),
        ("su", 1, Err(MemberNotEnoughStarted)),
        // Who is down takes nothing along.
        ("su", 2, Ok(())),
        ("sl", 2, Ok(())),
        ("sl", 1, Err(Unhealthy)),
        ("sr", 2, Err(Unhealthy)),
        ("sss", 3, Ok(())),
        ("ssl", 3, Ok(())),
        ("ssl", 2, Err(Unhealthy)),
        ("ssl", 1, Err(Unhealthy)),
        ("ssu", 2, Err(MemberNotEnoughStarted)),
        ("sll", 3, Ok(())),
        ("sssll", 5, Ok(())),
        ("sssll", 3, Err(Unhealthy)),
        ("ssssl", 4, Ok(())),
        // Learners, and nobody in particular.
        ("sll s", 4, Ok(())),
        ("sll", 9, Ok(())),
        ("suu", 9, Err(MemberNotEnoughStarted)),
    ];
    for (cluster, id, expected) in cases {
        assert_eq!(check(cluster, &Change::Remove(id)), expected, "{id} of {cluster}");
    }
}

#[test]
fn a_learner_that_gets_a_vote_is_at_work() {
    let cases = [
        ("s s", Ok(())),
        ("su s", Ok(())),
        ("suu s", Err(MemberNotEnoughStarted)),
        ("sul s", Ok(())),
        ("suul s", Ok(())),
        ("suuuu s", Err(MemberNotEnoughStarted)),
    ];
    for (cluster, expected) in cases {
        let learner = cluster.len() as u64 - 1;
        assert_eq!(check(cluster, &Change::Promote(learner)), expected, "{cluster}");
    }
    let moves = Change::Update { id: 2, peer_urls: Vec::new() };
    assert_eq!(check("sll", &moves), Ok(()), "addresses are not votes");
}
