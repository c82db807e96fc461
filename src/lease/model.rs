//! Three members in miniature around the lease rooms: a log, leaders that come and go, and clients
//! that remember what they were promised.
//!
//! Entries are committed when proposed and applied when a member gets to it. A deposed leader goes
//! on answering renewals for an election timeout, but what it proposes is lost. [`exercise`] lets
//! bytes decide what happens, checks at every proposed revocation that no promise is broken, and in
//! the end that nothing outlives its time.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{LEASE_CHECKPOINTS_MAX, LEASE_EXPIRED_MAX};

use super::book::Book;
use super::deadlines::{Deadlines, Renewal};

const ELECTION_MS: u64 = 1000;
const TICK_MS: u64 = 500;
const TTLS: [i64; 6] = [2, 5, 60, 400, 900, 3600];

#[derive(Clone, Copy, Debug)]
enum Command {
    Grant { id: i64, ttl: i64 },
    Revoke { id: i64 },
    Checkpoint { id: i64, remaining: i64 },
}

#[derive(Debug, Default)]
struct Member {
    book: Book,
    applied: usize,
    deadlines: Deadlines,
}

#[derive(Debug, Default)]
struct World {
    now_ms: u64,
    log: Vec<Command>,
    members: [Member; 3],
    leader: usize,
    /// Deposed leaders that have not noticed, and when they will.
    deposed: BTreeMap<usize, u64>,
    /// Until when each lease was promised to live.
    promised: BTreeMap<i64, u64>,
    /// Leases whose revocation by the leader, or by their client, is in the log.
    expiring: BTreeSet<i64>,
    given_up: BTreeSet<i64>,
    /// Keepalives that wait for a checkpoint of 0: when they were sent, and its place in the log.
    waiting: Vec<(i64, u64, usize)>,
    granted: i64,
}

/// The fuzz body: lets `bytes` decide what happens, three to a step, and panics at a lease that
/// ends early, late, or differently on two members.
pub fn exercise(bytes: &[u8]) {
    let mut world = World::default();
    world.elect(0);
    for step in bytes.chunks_exact(3) {
        let (a, b) = (step[1], step[2]);
        let id = 1 + i64::from(b) % world.granted.max(1);
        match step[0] % 16 {
            0 | 1 => world.grant(TTLS[usize::from(a) % TTLS.len()]),
            2..=4 => world.keepalive(world.leader, id),
            5 => {
                let deposed: Vec<usize> = world.deposed.keys().copied().collect();
                deposed.into_iter().for_each(|member| world.keepalive(member, id));
            }
            6..=8 => world.apply(usize::from(a) % 3, usize::from(b % 4)),
            9 => world.elect(usize::from(a) % 3),
            10 if a < 32 => world.revoke(id),
            10 | 11 => world.pass(u64::from(a) * 10),
            12 => world.pass(u64::from(a) * 1000),
            _ => world.tick(world.leader),
        }
    }
    world.rest();
}

impl World {
    fn grant(&mut self, ttl: i64) {
        self.granted += 1;
        self.promise(self.granted, ttl, self.now_ms);
        self.log.push(Command::Grant { id: self.granted, ttl });
    }

    /// A client gives up its lease; what it was promised is void.
    fn revoke(&mut self, id: i64) {
        self.promised.remove(&id);
        self.given_up.insert(id);
        self.log.push(Command::Revoke { id });
    }

    fn promise(&mut self, id: i64, ttl: i64, asked_ms: u64) {
        let until = asked_ms + u64::try_from(ttl).expect("positive") * 1000;
        let promised = self.promised.entry(id).or_default();
        *promised = until.max(*promised);
    }

    fn keepalive(&mut self, member: usize, id: i64) {
        self.keepalive_asked(member, id, self.now_ms);
    }

    fn keepalive_asked(&mut self, member: usize, id: i64, asked_ms: u64) {
        let Member { deadlines, book, .. } = &mut self.members[member];
        match deadlines.renewed(id, self.now_ms) {
            Renewal::Renewed(ttl) => {
                assert_eq!(book.lease(id).map(|lease| lease.ttl), Some(ttl), "of a known lease");
                assert!(!self.expiring.contains(&id), "renewed while expiring");
                if !self.given_up.contains(&id) {
                    self.promise(id, ttl, asked_ms);
                }
            }
            Renewal::ClearFirst if member == self.leader => {
                self.log.push(Command::Checkpoint { id, remaining: 0 });
                self.waiting.push((id, asked_ms, self.log.len()));
            }
            Renewal::NotFound => assert!(book.lease(id).is_none(), "what is booked is known"),
            Renewal::NotPrimary | Renewal::Expiring | Renewal::ClearFirst => {}
        }
    }

