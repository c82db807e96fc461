//! The leader's knowledge of when leases run out.
//!
//! Deadlines only move later, so a renewal writes one number and leaves the queue alone: an entry
//! that comes up early is put back to where it belongs now. A million leases cost a million
//! renewals one tree lookup each, and the queue one move per lease and time to live.
//!
//! Invariants:
//! - Every lease has exactly one place in `queue`, not after its deadline unless it is expiring.
//! - A lease that is expiring stays so, its deadline past, until it is revoked or leadership ends.
//! - While not leading nothing is known and nothing is handed out.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::LEASE_EXPIRIES_PER_SECOND_MAX;
use crate::planted::{Mistake, planted};

use super::book::Lease;

/// How long a revocation may take before it is proposed again.
const REVOKE_RETRY_MS: u64 = 3_000;
/// How often the rest of a long lease is written down.
const CHECKPOINT_INTERVAL_MS: u64 = 5 * 60 * 1000;
/// From this many leases on, those that would expire together after a promotion are spread out.
const SPREAD_FROM: usize = 1000;

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Not the leader, or no longer: ask the leader.
    NotPrimary,
    /// There is no such lease.
    NotFound,
    /// It has run out and is being revoked: the answer is not found, but only once that is done;
    /// not the leader, if leadership ends first.
    Expiring,
    /// Propose a checkpoint of 0 for it, and ask again when that is applied.
    ClearFirst,
    /// Renewed for so many seconds.
    Renewed(i64),
}

/// The seconds a lease has left, to be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub id: i64,
    pub remaining: i64,
}

/// Deadlines of all leases, on the leader.
#[derive(Debug, Default)]
pub struct Deadlines {
    is_primary: bool,
    terms: BTreeMap<i64, Term>,
    /// When to look at each lease next.
    queue: BTreeSet<(u64, i64)>,
    /// When to think of writing down the rest of each lease that is long enough.
    due_checkpoints: BTreeSet<(u64, i64)>,
}

/// What is known of one lease.
#[derive(Debug)]
struct Term {
    ttl: i64,
    deadline_ms: u64,
    queued_ms: u64,
    /// Its last grant, renewal, or promotion.
    renewed_ms: u64,
    is_expiring: bool,
    checkpoint_ms: Option<u64>,
    mark: Mark,
}

/// What the log says or is about to say of the rest of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// No checkpoint.
    Clear,
    /// A checkpoint was handed out or applied: a new leader may count from it.
    Noted,
    /// A renewal waits for a checkpoint of 0; until that is applied no other is handed out, so
    /// that what was handed out before precedes it in the log.
    Clearing,
}

impl Deadlines {
    /// Becomes the leader's: every lease gets its full time, or what the last checkpoint left of
    /// it, and `extend_ms`, the election timeout, on top.
    ///
    /// Call it when the first entry of the leader's own term is applied.
    pub fn promote<'a>(
        &mut self,
        now_ms: u64,
        extend_ms: u64,
        leases: impl Iterator<Item = (i64, &'a Lease)>,
    ) {
        let base_ms = now_ms.saturating_add(extend_ms);
        let mut terms: Vec<(i64, Term)> = leases
            .map(|(id, lease)| {
                let rest = if lease.remaining > 0 { lease.remaining } else { lease.ttl };
                let mut term = Term::new(lease.ttl, after(base_ms, rest), now_ms);
                if lease.remaining > 0 {
                    term.mark = Mark::Noted;
                }
                (id, term)
            })
            .collect();
        spread(&mut terms);
        // Trees are built in one go: with a million leases inserting one by one takes seconds.
        self.is_primary = true;
        self.queue = terms.iter().map(|(id, term)| (term.queued_ms, *id)).collect();
        self.due_checkpoints =
            terms.iter().filter_map(|(id, term)| Some((term.checkpoint_ms?, *id))).collect();
        self.terms = terms.into_iter().collect();
        assert_eq!(self.terms.len(), self.queue.len(), "ids are not shared");
    }

    /// Ends leadership: forgets everything.
    pub fn demote(&mut self) {
        *self = Self::default();
    }

    /// Whether this is the leader's.
    pub fn is_primary(&self) -> bool {
        self.is_primary
    }

