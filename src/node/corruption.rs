//! The watch over corruption: members that applied the same entries must hold the same rows.
//!
//! Every compaction leaves a hash of the rows it kept. The leader asks the others for theirs of the
//! same compaction, each minute, and raises CORRUPT for whoever is outvoted. It costs nothing that
//! was not computed anyway. With `--corrupt-check-time` the rows as of now are compared as well,
//! for stores that nobody compacts.
//!
//! - A member that has not come so far, or whose hash is of another compaction, says nothing about
//!   anything: it is asked again next time.
//! - Where no majority agrees nobody knows who is wrong. Then the alarm is everybody's (member 0),
//!   as in etcd; but while somebody who could decide it says nothing, not for some rounds.
//! - A comparison that found all alike is not repeated.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Handle, clock};
use crate::error::Error;
use crate::marks::{Mark, mark};
use crate::mvcc::HashKv;
use crate::pb::internal_raft_request::Command;
use crate::pb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};

/// Newest compactions that are compared, at the most, in one round.
const COMPACTIONS_MAX: usize = 10;

/// Rounds for which those who say nothing are waited for, where they could decide who is wrong.
const UNDECIDED_ROUNDS_MAX: u32 = 5;

/// How often members are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intervals {
    /// By the hashes that compactions left; `None` is never.
    pub compactions: Option<Duration>,
    /// By the rows as of now; `None` is never.
    pub rows: Option<Duration>,
}

/// Compares members until `stop` closes, if there is anything to compare.
pub(super) async fn run(node: Handle, intervals: Intervals, mut stop: mpsc::Receiver<()>) {
    let Some(shortest) = intervals.compactions.into_iter().chain(intervals.rows).min() else {
        return;
    };
    let rows_compared = clock::now();
    let mut watch = Watch { node, intervals, agreed: 0, undecided: 0, rows_compared };
    while timeout(shortest, stop.recv()).await.is_err() {
        if watch.node.leads() {
            watch.round().await;
        }
    }
}

impl Handle {
    /// Whether no other member that can be asked contradicts the rows of this one, as of its newest
    /// revision; who does, otherwise. For a member that is about to serve.
    pub async fn contradicted(&self) -> Result<Option<u64>, Error> {
        let own = self.hash_kv(self.revision()).await?;
        for member in self.members().iter().filter(|member| member.id != self.member_id()) {
            match self.transport().hash_kv(member.id, own.hash_revision).await {
                Ok(their) if comparable(&own, &their) && own.hash != their.hash => {
                    tracing::error!(
                        peer_id = format!("{:x}", member.id),
                        ?own,
                        ?their,
                        "rows differ"
                    );
                    return Ok(Some(member.id));
                }
                Ok(_) => {}
                Err(error) => {
                    let peer_id = format!("{:x}", member.id);
                    tracing::warn!(peer_id, %error, "cannot compare rows with a peer");
                }
            }
        }
        Ok(None)
    }
}

struct Watch {
    node: Handle,
    intervals: Intervals,
    /// The newest compaction that all members agreed on.
    agreed: i64,
    /// Rounds in a row in which nobody was right, and somebody silent.
    undecided: u32,
    rows_compared: Instant,
}

impl Watch {
    async fn round(&mut self) {
        if self.intervals.compactions.is_some() {
            self.compare_compactions().await;
        }
        if self.intervals.rows.is_some_and(|interval| clock::since(self.rows_compared) >= interval)
        {
            self.rows_compared = clock::now();
            self.compare_rows().await;
        }
    }

    async fn compare_compactions(&mut self) {
        let hashes = self.node.reader().compaction_hashes();
        for own in hashes.into_iter().rev().take(COMPACTIONS_MAX) {
            if own.hash_revision <= self.agreed {
                return;
            }
            if let Verdict::Agreed = self.compare(own).await {
                mark(Mark::CompactionsCompared);
                self.agreed = own.hash_revision;
                return;
            }
        }
    }

