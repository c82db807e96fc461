//! What another member answers.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::peer::fuzz_answer(bytes));
