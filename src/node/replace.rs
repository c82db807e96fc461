//! Replacing a member that forgot, as its leader decides: its id goes, and it comes back as a
//! learner with a new one.
//!
//! It asks for that itself, with `--auto-replace`. Who asks has been let in by the peers' door and
//! calls from where the member lives; what is looked at here is whether the cluster can bear it:
//!
//! - Nobody is heard under the old id: a member that is at work has not forgotten.
//! - A majority of the voters is heard without it. One member at a time is replaced, and each at
//!   most once an hour: more often than that somebody should look at its disk.
//! - Between the removal and the addition the leader may die. Then the member is out, which costs
//!   nobody anything, and an operator must add it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{Handle, clock};
use crate::error::Error;
use crate::members::{self, Change, Member, Members};

/// How often a member is replaced at the most.
pub const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// When members were replaced, by their peer URLs. Locked while one is.
pub(super) type Replacements = Mutex<BTreeMap<Vec<String>, Instant>>;

/// A member's new place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub id: u64,
    pub members: Vec<Member>,
}

/// Why a member is not replaced.
#[derive(Debug, thiserror::Error)]
pub enum Unreplaced {
    #[error("the member that was asked does not lead")]
    NotLeader,
    #[error("the leader has no --auto-replace")]
    Off,
    #[error("no member has exactly these peer URLs")]
    NoMember,
    #[error("member {0:x} is still heard")]
    Active(u64),
    #[error("another member is being replaced, or learns")]
    Busy,
    #[error("of {voters} voters only {heard} are heard")]
    Unhealthy { heard: usize, voters: usize },
    #[error("it was replaced less than an hour ago")]
    TooSoon,
    #[error(transparent)]
    Refused(#[from] Error),
}

impl Unreplaced {
    /// Whether to ask again is of use.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotLeader | Self::Active(_) | Self::Busy | Self::Unhealthy { .. } => true,
            // The last leader may have removed it, and its addition is on its way.
            Self::NoMember | Self::Refused(Error::MemberNotFound) => true,
            Self::Off | Self::TooSoon => false,
            Self::Refused(error) => matches!(
                error,
                Error::NoLeader | Error::NotLeader | Error::LeaderChanged | Error::Timeout
            ),
        }
    }
}

impl Handle {
    /// Replaces the member with exactly these peer URLs, if this member leads and the cluster can
    /// bear it.
    pub async fn replace(&self, mut peer_urls: Vec<String>) -> Result<Replaced, Unreplaced> {
        if !self.leads() {
            return Err(Unreplaced::NotLeader);
        }
        if !self.limits().auto_replace {
            return Err(Unreplaced::Off);
        }
        let mut replacements = self.shared.replacements.try_lock().map_err(|_| Unreplaced::Busy)?;
        self.read_barrier().await?;
        peer_urls.sort();
        let members = self.members();
        let old = at(&members, &peer_urls).ok_or(Unreplaced::NoMember)?.clone();
        if old.is_learner && !old.was_at_work() {
            // It was done, and the answer did not arrive.
            return Ok(Replaced { id: old.id, members: members.iter().cloned().collect() });
        }
        self.check_replacement(&members, &old).await?;
        if replacements.get(&peer_urls).is_some_and(|at| clock::since(*at) < INTERVAL) {
            return Err(Unreplaced::TooSoon);
        }
        tracing::warn!(
            old = format!("{:x}", old.id),
            name = old.name,
            "replacing a member that lost its log or its vote"
        );
        self.change_members(Change::Remove(old.id)).await?;
        let id = members::member_id(&peer_urls, &self.shared.ids.request().to_string());
        let learner =
            Member { id, peer_urls: peer_urls.clone(), is_learner: true, ..Member::default() };
        let members = self.change_members(Change::Add(learner)).await?;
        replacements.insert(peer_urls, clock::now());
        tracing::warn!(new = format!("{id:x}"), "the member was added again, as a learner");
        Ok(Replaced { id, members })
    }

    async fn check_replacement(&self, members: &Members, old: &Member) -> Result<(), Unreplaced> {
        let followers = self.followers().await?;
        let is_heard = followers.iter().any(|one| one.id == old.id && one.is_active);
        if old.id == self.member_id() || is_heard || self.active_since(old.id).is_some() {
            return Err(Unreplaced::Active(old.id));
        }
        if members.iter().any(|member| member.is_learner && member.id != old.id) {
            return Err(Unreplaced::Busy);
        }
        let voters = || members.iter().filter(|member| !member.is_learner);
        let heard = voters().filter(|member| member.id != old.id);
        let heard = heard.filter(|member| self.active_since(member.id).is_some()).count();
        match heard > voters().count() / 2 {
            true => Ok(()),
            false => Err(Unreplaced::Unhealthy { heard, voters: voters().count() }),
        }
    }
}

/// The member with exactly these peer URLs, which are sorted.
fn at<'a>(members: &'a Members, peer_urls: &[String]) -> Option<&'a Member> {
    members.iter().find(|member| {
        let mut urls = member.peer_urls.clone();
        urls.sort();
        urls == peer_urls
    })
}
