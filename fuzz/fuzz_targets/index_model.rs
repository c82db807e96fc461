//! The key index: changes, snapshots, compaction and rebuilding from pieces, beside full histories.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvorum::mvcc::index::fuzz::fuzz_index(bytes));