    /// Learns of a grant applied.
    pub fn granted(&mut self, id: i64, ttl: i64, now_ms: u64) {
        if !self.is_primary {
            return;
        }
        let early = i64::from(planted(Mistake::LeaseShort));
        let term = Term::new(ttl, after(now_ms, ttl - early), now_ms);
        self.queue.insert((term.queued_ms, id));
        if let Some(at) = term.checkpoint_ms {
            self.due_checkpoints.insert((at, id));
        }
        let known = self.terms.insert(id, term);
        assert!(known.is_none(), "a lease is granted once");
    }

    /// Learns of a revocation applied.
    pub fn revoked(&mut self, id: i64) {
        let Some(term) = self.terms.remove(&id) else { return };
        let known = self.queue.remove(&(term.queued_ms, id));
        assert!(known, "every lease is in the queue");
        if let Some(at) = term.checkpoint_ms {
            self.due_checkpoints.remove(&(at, id));
        }
    }

    /// Learns of a checkpoint applied. One of 0 is the first half of a renewal and counts as one.
    pub fn checkpointed(&mut self, id: i64, remaining: i64, now_ms: u64) {
        let Some(term) = self.terms.get_mut(&id) else { return };
        if remaining > 0 {
            // A renewal may be waiting for its zero, which comes after this one.
            if term.mark == Mark::Clear {
                term.mark = Mark::Noted;
            }
            return;
        }
        term.mark = Mark::Clear;
        if !term.is_expiring {
            self.renew(id, now_ms);
        }
    }

    /// Renews a lease.
    pub fn renewed(&mut self, id: i64, now_ms: u64) -> Renewal {
        if !self.is_primary {
            return Renewal::NotPrimary;
        }
        let Some(term) = self.terms.get_mut(&id) else { return Renewal::NotFound };
        if now_ms >= term.deadline_ms && !planted(Mistake::LeaseRevived) {
            return Renewal::Expiring;
        }
        if term.mark != Mark::Clear {
            term.mark = Mark::Clearing;
            return Renewal::ClearFirst;
        }
        let ttl = term.ttl;
        self.renew(id, now_ms);
        Renewal::Renewed(ttl)
    }

    /// The leases to propose revoking now, at most `max`: those past their deadline, and those
    /// whose revocation was proposed long ago and has not been applied.
    pub fn expired(&mut self, now_ms: u64, max: usize) -> Vec<i64> {
        let mut expired = Vec::new();
        while expired.len() < max {
            let Some(&(at, id)) = self.queue.first().filter(|(at, _)| *at <= now_ms) else { break };
            self.queue.remove(&(at, id));
            let term = self.terms.get_mut(&id).expect("what is queued is known");
            if term.deadline_ms <= now_ms {
                term.is_expiring = true;
                term.queued_ms = now_ms.saturating_add(REVOKE_RETRY_MS);
                expired.push(id);
            } else {
                term.queued_ms = term.deadline_ms;
            }
            self.queue.insert((term.queued_ms, id));
        }
        expired
    }

    /// Learns that proposing to revoke a lease failed: it is handed out again at the next tick.
    pub fn retry(&mut self, id: i64, now_ms: u64) {
        let Some(term) = self.terms.get_mut(&id).filter(|term| term.is_expiring) else { return };
        self.queue.remove(&(term.queued_ms, id));
        term.queued_ms = now_ms;
        self.queue.insert((now_ms, id));
    }

    /// The checkpoints to propose now, at most `max`, before any proposal a later call leads to.
    pub fn checkpoints(&mut self, now_ms: u64, max: usize) -> Vec<Checkpoint> {
        let mut due = Vec::new();
        while due.len() < max {
            let first = self.due_checkpoints.first().filter(|(at, _)| *at <= now_ms);
            let Some(&(at, id)) = first else { break };
            self.due_checkpoints.remove(&(at, id));
            let term = self.term(id);
            term.checkpoint_ms = None;
            if term.renewed_ms.saturating_add(CHECKPOINT_INTERVAL_MS) > now_ms {
                let at = term.renewed_ms.saturating_add(CHECKPOINT_INTERVAL_MS);
                self.plan_checkpoint(id, at);
                continue;
            }
            let left_ms = term.deadline_ms.saturating_sub(now_ms);
            let remaining = seconds(left_ms.div_ceil(1000));
            // After a promotion more than the full time may be left; then there is nothing to note.
            let is_shorter = remaining > 0 && remaining < term.ttl;
            if is_shorter && !term.is_expiring && term.mark != Mark::Clearing {
                term.mark = Mark::Noted;
                due.push(Checkpoint { id, remaining });
            }
            if left_ms > CHECKPOINT_INTERVAL_MS {
                self.plan_checkpoint(id, now_ms.saturating_add(CHECKPOINT_INTERVAL_MS));
            }
        }
        due
    }