    /// The leader's expiry loop. A deposed leader's proposals go nowhere.
    fn tick(&mut self, member: usize) {
        let now_ms = self.now_ms;
        let deadlines = &mut self.members[member].deadlines;
        let expired = deadlines.expired(now_ms, LEASE_EXPIRED_MAX);
        let checkpoints = deadlines.checkpoints(now_ms, LEASE_CHECKPOINTS_MAX);
        if member != self.leader {
            return;
        }
        for id in expired {
            let promised = self.promised.get(&id).copied().unwrap_or(0);
            assert!(now_ms >= promised, "lease {id} ends {} ms early", promised - now_ms);
            self.expiring.insert(id);
            self.log.push(Command::Revoke { id });
        }
        for checkpoint in checkpoints {
            let (id, remaining) = (checkpoint.id, checkpoint.remaining);
            assert!(remaining > 0, "zero means something else");
            self.log.push(Command::Checkpoint { id, remaining });
        }
    }

    fn apply(&mut self, index: usize, entries: usize) {
        for _ in 0..entries {
            let member = &mut self.members[index];
            let Some(command) = self.log.get(member.applied) else { break };
            member.applied += 1;
            member.apply(*command, self.now_ms);
            if index == self.leader {
                self.wake(index);
            }
        }
    }

    /// Lets keepalives go on whose checkpoint of 0 is applied.
    fn wake(&mut self, leader: usize) {
        let applied = self.members[leader].applied;
        let ready = self.waiting.extract_if(.., |(_, _, place)| *place <= applied);
        for (id, asked_ms, _) in ready.collect::<Vec<_>>() {
            self.keepalive_asked(leader, id, asked_ms);
        }
    }

    /// Elects a member, which applies everything before it leads.
    fn elect(&mut self, index: usize) {
        let old = std::mem::replace(&mut self.leader, index);
        if old != index {
            self.deposed.insert(old, self.now_ms + ELECTION_MS);
        }
        self.deposed.remove(&index);
        // Clients of the old leader ask the new one.
        self.waiting.clear();
        self.members[index].deadlines.demote();
        self.apply(index, self.log.len());
        let Member { book, deadlines, .. } = &mut self.members[index];
        deadlines.promote(self.now_ms, ELECTION_MS, book.leases());
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        while let Some((&member, _)) = self.deposed.iter().find(|(_, at)| **at <= self.now_ms) {
            self.deposed.remove(&member);
            self.members[member].deadlines.demote();
        }
    }

    /// Lets time pass under a steady leader until every lease must be gone.
    fn rest(&mut self) {
        self.apply(self.leader, self.log.len());
        let leases = self.members[self.leader].book.leases();
        let longest = leases.map(|(_, lease)| lease.ttl).max().unwrap_or(0);
        let end = self.now_ms + u64::try_from(longest).expect("positive") * 1000 + ELECTION_MS;
        while self.now_ms < end + TICK_MS {
            self.pass(TICK_MS);
            self.tick(self.leader);
            self.apply(self.leader, self.log.len());
        }
        let log = self.log.len();
        (0..3).for_each(|member| self.apply(member, log));
        for member in &self.members {
            assert_eq!(member.book.leases().len(), 0, "a lease outlives its time");
            assert_eq!(member.deadlines.next_ms(), None, "a deadline outlives its lease");
        }
    }
}

impl Member {
    fn apply(&mut self, command: Command, now_ms: u64) {
        match command {
            Command::Grant { id, ttl } => {
                self.book.grant(id, ttl).expect("ids are fresh");
                self.deadlines.granted(id, ttl, now_ms);
            }
            Command::Revoke { id } => {
                if self.book.revoke(id).is_ok() {
                    self.deadlines.revoked(id);
                }
            }
            Command::Checkpoint { id, remaining } => {
                self.book.checkpoint(id, remaining);
                self.deadlines.checkpointed(id, remaining, now_ms);
            }
        }
    }
}
