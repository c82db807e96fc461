//! Properties of the index.

use bytes::Bytes;
use proptest::prelude::*;

use super::fuzz::fuzz_index;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(300),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_index_remembers_what_a_map_of_histories_does(
        bytes in proptest::collection::vec(any::<u8>(), 1..900),
    ) {
        fuzz_index(&bytes);
    }
}

#[test]
fn a_tree_grows_and_shrinks_through_all_heights() {
    let mut index = Index::default();
    let keys: Vec<String> =
        (0..20_000).map(|n| format!("/registry/{:05}", n * 7919 % 20_000)).collect();
    let mut revision = 1;
    for key in &keys {
        revision += 1;
        let facts = Facts {
            revision: Revision::new(revision, 0),
            create_revision: revision,
            version: 1,
            leased: false,
        };
        index.put(key.as_bytes(), Head { facts, tombstone: false });
    }
    index.check();
    let all = Span::new(Bytes::from_static(b"/"), Bytes::from_static(b"\0"));
    assert_eq!(index.count(&all, NOW), 20_000);
    let full = index.clone();
    for key in &keys {
        revision += 1;
        let facts = Facts { revision: Revision::new(revision, 0), ..Facts::default() };
        index.put(key.as_bytes(), Head { facts, tombstone: true });
        assert!(index.forget(key.as_bytes(), facts.revision));
        if revision % 1997 == 0 {
            index.check();
        }
    }
    index.check();
    assert_eq!(index.count(&all, NOW), 0);
    assert_eq!(full.count(&all, NOW), 20_000);
}