    async fn compare_rows(&mut self) {
        // As of a revision that the others will have by the time they are asked.
        let revision = self.node.revision();
        match self.node.hash_kv(revision).await {
            Ok(own) => {
                self.compare(own).await;
            }
            Err(error) => tracing::warn!(%error, "cannot hash the rows to compare members"),
        }
    }

    /// Asks everybody for what this leader has, and raises the alarm if somebody has other rows.
    async fn compare(&mut self, own: HashKv) -> Verdict {
        let others = self.node.members();
        let others =
            others.iter().map(|member| member.id).filter(|id| *id != self.node.member_id());
        let (mut votes, mut silent) = (vec![(self.node.member_id(), own.hash)], 0);
        for id in others {
            match self.node.transport().hash_kv(id, own.hash_revision).await {
                Ok(their) if comparable(&own, &their) => votes.push((id, their.hash)),
                Ok(_) => silent += 1,
                Err(error) => {
                    tracing::debug!(member = format!("{id:x}"), %error, "no hash to compare");
                    silent += 1;
                }
            }
        }
        let outvoted = outvoted(&votes);
        let is_open = outvoted == [0] && silent > 0 && self.undecided < UNDECIDED_ROUNDS_MAX;
        if !outvoted.is_empty() || silent == 0 {
            self.undecided = if is_open { self.undecided + 1 } else { 0 };
        }
        if is_open {
            tracing::warn!(?votes, silent, "rows differ, and nobody can be asked who is right");
            return Verdict::Open;
        }
        for id in &outvoted {
            let member = format!("{id:x}");
            let revision = own.hash_revision;
            tracing::error!(member, revision, ?votes, "found a corrupt member: its rows differ");
            let alarm = AlarmRequest {
                member_id: *id,
                action: AlarmAction::Activate as i32,
                alarm: AlarmType::Corrupt as i32,
            };
            if let Err(error) = self.node.propose(Command::Alarm(alarm)).await {
                tracing::error!(%error, "cannot raise CORRUPT");
            }
        }
        if outvoted.is_empty() && silent == 0 { Verdict::Agreed } else { Verdict::Open }
    }
}

enum Verdict {
    /// Everybody has what we have.
    Agreed,
    Open,
}

/// Whether two hashes are of the same rows.
fn comparable(own: &HashKv, their: &HashKv) -> bool {
    (own.hash_revision, own.compact_revision) == (their.hash_revision, their.compact_revision)
}

/// The members whose hash a majority of `votes` contradicts; member 0 if there is no majority.
fn outvoted(votes: &[(u64, u32)]) -> Vec<u64> {
    let (_, first) = votes[0];
    if votes.iter().all(|(_, hash)| *hash == first) {
        return Vec::new();
    }
    let count = |wanted: u32| votes.iter().filter(|(_, hash)| *hash == wanted).count();
    match votes.iter().find(|(_, hash)| count(*hash) > votes.len() / 2) {
        Some((_, right)) => {
            votes.iter().filter(|(_, hash)| hash != right).map(|(id, _)| *id).collect()
        }
        None => vec![0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_decides_who_is_wrong() {
        assert!(outvoted(&[(1, 7)]).is_empty());
        assert!(outvoted(&[(1, 7), (2, 7), (3, 7)]).is_empty());
        assert_eq!(outvoted(&[(1, 7), (2, 7), (3, 8)]), [3]);
        // A leader may be the one who is wrong.
        assert_eq!(outvoted(&[(1, 8), (2, 7), (3, 7)]), [1]);
        assert_eq!(outvoted(&[(1, 7), (2, 8)]), [0]);
        assert_eq!(outvoted(&[(1, 7), (2, 8), (3, 9)]), [0]);
    }

    #[test]
    fn hashes_of_other_compactions_say_nothing() {
        let hash = |compact_revision, hash_revision| HashKv {
            hash: 1,
            compact_revision,
            hash_revision,
            revision: 9,
        };
        assert!(comparable(&hash(3, 5), &hash(3, 5)));
        assert!(!comparable(&hash(3, 5), &hash(4, 5)));
        assert!(!comparable(&hash(3, 5), &hash(3, 6)));
    }
}
