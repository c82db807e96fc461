//! Changes of members against what a restart finds of them.

use super::*;
use crate::machine::Settings;
use crate::members::Member;
use crate::storage::engine::Engine;
use crate::storage::mem::Mem;

const SETTINGS: Settings = Settings { member_id: 1, quota_bytes: None, learners_max: 1 };

fn voters(ids: &[u64]) -> Option<ConfState> {
    Some(ConfState { voters: ids.to_vec(), ..ConfState::default() })
}

fn member(id: u64, is_learner: bool) -> Member {
    Member { id, peer_urls: vec![format!("http://h{id}:2380")], is_learner, ..Member::default() }
}

#[test]
fn a_change_is_there_after_a_restart_and_a_refused_one_left_nothing() {
    let engine: Arc<dyn Engine> = Arc::new(Mem::default());
    let mut machine = Machine::open(engine.clone(), SETTINGS, None).expect("an empty engine");
    let steps = [
        (Change::Add(member(1, false)), voters(&[1])),
        (Change::Add(member(2, false)), voters(&[1, 2])),
        (Change::Add(member(2, false)), None),
        (Change::Remove(2), voters(&[1])),
        (Change::Add(member(2, true)), None),
    ];
    let mut replies = Vec::new();
    for (index, (change, made)) in (1..).zip(steps) {
        let reply = machine.change_members(index, 1, change, made).reply;
        replies.push(reply.map(|reply| match reply {
            Reply::Members(members) => members.iter().map(|member| member.id).collect(),
            other => panic!("not members: {other:?}"),
        }));
    }
    let expected = [
        Ok(vec![1]),
        Ok(vec![1, 2]),
        Err(Error::MemberExist),
        Ok(vec![1]),
        Err(Error::MemberNotFound),
    ];
    assert_eq!(replies, expected);
    engine.commit(&machine.take_checkpoint(false).writes()).expect("room in memory");

    let again = Machine::open(engine, SETTINGS, None).expect("what was just written");
    assert_eq!(again.applied(), machine.applied());
    assert_eq!(again.applied().index, 5);
    assert_eq!(again.members(), machine.members());
    assert!(again.members().is_removed(2));
    assert_eq!(Some(again.conf_state()), voters(&[1]).as_ref());
}

/// The limit of learners is this member's setting.
#[test]
fn too_many_learners_are_refused() {
    let engine = Arc::new(Mem::default());
    let mut machine = Machine::open(engine, SETTINGS, None).expect("an empty engine");
    let made = voters(&[]);
    machine.change_members(1, 1, Change::Add(member(1, true)), made).reply.expect("one may learn");
    let refused = machine.change_members(2, 1, Change::Add(member(2, true)), None).reply;
    assert_eq!(refused, Err(Error::TooManyLearners));
}
