//! Streams recorded from etcd, streams that never should be, and random ones in random pieces.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::{BufMut as _, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::limits;
use crate::raft::{ConfState, Entry, Snapshot, SnapshotMetadata, wire};

/// The recorded members.
const M1: u64 = 0x7d25_922a_f330_2456;
const M2: u64 = 0xef03_c2b0_9253_5c7c;

fn recorded(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/peer");
    std::fs::read(PathBuf::from(folder).join(name)).expect("a fixture")
}

fn frames(mut decoder: Decoder, bytes: &[u8], cut: usize) -> Result<Vec<Frame>, BadStream> {
    let mut frames = Vec::new();
    for piece in bytes.chunks(cut) {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn written(kind: Kind, frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::new(kind), BytesMut::new());
    for frame in frames {
        match frame {
            Frame::LinkHeartbeat => encoder.link_heartbeat(&mut out),
            Frame::Message(message) => encoder.encode(*message.clone(), &mut out),
        }
    }
    out
}

/// The first frames of a stream between members 2 and 1.
fn first(kind: Kind, bytes: &[u8]) -> Result<Vec<Frame>, BadStream> {
    frames(Decoder::new(kind, 1, 2), bytes, usize::MAX)
}

fn append(term: u64, log_term: u64, index: u64, entries: &[(u64, u64)]) -> Message {
    let entry = |&(term, index): &(u64, u64)| Entry { term, index, ..Entry::default() };
    Message {
        msg_type: MessageType::MsgAppend.into(),
        to: 1,
        from: 2,
        term,
        log_term,
        index,
        entries: entries.iter().map(entry).collect(),
        commit: 1,
        ..Message::default()
    }
}

fn whole(message: Message) -> Frame {
    Frame::Message(Box::new(message))
}

#[test]
fn what_etcd_sent_is_read_and_written_again_to_the_byte() {
    let streams = [
        ("m1-message.stream", Kind::Message, M1, M2),
        ("m2-message.stream", Kind::Message, M2, M1),
        ("m1-msgapp.stream", Kind::Append, M1, M2),
        ("m2-msgapp.stream", Kind::Append, M2, M1),
    ];
    let mut seen = BTreeMap::new();
    for (name, kind, from, to) in streams {
        let bytes = recorded(name);
        let read = frames(Decoder::new(kind, to, from), &bytes, usize::MAX).expect(name);
        for cut in [1, 2, 7, 100] {
            assert_eq!(frames(Decoder::new(kind, to, from), &bytes, cut).as_ref(), Ok(&read));
        }
        assert_eq!(written(kind, &read), bytes, "{name}");
        for frame in read {
            let what = match frame {
                Frame::LinkHeartbeat => "link".to_owned(),
                Frame::Message(message) => format!("{:?}", message.msg_type()),
            };
            *seen.entry(what).or_insert(0) += 1;
        }
    }
    let seen: Vec<String> = seen.iter().map(|(what, count)| format!("{what} {count}")).collect();
    assert_eq!(seen.join(", "), EXPECTED_FRAMES);
}

const EXPECTED_FRAMES: &str = "MsgAppend 26, MsgAppendResponse 25, MsgHeartbeat 98, \
    MsgHeartbeatResponse 98, MsgPropose 7, MsgReadIndex 3, MsgReadIndexResp 3, \
    MsgRequestPreVote 1, MsgRequestPreVoteResponse 1, MsgRequestVote 3, MsgRequestVoteResponse 2, \
    MsgTimeoutNow 2, link 24";

#[test]
fn entries_that_go_on_take_term_and_place_from_the_append_before() {
    let bytes = recorded("m2-msgapp.stream");
    let read = frames(Decoder::new(Kind::Append, M1, M2), &bytes, usize::MAX).expect("etcd's");
    let Frame::Message(second) = &read[1] else { panic!("{:?}", read[1]) };
    assert_eq!((second.to, second.from, second.term, second.log_term), (M1, M2, 2, 2));
    assert_eq!((second.index, second.commit, second.entries.len()), (3, 3, 1));
    assert_eq!((second.entries[0].term, second.entries[0].index), (2, 4));
}

#[test]
fn a_change_of_term_or_place_is_sent_whole() {
    let continued = [
        append(2, 1, 5, &[(2, 6), (2, 7)]),
        append(2, 2, 7, &[(2, 8)]),
        append(2, 2, 8, &[]),
        append(2, 2, 8, &[(2, 9)]),
    ];
    let whole_again = [
        append(2, 2, 7, &[(2, 8)]),
        append(3, 2, 8, &[(3, 9)]),
        append(4, 3, 9, &[]),
        append(4, 3, 9, &[(4, 10)]),
        Message { context: Bytes::from_static(b"more"), ..append(4, 4, 10, &[]) },
    ];
    let all: Vec<Frame> = continued.into_iter().chain(whole_again).map(whole).collect();
    let bytes = written(Kind::Append, &all);
    assert_eq!(first(Kind::Append, &bytes), Ok(all));
    assert_eq!(frame_kinds(&bytes), [2, 1, 1, 1, 2, 2, 2, 2, 2]);
}

/// The first byte of each frame, found as a reader that knows lengths only.
fn frame_kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().expect("8")) as usize;
    while let [kind, rest @ ..] = bytes {
        kinds.push(*kind);
        bytes = rest;
        match *kind {
            0 => {}
            1 => {
                let entries = number(bytes);
                bytes = &bytes[8..];
                for _ in 0..entries {
                    bytes = &bytes[8 + number(bytes)..];
                }
                bytes = &bytes[8..];
            }
            _ => bytes = &bytes[8 + number(bytes)..],
        }
    }
    kinds
}

