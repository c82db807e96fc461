//! A span of keys, beside the three lines of etcd's documentation.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::span::fuzz_span(bytes));
