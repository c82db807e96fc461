//! Messages to a member whose log has a history.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::raft::fuzz_step(bytes));