    /// Whole seconds a lease has left; `None` if it is not known here.
    pub fn remaining(&self, id: i64, now_ms: u64) -> Option<i64> {
        let term = self.terms.get(&id)?;
        Some(seconds(term.deadline_ms.saturating_sub(now_ms) / 1000))
    }

    /// When [`Deadlines::expired`] or [`Deadlines::checkpoints`] may next have something.
    pub fn next_ms(&self) -> Option<u64> {
        let firsts = [self.queue.first(), self.due_checkpoints.first()];
        firsts.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// All leases, the first to expire first.
    pub fn by_expiry(&self) -> Vec<i64> {
        let mut ends: Vec<(u64, i64)> =
            self.terms.iter().map(|(id, term)| (term.deadline_ms, *id)).collect();
        ends.sort_unstable();
        ends.into_iter().map(|(_, id)| id).collect()
    }

    /// Moves the deadline; the queue learns of it when the old one comes up.
    fn renew(&mut self, id: i64, now_ms: u64) {
        let term = self.term(id);
        // Promotion may have given more than the full time. A deadline never moves earlier.
        term.deadline_ms = term.deadline_ms.max(after(now_ms, term.ttl));
        term.renewed_ms = now_ms;
        let is_long = term.deadline_ms - now_ms > CHECKPOINT_INTERVAL_MS;
        if is_long && term.checkpoint_ms.is_none() {
            self.plan_checkpoint(id, now_ms.saturating_add(CHECKPOINT_INTERVAL_MS));
        }
    }

    fn plan_checkpoint(&mut self, id: i64, at_ms: u64) {
        self.term(id).checkpoint_ms = Some(at_ms);
        self.due_checkpoints.insert((at_ms, id));
    }

    fn term(&mut self, id: i64) -> &mut Term {
        self.terms.get_mut(&id).expect("the caller knows the lease is there")
    }
}

impl Term {
    fn new(ttl: i64, deadline_ms: u64, now_ms: u64) -> Self {
        let is_long = deadline_ms - now_ms > CHECKPOINT_INTERVAL_MS;
        Self {
            ttl,
            deadline_ms,
            queued_ms: deadline_ms,
            renewed_ms: now_ms,
            is_expiring: false,
            checkpoint_ms: is_long.then(|| now_ms.saturating_add(CHECKPOINT_INTERVAL_MS)),
            mark: Mark::Clear,
        }
    }
}

/// The time `ttl` seconds after `now_ms`; a time to live below zero is none.
fn after(now_ms: u64, ttl: i64) -> u64 {
    now_ms.saturating_add(u64::try_from(ttl).unwrap_or(0).saturating_mul(1000))
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).expect("milliseconds over a thousand are far below 2^63")
}

/// Delays deadlines so that no second has more of them than can be revoked with room to spare.
///
/// With each at least a second after the one that many places before it, none comes earlier than it
/// was, and every one at the first moment the rate allows.
fn spread(terms: &mut [(i64, Term)]) {
    if terms.len() < SPREAD_FROM {
        return;
    }
    terms.sort_unstable_by_key(|(id, term)| (term.deadline_ms, *id));
    for index in LEASE_EXPIRIES_PER_SECOND_MAX..terms.len() {
        let before = terms[index - LEASE_EXPIRIES_PER_SECOND_MAX].1.deadline_ms;
        let term = &mut terms[index].1;
        term.deadline_ms = term.deadline_ms.max(before.saturating_add(1000));
        term.queued_ms = term.deadline_ms;
    }
}
