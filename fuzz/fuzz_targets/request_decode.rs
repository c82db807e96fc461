//! A request of any kind, as it comes from the wire or the log.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::api::fuzz_request(bytes));
