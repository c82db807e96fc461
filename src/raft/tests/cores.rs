//! Where a core may start from, and the log it reads.

use ::raft::{Error, GetEntriesContext, Storage, StorageError};
use prost::Message as _;

use super::super::conf;
use super::super::log::Log;
use super::super::{Boot, Boundary, ConfState, Core, Entry, HardState, Message, MessageType};
use super::simulation::Dice;

fn entries(positions: &[(u64, u64)]) -> Vec<Entry> {
    let entry =
        |(index, term): &(u64, u64)| Entry { index: *index, term: *term, ..Entry::default() };
    positions.iter().map(entry).collect()
}

/// A member with five entries, the first two of them compacted.
fn boot() -> Boot {
    Boot {
        id: 1,
        applied: 3,
        hard_state: HardState { term: 2, vote: 1, commit: 4 },
        conf_state: ConfState { voters: vec![2, 1], ..ConfState::default() },
        entries: entries(&[(3, 1), (4, 2), (5, 2)]),
        boundary: Boundary { index: 2, term: 1 },
        seed: 1,
        election_tick: 10,
        heartbeat_tick: 1,
        no_pre_vote: false,
    }
}

#[test]
fn a_core_goes_on_where_recovery_ends() {
    let mut core = Core::new(boot()).expect("it is consistent");
    let status = core.status();
    assert_eq!((status.first_index, status.last_index), (3, 5));
    assert_eq!((status.applied, status.commit, status.standing.term), (3, 4, 2));
    assert_eq!(core.conf_state().voters, [1, 2]);
    let work = core.work().expect("an entry waits to be applied");
    assert_eq!(work.committed, entries(&[(4, 2)]));
    assert_eq!(work.persist, None);

    // A commit is not always written; what was applied was committed.
    let behind = HardState { commit: 0, ..boot().hard_state };
    let core = Core::new(Boot { hard_state: behind, ..boot() }).expect("it is consistent");
    assert_eq!(core.status().commit, 3);
}

/// An applier that a snapshot has overtaken may still report what it did.
#[test]
fn late_reports_change_nothing() {
    let mut core = Core::new(boot()).expect("it is consistent");
    for index in [0, 2, 3] {
        core.on_applied(index);
        assert_eq!(core.status().applied, 3);
    }
    core.on_applied(4);
    assert_eq!(core.status().applied, 4);
}

#[test]
fn a_core_does_not_start_over_a_hole() {
    let joint = ConfState { voters_outgoing: vec![3], ..boot().conf_state };
    let behind = HardState { term: 1, ..boot().hard_state };
    let ahead = HardState { commit: 6, ..boot().hard_state };
    let bad = [
        (Boot { applied: 1, ..boot() }, "the state ends at 1, the log begins after 2"),
        (Boot { applied: 6, ..boot() }, "the log ends at 5, but 6 is applied and 4 committed"),
        (
            Boot { hard_state: ahead, ..boot() },
            "the log ends at 5, but 3 is applied and 6 committed",
        ),
        (Boot { hard_state: behind, ..boot() }, "the log reached term 2, the hard state 1"),
        (
            Boot { entries: entries(&[(3, 1), (5, 2)]), ..boot() },
            "entry 5 of term 2 follows entry 3 of term 1",
        ),
        (
            Boot { entries: entries(&[(3, 2), (4, 1)]), ..boot() },
            "entry 4 of term 1 follows entry 3 of term 2",
        ),
        (Boot { conf_state: joint, ..boot() }, "cannot come about"),
        (Boot { election_tick: 1, ..boot() }, "election tick must be greater"),
    ];
    for (boot, why) in bad {
        let fault = Core::new(boot).err().expect("it is not consistent").to_string();
        assert!(fault.contains(why), "{fault} does not say: {why}");
    }
}

/// The log against a vector of all entries there ever were.
#[test]
fn the_log_keeps_what_it_must() {
    for seed in 0..50 {
        let mut dice = Dice::new(seed);
        let state = ConfState { voters: vec![1], ..ConfState::default() };
        let mut log =
            Log::new(Boundary::default(), Vec::new(), HardState::default(), state.clone(), 0);
        let (mut all, mut boundary, mut applied) = (entries(&[(0, 0)]), 0, 0);
        for term in 1..200 {
            let last = all.len() as u64 - 1;
            match dice.roll(4) {
                0 | 1 => {
                    // From anywhere after what is applied, for some entries.
                    let first = applied + 1 + dice.roll(last - applied + 1);
                    let positions: Vec<_> =
                        (first..=first + dice.roll(5)).map(|i| (i, term)).collect();
                    log.append(&entries(&positions));
                    all.truncate(first as usize);
                    all.extend(entries(&positions));
                }
                2 => {
                    applied += dice.roll(last - applied + 1);
                    log.set_applied(applied, state.clone());
                }
                _ => {
                    let index = dice.roll(applied + 1);
                    log.compact(index);
                    boundary = boundary.max(index);
                }
            }
            check(&log, &all, boundary, applied, &mut dice);
        }
    }
}

