//! A configuration file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::config::fuzz_file(bytes));