#[test]
fn zeros_of_older_members_are_read() {
    // A heartbeat of the link as etcd 3.5 writes it: every field that is not a pointer.
    let bytes = b"\x08\x08\x10\x00\x18\x00\x20\x00\x28\x00\x30\x00\x40\x00\x50\x00\x58\x00";
    let mut stream = BytesMut::new();
    stream.put_u64(bytes.len() as u64);
    stream.put_slice(bytes);
    assert_eq!(first(Kind::Message, &stream), Ok(vec![Frame::LinkHeartbeat]));
}

#[test]
fn a_claim_takes_no_memory() {
    let most = limits::PEER_MESSAGE_BYTES_MAX as u64;
    let whole = |length: u64| [&[WHOLE_APPEND][..], &length.to_be_bytes()].concat();
    let mut decoder = Decoder::new(Kind::Append, 1, 2);
    decoder.push(&whole(most));
    assert_eq!(decoder.next_frame(), Ok(None));
    decoder.push(&[0; 1000]);
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.capacity() < 10_000, "{}", decoder.capacity());

    for length in [most + 1, u64::MAX] {
        assert_eq!(first(Kind::Append, &whole(length)), Err(BadStream::TooLong(length)));
        let error = first(Kind::Message, &length.to_be_bytes());
        assert_eq!(error, Err(BadStream::TooLong(length)));
    }
}

#[test]
fn entries_are_counted_before_there_is_room_for_them() {
    let start = written(Kind::Append, &[whole(append(2, 1, 5, &[(2, 6)]))]);
    let entries = |count: u64, lengths: &[u64]| {
        let mut bytes = start.to_vec();
        bytes.put_u8(MORE_ENTRIES);
        bytes.put_u64(count);
        lengths.iter().for_each(|length| bytes.put_u64(*length));
        bytes
    };
    let most = limits::PEER_MESSAGE_ENTRIES_MAX;
    let mut decoder = Decoder::new(Kind::Append, 1, 2);
    decoder.push(&entries(most, &[]));
    assert!(matches!(decoder.next_frame(), Ok(Some(_))));
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.capacity() < 10_000, "{}", decoder.capacity());

    let error = first(Kind::Append, &entries(most + 1, &[]));
    assert_eq!(error, Err(BadStream::TooMany(most + 1)));
    let error = first(Kind::Append, &entries(u64::MAX, &[]));
    assert_eq!(error, Err(BadStream::TooMany(u64::MAX)));
    // Each may be long, all together not.
    let long = limits::PEER_MESSAGE_BYTES_MAX as u64;
    let error = first(Kind::Append, &entries(2, &[0, long + 1]));
    assert_eq!(error, Err(BadStream::TooLong(long + 1)));
}

/// Two bytes on the wire, a hundred in memory: counted before they are decoded.
#[test]
fn small_bytes_do_not_decode_to_much() {
    let most = limits::PEER_MESSAGE_ENTRIES_MAX as usize;
    let entries = |count: usize| Bytes::from([0x3a, 0x00].repeat(count));
    assert!(decode_message(entries(most)).is_ok());
    assert_eq!(decode_message(entries(most + 1)), Err(BadStream::TooMany(most as u64 + 1)));

    let snapshot = |voters: usize| {
        let conf_state = ConfState { voters: vec![1; voters], ..ConfState::default() };
        let metadata = SnapshotMetadata { conf_state: Some(conf_state), index: 1, term: 1 };
        let snapshot = Snapshot { metadata: Some(metadata), data: Bytes::from(vec![0; 100_000]) };
        Bytes::from(wire::encode(Message { snapshot: Some(snapshot), ..Message::default() }))
    };
    assert!(decode_message(snapshot(60_000)).is_ok());
    assert!(matches!(decode_message(snapshot(70_000)), Err(BadStream::Metadata(_))));
    // The parts of a repeated field are added up, as decoding would.
    let twice = [&snapshot(40_000)[..], &snapshot(40_000)].concat();
    assert!(matches!(decode_message(twice.into()), Err(BadStream::Metadata(_))));
}

