//! The end of a write-ahead log as a crash or a bad disk left it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::storage::wal::fuzz_open(bytes));
