use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::intervals::{Intervals, Reach};
use super::world::exercise;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The nine guarantees hold whatever the order of events. See `model::Client`.
    #[test]
    fn guarantees(steps in prop::collection::vec(any::<[u8; 4]>(), 0..300)) {
        exercise(&steps.concat());
    }

    /// The tree finds what a look at every range finds, and stays balanced.
    #[test]
    fn intervals(steps in prop::collection::vec((any::<bool>(), 0..12u8, 0..14u8), 0..200)) {
        let mut tree = Intervals::default();
        let mut naive: BTreeMap<u32, (Bytes, Reach)> = BTreeMap::new();
        for (number, (add, start, end)) in (0u32..).zip(steps) {
            if add {
                let start = Bytes::from(vec![start]);
                let end = if end > 12 { Reach::Open } else { Reach::Before(vec![end].into()) };
                tree.insert(&start, &end, number);
                naive.insert(number, (start, end));
            } else if let Some((number, (start, end))) = naive.pop_first() {
                tree.remove(&start, &end, number);
            }
            let distinct: std::collections::BTreeSet<_> =
                naive.values().map(|(start, end)| (start.clone(), end.clone())).collect();
            prop_assert_eq!(tree.checked_len(), distinct.len());
        }
        for key in 0..14u8 {
            let mut found = Vec::new();
            tree.around(&[key], &mut |number| found.push(number));
            found.sort_unstable();
            let covers = |(start, end): &(Bytes, Reach)| {
                start[..] <= [key][..] && *end > Reach::Before(vec![key].into())
            };
            let expected: Vec<u32> =
                naive.iter().filter(|(_, range)| covers(range)).map(|(n, _)| *n).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
