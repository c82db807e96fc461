//! After the faults: the cluster comes to rest, and everything that was said is judged.

use kvorum::pb::RangeRequest;
use kvorum::sim::{Mark, mark};

use crate::checker::history::{Answer, Op, Outcome, Range, Reply, Request};
use crate::checker::search::{LIMITS, Opinion, Verdict, search};
use crate::checker::{self, Report};

use super::world::World;
use super::{ears, rolls, translate};

/// Within which there is a leader, when nothing fails any more.
const LEADER_US: u64 = 10_000_000;
/// Within which all members are level.
const LEVEL_US: u64 = 30_000_000;
/// For how long watches may take to hear the last of it.
const QUIET_US: u64 = 3_000_000;
/// Of so many seeds, one is judged a second time, by search.
const SEARCHED_ONE_OF: u64 = 20;

impl World {
    /// Ends all faults, and lets the cluster come to rest.
    pub async fn come_to_rest(&mut self) -> Result<(), String> {
        self.note(None, "calm", String::new());
        self.chaos = false;
        self.record.borrow_mut().is_calm = true;
        self.profile.lost = 0;
        let cuts: Vec<_> = self.wire.lock().cut.iter().copied().collect();
        self.heal(&cuts);
        let now_us = self.now_us;
        for seat in 0..self.seats.len() {
            self.free(seat);
            self.seats[seat].paused_until_us = now_us;
            let process = self.seats[seat].process.as_ref();
            if self.seats[seat].harmed || process.is_some_and(|process| process.stopping) {
                // What was to strike its disk strikes now.
                self.power_cycle(seat);
            }
            self.start(seat)?;
        }
        let calm_us = self.now_us;
        let changed = |world: &World| world.replacing.is_none() && !world.heals();
        self.until(calm_us + LEVEL_US, "a change of members does not end", changed).await?;
        let calm_us = self.now_us;
        self.until(calm_us + LEADER_US, "no leader that all agree on", World::has_leader).await?;
        self.record.borrow_mut().history.calm = Some(self.now_us * 1000);
        self.until(calm_us + LEVEL_US, "members are not level", World::is_level).await?;
        let expiry = calm_us + LEVEL_US;
        self.until(expiry, "leases outlive their time", World::leases_ended).await?;
        let rests = |world: &World| world.is_level() && world.is_idle();
        loop {
            let last = self.witness.last_index();
            self.run_until(self.now_us + QUIET_US).await?;
            self.until(self.now_us + LEVEL_US, "something is still under way", rests).await?;
            // A lease may end even now, and watches are to hear of that.
            if self.witness.last_index() == last {
                break;
            }
        }
        self.judge()
    }

    async fn until(
        &mut self,
        end_us: u64,
        what: &str,
        is_so: fn(&World) -> bool,
    ) -> Result<(), String> {
        while !is_so(self) {
            if self.now_us >= end_us {
                return Err(format!("{what}: {}", self.standings()));
            }
            self.run_until(self.now_us + 20_000).await?;
        }
        Ok(())
    }

    fn standings(&self) -> String {
        let standing = |seat: &super::seat::Seat| match &seat.process {
            None => format!("m{} is down", seat.number),
            Some(process) => {
                let node = &process.services.node;
                let (number, load) = (seat.number, process.member.load());
                format!("m{number} {:?} r{} {load:?}", node.progress(), node.revision())
            }
        };
        let standings = self.seats.iter().map(standing).collect::<Vec<_>>().join("; ");
        format!("{standings}; members: {:x?}", self.witness.rolls)
    }

    fn has_leader(&self) -> bool {
        let mut leaders = self.seats.iter().map(|seat| match &seat.process {
            Some(process) if !process.stopping => process.services.node.progress().leader,
            _ => 0,
        });
        let first = leaders.next().unwrap_or(0);
        first != 0 && leaders.all(|leader| leader == first)
    }

    fn is_level(&self) -> bool {
        let applied = |seat: &super::seat::Seat| match &seat.process {
            Some(process) if !process.stopping => process.services.node.progress().applied,
            _ => 0,
        };
        self.seats.iter().all(|seat| applied(seat) == self.witness.last_index())
    }

    fn leases_ended(&self) -> bool {
        self.witness.overdue(self.now_us.saturating_sub(8_000_000)).is_empty()
    }