fn check(log: &Log, all: &[Entry], boundary: u64, applied: u64, dice: &mut Dice) {
    let last = all.len() as u64 - 1;
    assert_eq!((log.first_index(), Storage::last_index(log)), (Ok(boundary + 1), Ok(last)));
    for (index, entry) in (0..).zip(all) {
        let expected = match index < boundary {
            true => Err(Error::Store(StorageError::Compacted)),
            false => Ok(entry.term),
        };
        assert_eq!(log.term(index), expected);
    }
    assert_eq!(log.term(last + 1), Err(Error::Store(StorageError::Unavailable)));

    let (low, limit) = (1 + dice.roll(last + 1), dice.roll(40));
    let high = low + dice.roll(last + 2 - low);
    let found = log.entries(low, high, Some(limit), GetEntriesContext::empty(false));
    if low <= boundary {
        assert_eq!(found, Err(Error::Store(StorageError::Compacted)));
    } else {
        let mut expected = all[low as usize..high as usize].to_vec();
        let size = |entries: &[Entry]| entries.iter().map(|e| e.encoded_len() as u64).sum::<u64>();
        while expected.len() > 1 && size(&expected) > limit {
            expected.pop();
        }
        assert_eq!(found, Ok(expected));
    }

    let unavailable = Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
    assert_eq!(log.snapshot(0, 9), unavailable, "9 is not a member");
    assert_eq!(log.snapshot(applied + 1, 1), unavailable, "it is not that new");
    match log.snapshot(0, 1) {
        Ok(snapshot) => assert_eq!(snapshot.get_metadata().index, applied),
        Err(_) => assert_eq!(applied, 0),
    }
}

/// The first of three voters, or another, as it starts for the first time.
fn follower(id: u64, seed: u64) -> Core {
    let founders = (1..=3).map(|id| (id, conf::Context::promotion(id).encode())).collect();
    let (hard_state, entries) = conf::bootstrap(founders);
    let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let boot = Boot { id, seed, hard_state, entries, conf_state, applied: 3, ..boot() };
    let mut core = Core::new(Boot { boundary: Boundary::default(), ..boot }).expect("consistent");
    while core.work().is_some() {}
    core
}

/// How long it takes until it stands for election, if it hears from nobody.
fn ticks_to_campaign(core: &mut Core) -> usize {
    while core.work().is_some() {}
    let mut ticks = 0;
    while core.work().is_none_or(|work| work.standing.is_none()) {
        core.tick();
        ticks += 1;
    }
    ticks
}

/// Members that draw the same timeouts would split every vote.
#[test]
fn timeouts_differ() {
    let first_campaign = |id, seed| ticks_to_campaign(&mut follower(id, seed));
    let mut seen = [0; 20];
    for seed in 0..1000 {
        seen[first_campaign(1, seed)] += 1;
    }
    assert!(
        seen[..10].iter().all(|count| *count == 0),
        "none is shorter than the minimum: {seen:?}"
    );
    assert!(seen[10..].iter().all(|count| *count > 50), "all lengths occur: {seen:?}");
    let same = (0..1000).filter(|seed| first_campaign(1, *seed) == first_campaign(2, *seed));
    assert!(same.count() < 200, "two members with the same seed draw apart");
}

/// Voters that lose their leader stand one after the other, by an order that all of them know.
#[test]
fn places_follow_the_leader() {
    for leader in 1..=3 {
        let timeout = |id: u64| {
            let mut core = follower(id, id);
            let mut heartbeat = Message { from: leader, to: id, term: 2, ..Message::default() };
            heartbeat.set_msg_type(MessageType::MsgHeartbeat);
            core.step(heartbeat).expect("a leader's heartbeat is heard");
            ticks_to_campaign(&mut core)
        };
        let waits: Vec<_> = (1..=3).filter(|id| *id != leader).map(timeout).collect();
        assert_eq!(waits, [11, 12], "after {leader}");
    }
}
