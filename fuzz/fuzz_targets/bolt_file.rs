//! A file that claims to be a bbolt file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::bolt::fuzz_read(bytes));
