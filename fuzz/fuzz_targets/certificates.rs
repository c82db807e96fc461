//! What an operator's files and another member's certificate say.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::tls::fuzz_certificates(bytes));
