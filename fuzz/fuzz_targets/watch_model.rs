//! Watchers beside clients that believe nothing.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::watch::world::exercise(bytes));
