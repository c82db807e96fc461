//! Leases as clients ask for them: renewed and looked at, by whoever leads.
//!
//! Deadlines are the leader's to keep and never in the log, so that a renewal costs no write. Any
//! member passes what it is asked on to the leader, and that has a majority confirm that it still
//! is before it renews: one that stood still may not know that it has a successor, which gives
//! every lease its full time from when it took over, but not from later.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::{Handle, clock};
use crate::error::Error;
use crate::lease::Renewal;
use crate::machine::Machine;
use crate::marks::{Mark, mark};
use crate::pb::LeaseTimeToLiveResponse;
use crate::planted::{Mistake, planted};

/// How often a renewal of an expired lease looks whether its revocation was applied, and whether
/// there is a leader.
const PAUSE: Duration = Duration::from_millis(50);

impl Handle {
    /// Renews a lease, wherever its deadline is kept; its time to live in seconds.
    pub async fn renew(&self, id: i64) -> Result<i64, Error> {
        self.at_leader(
            |node| async move { node.renew_here(id).await },
            |peers, leader| peers.renew(leader, id),
        )
        .await
    }

    /// Renews a lease whose deadline is kept here.
    pub async fn renew_here(&self, id: i64) -> Result<i64, Error> {
        let give_up = clock::now() + self.limits().request_timeout;
        if !planted(Mistake::RenewUnasked) {
            self.read_barrier().await?;
        }
        while clock::now() < give_up {
            let now = self.clock().now_ms();
            let renewal = self.deadlines().lock().renewed(id, now);
            match renewal {
                Renewal::Renewed(ttl) => {
                    self.metrics().leases_renewed.inc();
                    return Ok(ttl);
                }
                Renewal::NotFound => return Err(Error::LeaseNotFound),
                Renewal::NotPrimary => return Err(Error::NotPrimaryLessor),
                // The remembered remainder must not outlive the renewal over a restart.
                Renewal::ClearFirst => {
                    self.propose(super::duties::forget_remaining(id)).await?;
                }
                // It ran out; the answer is not found, but not before that is so everywhere.
                Renewal::Expiring => {
                    mark(Mark::LeaseRenewedTooLate);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Err(Error::Timeout)
    }

    /// What is left of a lease, and its keys if they are wanted. The header is left out; a lease
    /// that is not there has a time to live of -1.
    pub async fn time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        self.at_leader(
            |node| async move { node.time_to_live_here(id, keys).await },
            |peers, leader| peers.time_to_live(leader, id, keys),
        )
        .await
    }

    /// The same, of a lease whose deadline is kept here.
    pub async fn time_to_live_here(
        &self,
        id: i64,
        wants_keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let look = move |machine: &Machine| {
            let lease = machine.leases().lease(id)?;
            let keys: Vec<Bytes> =
                if wants_keys { lease.keys.iter().cloned().collect() } else { Vec::new() };
            Some((lease.ttl, keys))
        };
        let mut facts = self.inspect(look).await?;
        if facts.is_none() {
            // It is gone, or this member comes to lead just now and has yet to apply its grant, or
            // it was granted by a successor this member has not heard of.
            self.read_barrier().await?;
            facts = self.inspect(look).await?;
        }
        let now = self.clock().now_ms();
        let left = {
            let deadlines = self.deadlines().lock();
            if !deadlines.is_primary() {
                return Err(Error::NotPrimaryLessor);
            }
            deadlines.remaining(id, now)
        };
        Ok(match facts {
            Some((granted_ttl, keys)) => {
                let ttl = left.unwrap_or(granted_ttl);
                LeaseTimeToLiveResponse { header: None, id, ttl, granted_ttl, keys }
            }
            None => LeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() },
        })
    }

    /// All leases; on the leader, which alone knows when, the first to expire first.
    pub async fn leases(&self) -> Result<Vec<i64>, Error> {
        let by_expiry = {
            let deadlines = self.deadlines().lock();
            deadlines.is_primary().then(|| deadlines.by_expiry())
        };
        match by_expiry {
            Some(leases) => Ok(leases),
            None => {
                self.inspect(|machine| machine.leases().leases().map(|(id, _)| id).collect()).await
            }
        }
    }

    /// Asks this member if it leads, else the one that does, until one of them does.
    async fn at_leader<T, Here: Future<Output = Result<T, Error>>>(
        &self,
        here: impl Fn(Self) -> Here,
        there: impl Fn(&dyn super::Transport, u64) -> super::BoxFuture<'static, Result<T, Error>>,
    ) -> Result<T, Error> {
        let give_up = clock::now() + self.limits().request_timeout;
        loop {
            let leader = self.shared.progress.leader.load(Ordering::Acquire);
            let answer = if leader == self.member_id() {
                here(self.clone()).await
            } else if leader == 0 {
                Err(Error::NoLeader)
            } else {
                there(self.transport(), leader).await
            };
            match answer {
                Err(Error::NoLeader | Error::NotLeader | Error::NotPrimaryLessor)
                    if clock::now() < give_up => {}
                Err(Error::NotLeader | Error::NotPrimaryLessor) => return Err(Error::NoLeader),
                answer => return answer,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
