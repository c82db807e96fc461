//! A command line and an environment.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::config::fuzz_flags(bytes));
