//! The body of the fuzz target `span`: a span of keys, beside three lines of etcd's documentation.

use bytes::Bytes;

use super::Span;

/// Takes `bytes` for a key, the end of a range, and a key that may be in it, apart by the first
/// byte.
pub fn fuzz_span(bytes: &[u8]) {
    let Some((mark, bytes)) = bytes.split_first() else { return };
    let mut parts = bytes.splitn(3, |byte| byte == mark).map(<[u8]>::to_vec);
    let mut part = || parts.next().unwrap_or_default();
    let (key, range_end, probe) = (part(), part(), part());
    let span = Span::new(Bytes::from(key.clone()), Bytes::from(range_end.clone()));
    let expected = match &range_end[..] {
        [] => probe == key,
        [0] => probe >= key,
        end => key <= probe && &probe[..] < end,
    };
    assert_eq!(span.contains(&probe), expected, "{span:?} and {probe:?}");
    assert!(!(span.is_empty() && expected), "an empty span holds nothing");
}
