//! A span of keys, beside the three lines of etcd's documentation.

#![no_main]

use bytes::Bytes;
use kvorum::span::Span;

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (key, range_end, probe) = input;
    let span = Span::new(Bytes::from(key.clone()), Bytes::from(range_end.clone()));
    let expected = match &range_end[..] {
        [] => probe == key,
        [0] => probe >= key,
        end => key <= probe && &probe[..] < end,
    };
    assert_eq!(span.contains(&probe), expected, "{span:?} and {probe:?}");
    assert!(!(span.is_empty() && expected), "an empty span holds nothing");
});
