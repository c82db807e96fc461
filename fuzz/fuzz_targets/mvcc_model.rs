//! Writes, reads, compactions, checkpoints and crashes, beside the naive store.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::mvcc::fuzz::fuzz_against_model(bytes));
