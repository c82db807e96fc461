//! Equality and construction of conf states.

use crate::eraftpb::ConfState;

/// Whether two conf states name the same configuration, whatever the order of their lists.
pub fn conf_state_eq(left: &ConfState, right: &ConfState) -> bool {
    fn same(left: &[u64], right: &[u64]) -> bool {
        if left == right {
            return true;
        }
        let (mut left, mut right) = (left.to_vec(), right.to_vec());
        left.sort_unstable();
        right.sort_unstable();
        left == right
    }
    left.auto_leave == right.auto_leave
        && same(&left.voters, &right.voters)
        && same(&left.learners, &right.learners)
        && same(&left.voters_outgoing, &right.voters_outgoing)
        && same(&left.learners_next, &right.learners_next)
}

impl<V, L> From<(V, L)> for ConfState
where
    V: IntoIterator<Item = u64>,
    L: IntoIterator<Item = u64>,
{
    /// A plain configuration, not joint, of voters and learners.
    fn from((voters, learners): (V, L)) -> ConfState {
        ConfState {
            voters: voters.into_iter().collect(),
            learners: learners.into_iter().collect(),
            ..ConfState::default()
        }
    }
}
