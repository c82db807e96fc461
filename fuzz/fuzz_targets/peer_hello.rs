//! What another member says of itself.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::peer::headers::fuzz_hello(bytes));
