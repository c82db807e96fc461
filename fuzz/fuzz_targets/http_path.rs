//! The path and the parameters of a plain request.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::http::fuzz_path(bytes));
