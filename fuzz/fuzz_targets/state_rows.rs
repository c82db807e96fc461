//! The rows of a state, whoever wrote them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::tool::fuzz_rows(bytes));
