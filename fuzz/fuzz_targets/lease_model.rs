//! Leases, beside a naive model of them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::lease::model::exercise(bytes));
