use proptest::prelude::*;

use super::model::exercise;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Never early, never late, the same everywhere. See `model`.
    #[test]
    fn promises(steps in prop::collection::vec(any::<[u8; 3]>(), 0..400)) {
        exercise(&steps.concat());
    }
}
