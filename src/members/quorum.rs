//! Whether a cluster can bear a change: enough members at work for a majority after it.
//!
//! These are the rules of `--strict-reconfig-check`, in etcd's order and words. Unlike
//! [`Members::check`] they look at who runs, so they hold for whoever asks for a change, before it
//! is proposed, and never for the log.

use super::{Change, Members};
use crate::error::Error;

/// How another member is heard, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Not at all.
    Lost,
    /// Since a moment ago: it may be a connection that comes and goes.
    Recent,
    /// For a while.
    Steady,
}

impl Members {
    /// Refuses a change after which too few voters would be at work.
    ///
    /// A promotion takes for granted that the learner is at work: that it keeps up with the leader
    /// was looked at before.
    pub fn check_quorum(
        &self,
        change: &Change,
        own: u64,
        contact: impl Fn(u64) -> Contact,
    ) -> Result<(), Error> {
        let voters = self.iter().filter(|member| !member.is_learner).count();
        let started_voters = |except: Option<u64>| {
            let voters = self.iter().filter(|it| !it.is_learner && Some(it.id) != except);
            voters.filter(|member| member.is_started()).count()
        };
        let steady_voters = || {
            let mut voters = self.iter().filter(|it| !it.is_learner).map(|member| member.id);
            let is_steady = |id: &u64| *id == own || contact(*id) == Contact::Steady;
            voters.by_ref().filter(is_steady).count()
        };
        match change {
            Change::Update { .. } => Ok(()),
            Change::Add(member) => {
                let started = started_voters(None);
                // One member can always get a second, if only because its majority is itself.
                let is_second = started == 1 && voters == 1;
                if !member.is_learner && !is_second && started < majority(voters + 1) {
                    return Err(Error::MemberNotEnoughStarted);
                }
                // The new one is counted as not at work.
                match voters == 1 || steady_voters() >= majority(voters + 1) {
                    true => Ok(()),
                    false => Err(Error::Unhealthy),
                }
            }
            Change::Promote(_) => match started_voters(None) + 1 >= majority(voters + 1) {
                true => Ok(()),
                false => Err(Error::MemberNotEnoughStarted),
            },
            Change::Remove(id) => {
                let target = self.get(*id);
                if target.is_some_and(|member| member.is_learner) {
                    return Ok(());
                }
                let left = voters - usize::from(target.is_some());
                if started_voters(Some(*id)) < majority(left) {
                    return Err(Error::MemberNotEnoughStarted);
                }
                // One that is down takes nothing with it.
                if *id != own && contact(*id) == Contact::Lost {
                    return Ok(());
                }
                match steady_voters() > majority(voters.saturating_sub(1)) {
                    true => Ok(()),
                    false => Err(Error::Unhealthy),
                }
            }
        }
    }
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}
