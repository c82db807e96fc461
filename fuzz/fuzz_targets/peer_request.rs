//! What another member asks, snapshots among it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::peer::fuzz_request(bytes));
