//! States on their way to other members, and the entries these will need next.
//!
//! Who was sent a state takes its time to install it, and only then asks for entries. Were they
//! dropped by then it would need another state, and so on for ever. It does not matter whether
//! raft has heard from a follower lately, which it forgets with every check of its quorum; that
//! its streams are up does.

use std::collections::BTreeMap;

use crate::raft::Progress;

/// By member.
#[derive(Default)]
pub(super) struct Sendings {
    by_id: BTreeMap<u64, Sending>,
}

struct Sending {
    /// The state has the entries up to here.
    index: u64,
    arrived: bool,
}

impl Sendings {
    /// A state is being sent.
    pub fn began(&mut self, to: u64, index: u64) {
        self.by_id.insert(to, Sending { index, arrived: false });
    }

    /// It arrived, or will not.
    pub fn ended(&mut self, to: u64, arrived: bool) {
        if !arrived {
            self.by_id.remove(&to);
        } else if let Some(sending) = self.by_id.get_mut(&to) {
            sending.arrived = true;
        }
    }

    /// How far the slowest of the followers is that entries can still bring on. `first` is the
    /// index of the oldest entry there is.
    pub fn slowest(
        &self,
        followers: &[Progress],
        first: u64,
        is_up: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let reached = |one: &Progress| match self.by_id.get(&one.id) {
            Some(sending) if !sending.arrived || is_up(one.id) => {
                Some(one.matched.max(sending.index))
            }
            Some(_) => None,
            None => is_up(one.id).then_some(one.matched),
        };
        followers.iter().filter_map(reached).filter(|reached| reached + 1 >= first).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Flow;

    fn follower(id: u64, matched: u64) -> Progress {
        Progress { id, is_learner: false, matched, flow: Flow::Probe, is_active: false }
    }

    #[test]
    fn entries_wait_for_who_installs_a_state() {
        let mut sendings = Sendings::default();
        let followers = [follower(2, 90), follower(3, 10)];
        // 3 is beyond help by entries, until it has the state.
        assert_eq!(sendings.slowest(&followers, 50, |_| true), Some(90));
        sendings.began(3, 60);
        assert_eq!(sendings.slowest(&followers, 50, |id| id == 2), Some(60));
        sendings.ended(3, true);
        assert_eq!(sendings.slowest(&followers, 50, |_| true), Some(60));
        assert_eq!(sendings.slowest(&followers, 50, |id| id == 2), Some(90), "3 died over it");
        let followers = [follower(2, 90), follower(3, 70)];
        assert_eq!(sendings.slowest(&followers, 50, |_| true), Some(70), "3 installed it");
    }

    #[test]
    fn nothing_waits_for_who_is_gone() {
        let mut sendings = Sendings::default();
        let followers = [follower(2, 90), follower(3, 80)];
        assert_eq!(sendings.slowest(&followers, 50, |_| false), None);
        sendings.began(3, 85);
        sendings.ended(3, false);
        assert_eq!(sendings.slowest(&followers, 50, |_| false), None);
        assert_eq!(sendings.slowest(&[], 50, |_| true), None, "who does not lead has no followers");
    }
}