#[test]
fn a_stream_that_makes_no_sense_ends() {
    let message = |msg_type: MessageType, from, to| Message {
        msg_type: msg_type.into(),
        from,
        to,
        term: 1,
        ..Message::default()
    };
    let one = |kind, message: Message| {
        let mut bytes = BytesMut::new();
        if kind == Kind::Append {
            bytes.put_u8(WHOLE_APPEND);
        }
        let content = wire::encode(message);
        bytes.put_u64(content.len() as u64);
        bytes.put_slice(&content);
        first(kind, &bytes)
    };
    assert_eq!(first(Kind::Append, &[3]), Err(BadStream::UnknownFrame(3)));
    assert_eq!(first(Kind::Append, &[0, 1]), Err(BadStream::NothingToContinue));
    let vote = MessageType::MsgRequestVote;
    let error = one(Kind::Append, message(vote, 2, 1));
    assert_eq!(error, Err(BadStream::NotAppend(vote)));
    for (kind, msg_type) in [(Kind::Message, vote), (Kind::Append, MessageType::MsgAppend)] {
        assert!(one(kind, message(msg_type, 2, 1)).is_ok());
        for (from, to) in [(3, 1), (2, 3), (0, 1), (0, 0)] {
            let error = one(kind, message(msg_type, from, to)).expect_err("a lie");
            assert!(matches!(error, BadStream::Misaddressed { .. }), "{error}");
        }
    }
    // Who leads no more passes on what others asked of it.
    for forwarded in [MessageType::MsgPropose, MessageType::MsgReadIndex] {
        assert!(one(Kind::Message, message(forwarded, 3, 1)).is_ok());
        assert!(one(Kind::Message, message(forwarded, 3, 2)).is_err());
    }
    let error = one(Kind::Message, Message { msg_type: 19, ..message(vote, 2, 1) });
    assert_eq!(error, Err(BadStream::Wire(BadWire::UnknownMessage(19))));
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

prop_compose! {
    fn any_entry()(kind in 0..2_i32, term in 0..4_u64, index in 0..9_u64, data in any_bytes())
        -> Entry {
        Entry { entry_type: kind, term, index, data, ..Entry::default() }
    }
}

prop_compose! {
    /// Few terms and indexes, so that appends often continue.
    fn any_append()(
        term in 1..3_u64,
        log_term in 1..3_u64,
        index in 0..4_u64,
        entries in proptest::collection::vec(any_entry(), 0..4),
        commit in any::<u64>(),
        context in prop_oneof![4 => Just(Bytes::new()), 1 => any_bytes()],
    ) -> Message {
        Message { entries, commit, context, ..append(term, log_term, index, &[]) }
    }
}

prop_compose! {
    fn any_message()(
        numbers in any::<[u64; 4]>(),
        msg_type in prop_oneof![Just(4), Just(5), Just(6), Just(8), Just(9), 14..19_i32],
        reject in any::<bool>(),
        entries in proptest::collection::vec(any_entry(), 0..3),
        context in any_bytes(),
    ) -> Message {
        let [term, log_term, index, reject_hint] = numbers;
        let message = append(term, log_term, index, &[]);
        Message { msg_type, reject, reject_hint, entries, context, ..message }
    }
}

fn any_frames() -> impl Strategy<Value = (Kind, Vec<Frame>)> {
    let frames = |message: BoxedStrategy<Message>| {
        let frame = prop_oneof![1 => Just(Frame::LinkHeartbeat), 9 => message.prop_map(whole)];
        proptest::collection::vec(frame, 0..12)
    };
    prop_oneof![
        (Just(Kind::Append), frames(any_append().boxed())),
        (Just(Kind::Message), frames(any_message().boxed())),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read((kind, all) in any_frames(), cut in 1..60_usize) {
        let bytes = written(kind, &all);
        prop_assert_eq!(frames(Decoder::new(kind, 1, 2), &bytes, cut), Ok(all));
    }

    #[test]
    fn anything_is_read_or_refused(
        (kind, all) in any_frames(),
        cut in any::<u8>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = written(kind, &all).to_vec();
        for (index, byte) in changes.iter().filter(|_| !all.is_empty()) {
            *index.get_mut(&mut bytes) = *byte;
        }
        let number = Kind::ALL.iter().position(|each| *each == kind).expect("one of all") as u8;
        fuzz_stream(&[&[number, cut][..], &bytes].concat());
    }

    #[test]
    fn noise_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_stream(&bytes);
    }
}
