//! A stream of raft messages from another member.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::peer::codec::fuzz_stream(bytes));
