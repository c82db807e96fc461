//! The small files of a member.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::node::fuzz_files(bytes));
