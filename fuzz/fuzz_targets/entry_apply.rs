//! Committed entries, on two machines.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::machine::fuzz_entries(bytes));
