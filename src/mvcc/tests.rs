//! Tests of the store.

use proptest::prelude::*;

use super::fuzz::fuzz_against_model;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_store_answers_as_its_oracle(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        fuzz_against_model(&bytes);
    }
}
