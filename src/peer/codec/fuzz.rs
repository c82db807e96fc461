//! The body of the fuzz target `peer_stream`.

use bytes::BytesMut;

use super::{BadStream, Decoder, Encoder, Frame, Kind};

/// Reads `bytes` after the first two, which say what stream it is and how it is cut, as what a
/// member sends. Whatever they are, this returns; cuts make no difference, and what was read is
/// read again from our own encoding of it.
pub fn fuzz_stream(bytes: &[u8]) {
    let [kind, cut, bytes @ ..] = bytes else { return };
    let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    let (frames, error) = read(kind, bytes, bytes.len().max(1));
    let (cut_frames, cut_error) = read(kind, bytes, usize::from(*cut).max(1));
    assert_eq!((&frames, &error), (&cut_frames, &cut_error), "cuts make no difference");

    let (mut encoder, mut written) = (Encoder::new(kind), BytesMut::new());
    for frame in &frames {
        match frame {
            Frame::LinkHeartbeat => encoder.link_heartbeat(&mut written),
            Frame::Message(message) => encoder.encode(*message.clone(), &mut written),
        }
    }
    let (again, error) = read(kind, &written, written.len().max(1));
    assert_eq!((again, error), (frames, None), "what was read can be sent on");
}

/// The frames of a stream that arrives in pieces of `cut` bytes, and its end if that is bad.
fn read(kind: Kind, bytes: &[u8], cut: usize) -> (Vec<Frame>, Option<BadStream>) {
    let (mut decoder, mut frames) = (Decoder::new(kind, 1, 2), Vec::new());
    for piece in bytes.chunks(cut) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
