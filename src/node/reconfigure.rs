//! Changes of members as clients ask for them: looked at before they are proposed.
//!
//! ```text
//! add, remove, update ─▶ can the cluster bear it? ─▶ the log
//! promote ─▶ the leader ─▶ does the learner keep up? ─▶ can the cluster bear it? ─▶ the log
//! ```
//!
//! Only the leader knows how far a learner is, so other members pass a promotion on to it. Whatever
//! is looked at here may have changed when the log comes to the change; then every member judges it
//! by its book alone.

use std::time::Duration;

use super::{Handle, clock};
use crate::error::Error;
use crate::members::{Change, Contact, Member};

/// For how long a member must have been heard without a break to count on it, as etcd has it.
const STEADY: Duration = Duration::from_secs(5);
/// A learner keeps up if it has nine tenths of the leader's log, as in etcd.
const READY_PERCENT: u128 = 90;
/// How often to look whether there is a leader, or what was committed is applied.
const PAUSE: Duration = Duration::from_millis(10);

impl Handle {
    /// Adds, removes or moves a member, or promotes a learner, if the cluster can bear it; all
    /// members after that.
    pub async fn reconfigure(&self, change: Change) -> Result<Vec<Member>, Error> {
        match change {
            Change::Promote(id) => self.promote(id).await,
            Change::Add(_) | Change::Update { .. } | Change::Remove(_) => {
                self.check_quorum(&change)?;
                match change == Change::Remove(self.member_id()) {
                    true => self.leave().await,
                    false => self.change_members(change).await,
                }
            }
        }
    }

    /// Has this member removed. It may not live to see that in its log: whoever leads says no more
    /// to it once it is gone, but for that it is.
    async fn leave(&self) -> Result<Vec<Member>, Error> {
        let own = self.member_id();
        let told = async {
            while !self.is_removed() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            answer = self.change_members(Change::Remove(own)) => answer,
            () = told => {
                let members = self.members();
                Ok(members.iter().filter(|member| member.id != own).cloned().collect())
            }
        }
    }

    /// Has the leader promote a learner, whoever that is.
    async fn promote(&self, id: u64) -> Result<Vec<Member>, Error> {
        let give_up = clock::now() + self.limits().request_timeout;
        loop {
            let promoted = match self.progress().leader {
                0 => Err(Error::NoLeader),
                own if own == self.member_id() => self.promote_as_leader(id).await,
                leader => self.shared.membership.peers().promote(leader, id).await,
            };
            match promoted {
                Err(Error::NoLeader | Error::NotLeader | Error::LeaderChanged) => {}
                answer => return answer,
            }
            if clock::now() > give_up {
                return Err(Error::NoLeader);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Promotes a learner that keeps up. Anybody but the leader answers that it is not.
    pub async fn promote_as_leader(&self, id: u64) -> Result<Vec<Member>, Error> {
        let promoted = self.try_promote(id).await;
        let metrics = self.metrics();
        match &promoted {
            Ok(_) => metrics.promotions.inc(),
            Err(Error::NotLeader) => {}
            Err(error) => {
                metrics.promotions_failed.with_label_values(&[&error.to_string()]).inc();
            }
        }
        promoted
    }

    async fn try_promote(&self, id: u64) -> Result<Vec<Member>, Error> {
        self.catch_up().await?;
        let followers = self.followers().await?;
        let matched = |id| followers.iter().find(|one| one.id == id).map(|one| one.matched);
        let own = matched(self.member_id()).ok_or(Error::NotLeader)?;
        let learner = matched(id).ok_or(Error::MemberNotFound)?;
        if u128::from(learner) * 100 < u128::from(own) * READY_PERCENT {
            tracing::warn!(
                learner = format!("{id:x}"),
                matched = learner,
                own,
                "not ready to vote"
            );
            return Err(Error::LearnerNotReady);
        }
        self.check_quorum(&Change::Promote(id))?;
        self.change_members(Change::Promote(id)).await
    }

    /// Returns when everything that is committed now is applied: a learner may just have been
    /// added.
    async fn catch_up(&self) -> Result<(), Error> {
        let committed = self.progress().committed;
        let caught_up = async {
            while self.progress().applied < committed {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let patience = self.limits().request_timeout;
        let caught_up = tokio::time::timeout(patience, caught_up).await;
        caught_up.map_err(|_| Error::TimeoutWaitAppliedIndex)
    }

    fn check_quorum(&self, change: &Change) -> Result<(), Error> {
        if !self.limits().strict_reconfig {
            return Ok(());
        }
        let checked = self.members().check_quorum(change, self.member_id(), |id| {
            match self.active_since(id).map(clock::since) {
                None => Contact::Lost,
                Some(time) if time <= STEADY => Contact::Recent,
                Some(_) => Contact::Steady,
            }
        });
        if let Err(error) = &checked {
            tracing::warn!(?change, %error, "the cluster cannot bear this change of members now");
        }
        checked
    }
}
