//! What DNS answers when it is asked for the founding members.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::server::fuzz_dns(bytes));