    /// Holds everything that was said against the log.
    fn judge(&mut self) -> Result<(), String> {
        let mut hashes = Vec::new();
        for seat in 0..self.seats.len() {
            self.read_all(seat)?;
            self.check_members(seat)?;
            let Some(process) = &self.seats[seat].process else { continue };
            let reader = process.services.node.reader();
            let (oldest, newest) = (reader.compact_revision().max(1), reader.revision());
            let hash = match reader.hash_kv(0) {
                Ok(hash) => hash,
                // It is found now, and is never served.
                Err(_) if self.is_rotten(seat) => continue,
                Err(error) => return Err(format!("m{seat}: {error:?}")),
            };
            hashes.push((seat, hash));
            for revision in [oldest, oldest + 1, (oldest + newest) / 2, newest] {
                if let Ok(hash) = reader.hash_kv(revision.min(newest)) {
                    self.record.borrow_mut().looks.hashes.push(hash);
                }
            }
        }
        for (seat, hash) in &hashes {
            let first = &hashes[0].1;
            if hash.compact_revision == first.compact_revision && hash.hash != first.hash {
                return Err(format!("m{seat} has {hash:?}, m{} {first:?}", hashes[0].0));
            }
        }
        let mut record = self.record.borrow_mut();
        let revision = self.witness.revision;
        for watch in self.watches.iter().filter(|watch| !watch.ended.get()) {
            let process = self.seats[watch.life.seat].process.as_ref();
            if process.is_some_and(|process| process.life == watch.life) {
                let watches = &mut record.history.watches;
                let open = |ear: &&usize| !ears::is_over(&watches[**ear]);
                let open: Vec<usize> = watch.ears.iter().filter(open).copied().collect();
                open.iter().for_each(|ear| watches[*ear].until = Some(revision));
            }
        }
        let mut history = std::mem::take(&mut record.history);
        history.log = std::mem::take(&mut self.witness.events);
        history.ops.append(&mut self.witness.revocations);
        history.ended = std::mem::take(&mut self.witness.ended);
        let compacted = history.compactions.iter().map(|one| one.revision).max().unwrap_or(0);
        let wrong = record.looks.judge(&history.log, compacted).err();
        drop(record);
        let report = checker::check(&history);
        self.tell(&report);
        let wrong: Vec<String> = wrong.into_iter().chain(report.violations).collect();
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        let one_of = super::variable("SEARCHED_ONE_OF").unwrap_or(SEARCHED_ONE_OF);
        match self.seed.below(one_of) {
            0 => self.take_a_second_opinion(&search(&history, LIMITS)),
            _ => Ok(()),
        }
    }

    fn take_a_second_opinion(&mut self, opinion: &Opinion) -> Result<(), String> {
        let Opinion { verdict, operations, steps } = opinion;
        // What was inconclusive is neither a pass nor a failure: it is counted apart.
        let (what, searched) = match verdict {
            Verdict::Linearizable => ("searched", *operations),
            Verdict::Inconclusive => ("inconclusive", 0),
            Verdict::Impossible(why) => return Err(format!("search: {why}")),
        };
        self.note(None, what, format!("{operations} operations in {steps} steps"));
        *self.counts.entry("searched operations").or_default() += searched as u64;
        Ok(())
    }

    fn tell(&mut self, report: &Report) {
        let Report { operations, writes, reads, unknown, revisions, events_heard, .. } = report;
        self.note(
            None,
            "judged",
            format!(
                "{operations} operations: {writes} writes, {reads} reads, {unknown} unknown; \
                 {revisions} revisions, {events_heard} events"
            ),
        );
        if report.previous_gone > 0 {
            mark(Mark::WatchPreviousCompacted);
        }
        for (what, count) in [
            ("operations", *operations),
            ("events", *events_heard),
            ("progress", report.progress_heard),
            ("rows before", report.previous_heard),
            ("leases", report.leases_ended),
        ] {
            *self.counts.entry(what).or_default() += count as u64;
        }
    }

    /// All members know the same members.
    fn check_members(&self, seat: usize) -> Result<(), String> {
        let Some(process) = &self.seats[seat].process else { return Ok(()) };
        let known = rolls::roll(process.services.node.members().iter());
        match known == *self.witness.rolls.newest() {
            true => Ok(()),
            false => Err(format!("m{seat} knows other members: {known:x?}")),
        }
    }

    /// Records what a member holds as if a client had read it.
    fn read_all(&mut self, seat: usize) -> Result<(), String> {
        let Some(process) = &self.seats[seat].process else { return Ok(()) };
        let all = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            serializable: true,
            ..RangeRequest::default()
        };
        let response = match process.services.node.reader().view().range(&all) {
            Ok(response) => response,
            // It is found now, and is never served.
            Err(_) if self.is_rotten(seat) => return Ok(()),
            Err(error) => return Err(format!("m{seat}: {error}")),
        };
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if revision != self.witness.revision {
            let wanted = self.witness.revision;
            return Err(format!("m{seat} is at revision {revision}, the log at {wanted}"));
        }
        let range = Range {
            key: "\0".to_owned(),
            end: Some("\0".to_owned()),
            limit: 0,
            serializable: true,
        };
        let reply: Reply = translate::rows(&response);
        let now = self.now_us * 1000;
        self.record.borrow_mut().history.ops.push(Op {
            client: 1000 + seat as u64,
            call: now,
            end: Some(now),
            request: Request::Range(range),
            outcome: Outcome::Answered(Answer { revision, reply }),
        });
        Ok(())
    }
}
