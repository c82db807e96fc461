//! What crosses the network and lies in the log is etcd's, to the byte.

use bytes::Bytes;

use super::super::conf::{self, BadChange, Change, Context, Kind};
use super::super::wire::{self, BadWire};
use super::super::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use super::simulation::Dice;

/// Bytes as a dump shows them.
fn bytes(hex: &str) -> Bytes {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

#[test]
fn messages_are_raftpb() {
    let heartbeat = Message {
        msg_type: MessageType::MsgHeartbeat as i32,
        to: 2,
        from: 1,
        term: 3,
        commit: 5,
        context: Bytes::from_static(b"ctx"),
        ..Message::default()
    };
    let written = bytes("08 08 10 02 18 01 20 03 40 05 62 03 63 74 78");
    assert_eq!(Bytes::from(wire::encode(heartbeat.clone())), written);

    // As a Go member writes it: zeros included, a vote and a nested response besides.
    let from_go = bytes(
        "08 08 10 02 18 01 20 03 28 00 30 00 40 05 50 00 58 00 62 03 63 74 78 68 07 72 02 08 04",
    );
    assert_eq!(wire::decode(from_go), Ok(heartbeat));
}

#[test]
fn an_append_carries_entries_as_they_are() {
    let entry = Entry { term: 2, index: 9, data: bytes("0a 01"), ..Entry::default() };
    let append = Message {
        msg_type: MessageType::MsgAppend as i32,
        log_term: 2,
        index: 8,
        entries: vec![entry.clone()],
        ..Message::default()
    };
    let written = bytes("08 03 28 02 30 08 3a 08 10 02 18 09 22 02 0a 01");
    assert_eq!(Bytes::from(wire::encode(append)), written);
    assert_eq!(wire::encode_entry(&entry), bytes("10 02 18 09 22 02 0a 01"));
    assert_eq!(wire::decode_entry(bytes("08 00 10 02 18 09 22 02 0a 01")), Ok(entry));
}

/// raft-rs's own fields neither leave nor enter, in particular not in the guise of etcd's.
#[test]
fn extras_stay_at_home() {
    let plain = Message { to: 1, from: 2, term: 3, ..Message::default() };
    let mut extended = Message {
        request_snapshot: 77,
        deprecated_priority: 5,
        commit_term: 6,
        priority: -1,
        ..plain.clone()
    };
    extended.entries = vec![Entry { context: bytes("01"), sync_log: true, ..Entry::default() }];
    let expected = Message { entries: vec![Entry::default()], ..plain };
    assert_eq!(wire::decode(wire::encode(extended).into()), Ok(expected));
}

#[test]
fn unknown_types_are_refused() {
    for number in 19..=23 {
        let message = Message { msg_type: number, ..Message::default() };
        let outcome = wire::decode(wire::encode(message).into());
        assert_eq!(outcome, Err(BadWire::UnknownMessage(number)));
    }
    let entry = Entry { entry_type: 3, ..Entry::default() };
    let message = Message { entries: vec![entry.clone()], ..Message::default() };
    assert_eq!(wire::decode(wire::encode(message).into()), Err(BadWire::UnknownEntry(3)));
    let entry = wire::encode_entry(&entry).into();
    assert_eq!(wire::decode_entry(entry), Err(BadWire::UnknownEntry(3)));
    assert!(matches!(wire::decode(bytes("08")), Err(BadWire::Wire(_))));
}

#[test]
fn any_message_comes_back() {
    let mut dice = Dice::new(7);
    for _ in 0..1000 {
        let entries = (0..dice.roll(4)).map(|_| Entry {
            entry_type: dice.roll(3) as i32,
            term: dice.roll(9),
            index: dice.roll(1 << 40),
            data: vec![dice.roll(256) as u8; dice.roll(300) as usize].into(),
            ..Entry::default()
        });
        let mut message = Message { entries: entries.collect(), ..Message::default() };
        message.msg_type = dice.roll(19) as i32;
        (message.to, message.from, message.term) = (dice.roll(9), dice.roll(9), dice.roll(9));
        (message.log_term, message.index, message.commit) =
            (dice.roll(9), dice.roll(1 << 50), dice.roll(1 << 50));
        (message.reject, message.reject_hint) = (dice.roll(2) == 1, dice.roll(9));
        if dice.roll(4) == 0 {
            let conf_state =
                ConfState { voters: vec![1, 2], learners: vec![3], ..Default::default() };
            let mut snapshot = Snapshot { data: bytes("01 02"), metadata: None };
            snapshot.mut_metadata().conf_state = Some(conf_state);
            snapshot.mut_metadata().index = dice.roll(99);
            message.snapshot = Some(snapshot);
        }
        assert_eq!(wire::decode(wire::encode(message.clone()).into()), Ok(message));
    }
}

#[test]
fn changes_have_the_numbers_of_etcd() {
    let kinds = [(0, Kind::AddVoter), (1, Kind::Remove), (2, Kind::Update), (3, Kind::AddLearner)];
    for (number, kind) in kinds {
        let change = Change { id: 7, kind, node: 4, context: Bytes::from_static(b"{}") };
        let from_go = bytes(&format!("08 07 10 0{number} 18 04 22 02 7b 7d"));
        assert_eq!(Change::decode(&from_go), Ok(change.clone()));
        // We leave zeros out, as protobuf allows.
        let ours = if number == 0 { bytes("08 07 18 04 22 02 7b 7d") } else { from_go };
        assert_eq!(change.encode(), ours);
    }
    assert_eq!(Change::decode(&bytes("08 07 10 04 18 04")), Err(BadChange::UnknownKind(4)));
    assert!(matches!(Change::decode(&bytes("ff")), Err(BadChange::Wire(_))));
}

#[test]
fn contexts_are_the_json_of_etcd() {
    let urls = |url: &str| vec![url.to_owned()];
    let add = Context { id: 1, peer_urls: Some(urls("http://a:1")), ..Context::default() };
    let contexts = [
        (add.clone(), r#"{"id":1,"peerURLs":["http://a:1"]}"#),
        (
            Context { is_learner: true, ..add.clone() },
            r#"{"id":1,"peerURLs":["http://a:1"],"isLearner":true}"#,
        ),
        (
            Context { name: "n".to_owned(), client_urls: urls("http://a:2"), ..add },
            r#"{"id":1,"peerURLs":["http://a:1"],"name":"n","clientURLs":["http://a:2"]}"#,
        ),
        (
            Context::promotion(u64::MAX),
            r#"{"id":18446744073709551615,"peerURLs":null,"isPromote":true}"#,
        ),
    ];
    for (context, json) in contexts {
        assert_eq!(context.encode(), json);
        assert_eq!(Context::decode(json.as_bytes()).expect("it is valid"), context);
    }
    // What other versions of etcd may add or spell out.
    let verbose = r#"{"id":1,"peerURLs":[],"clientURLs":null,"isPromote":false,"more":0}"#;
    let context = Context { id: 1, peer_urls: Some(Vec::new()), ..Context::default() };
    assert_eq!(Context::decode(verbose.as_bytes()).expect("it is valid"), context);
    assert!(Context::decode(b"{}").is_err());
}

#[test]
fn a_founded_log_is_the_one_etcd_founds() {
    let founder = |id| (id, Context { id, ..Context::default() }.encode());
    let (hard_state, entries) = conf::bootstrap(vec![founder(9), founder(4)]);
    assert_eq!((hard_state.term, hard_state.vote, hard_state.commit), (1, 0, 2));
    for (entry, (index, id)) in entries.iter().zip([(1, 4), (2, 9)]) {
        assert_eq!((entry.term, entry.index), (1, index));
        assert_eq!(entry.get_entry_type(), EntryType::EntryConfChange);
        let change = Change::decode(&entry.data).expect("it is a change");
        assert_eq!((change.id, change.kind, change.node), (0, Kind::AddVoter, id));
        assert_eq!(Context::decode(&change.context).expect("it is JSON").id, id);
    }
}
