//! Faults: when they come, what they do, and how they are made good.

use kvorum::node::Heard;
use kvorum::sim::{Mark, Part, mark};
use kvorum::storage::disk::sim::{Crash, Seed};
use tokio::sync::oneshot;

use super::profile::Fault;
use super::seat::Death;
use super::world::{Happening, World};

/// Disk operations within which a fault of the disk strikes.
const OPERATIONS: u64 = 60;

impl World {
    /// Starts a process on a seat that has none.
    pub fn start(&mut self, seat: usize) -> Result<(), String> {
        let is_out = self.seats[seat].is_empty || self.seats[seat].heals;
        if self.seats[seat].process.is_some() || is_out {
            return Ok(());
        }
        if self.chaos && self.now_us > 0 && self.seed.below(12) == 0 {
            // It may not even get through its start.
            self.harm(seat, Fault::PowerCutAtOperation);
        }
        let (seed, wire) = (self.seed.next(), self.wire.clone());
        // The time of day of each machine is its own affair.
        let wall_ms = 1_700_000_000_000 + self.seed.below(7_200_000) + self.now_us / 1000;
        self.note(Some(seat), "start", String::new());
        let heard = self.heard_of(seat);
        if let Err(why) = self.seats[seat].start(&wire, seed, wall_ms, heard) {
            return self.unstarted(seat, why);
        }
        self.connect(seat);
        self.touch(None);
        let soon = self.now_us + self.seed.below(1_500_000);
        self.plan(soon, Happening::ComeBack(seat));
        Ok(())
    }

    /// What those that run have heard a member promise.
    fn heard_of(&self, seat: usize) -> Heard {
        let id = self.seats[seat].id;
        let mut heard = Heard::new();
        let wire = self.wire.lock();
        let hears =
            |other: u64| !wire.cut.contains(&(id, other)) && !wire.cut.contains(&(other, id));
        for other in self.seats.iter().filter(|other| hears(other.id)) {
            let Some(process) = &other.process else { continue };
            let node = &process.services.node;
            if let Some(promise) = node.promises().get(&id) {
                let known = heard.entry((node.cluster_id(), id)).or_default();
                *known = (*promise).max(*known);
            }
        }
        heard
    }

    /// A machine loses power, and is not started again of itself.
    pub fn power_cycle(&mut self, seat: usize) {
        let how = power_cut(&mut self.seed);
        self.die(seat, how);
    }

    /// A process is gone; nobody hears it any more.
    fn die(&mut self, seat: usize, how: Crash) {
        if let Some(process) = &self.seats[seat].process {
            self.tasks.drop_of(process.life);
        }
        self.seats[seat].die(how);
        let id = self.seats[seat].id;
        self.wire.lock().since.retain(|(from, to), _| *from != id && *to != id);
    }

    /// The others hear a member from here on.
    fn connect(&mut self, seat: usize) {
        let id = self.seats[seat].id;
        let now = tokio::time::Instant::now().into_std();
        let mut wire = self.wire.lock();
        let running = self.seats.iter().filter(|other| other.process.is_some());
        for other in running.map(|other| other.id).filter(|other| *other != id) {
            for way in [(id, other), (other, id)] {
                if !wire.cut.contains(&way) {
                    wire.since.insert(way, now);
                }
            }
        }
    }

    /// A process ended of itself: because of its disk, or it is a bug.
    pub fn died(&mut self, seat: usize, death: &Death) -> Result<(), String> {
        let why = &death.why;
        self.note(Some(seat), "died", why.clone());
        let (harmed, is_full) = (self.seats[seat].harmed, self.seats[seat].is_full);
        if harmed && why.contains("sync") && why.contains("os error 5") {
            mark(Mark::SyncErrorEndsProcess);
        }
        if is_full && why.contains("os error 28") {
            mark(Mark::FullDiskEndsProcess);
        }
        if !self.died_of_rot(seat, death) && !harmed && !is_full {
            return Err(format!("m{seat} died: {why}"));
        }
        self.end_process(seat, Crash::KeepAll);
        Ok(())
    }

    /// A process ended in order.
    pub fn stopped(&mut self, seat: usize) {
        self.note(Some(seat), "stopped", String::new());
        self.end_process(seat, Crash::KeepAll);
    }

    /// Ends a process, and plans the next one.
    pub fn end_process(&mut self, seat: usize, how: Crash) {
        let process = self.seats[seat].process.as_ref();
        if process.is_some_and(|process| process.member.is_installing()) {
            mark(Mark::CrashWhileInstalling);
        }
        let how = match how {
            Crash::KeepAll if self.seats[seat].harmed => power_cut(&mut self.seed),
            how => how,
        };
        self.die(seat, how);
        self.touch(None);
        let id = self.seats[seat].id;
        if how == Crash::KeepAll && self.seed.coin() {
            // The machine still answers: nobody listens there.
            for other in &self.seats {
                if let Some(process) = &other.process {
                    process.services.node.disconnected(id);
                }
            }
        }
        let down = match self.seed.below(3) {
            0 => 1_000 + self.seed.below(150_000),
            _ => 50_000 + self.seed.below(4_000_000),
        };
        self.plan(self.now_us + down, Happening::Restart(seat));
    }

    /// The next fault.
    pub fn fault(&mut self) -> Result<(), String> {
        if !self.chaos {
            return Ok(());
        }
        let pause = self.profile.fault_us / 2 + self.seed.below(self.profile.fault_us);
        self.plan(self.now_us + pause, Happening::Fault);
        let weights = self.profile.weights;
        let all: u64 = weights.iter().sum();
        if all == 0 {
            return Ok(());
        }
        let mut drawn = self.seed.below(all);
        let chosen = Fault::ALL.into_iter().zip(weights).find(|(_, weight)| {
            let hit = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            hit
        });
        let Some((fault, _)) = chosen else { return Ok(()) };
        let Some(seat) = self.any_process() else { return Ok(()) };
        // Leaders are struck more often than others.
        let seat = if self.seed.coin() { self.leader().unwrap_or(seat) } else { seat };
        self.note(Some(seat), fault.name(), "fault".to_owned());
        match fault {
            Fault::Kill => {
                if self.seed.below(4) == 0 {
                    // It was a panic.
                    self.suspect(seat);
                }
                self.end_process(seat, Crash::KeepAll);
            }
            Fault::PowerCut => {
                let how = power_cut(&mut self.seed);
                self.end_process(seat, how);
            }
            Fault::Blackout => {
                for seat in 0..self.seats.len() {
                    if self.seats[seat].process.is_some() {
                        let how = power_cut(&mut self.seed);
                        self.end_process(seat, how);
                    }
                }
            }
            Fault::Stop => self.stop(seat),
            Fault::Pause => {
                let length = match self.seed.below(3) {
                    // So long that another leads by then, and leases have run out here.
                    0 => 2_000_000 + self.seed.below(5_000_000),
                    _ => 1_000 + self.seed.below(1_000) * self.seed.below(6_000),
                };
                self.seats[seat].paused_until_us = self.now_us + length;
                // Before anything of the member itself goes on.
                self.plan(self.now_us + length - 500, Happening::Wake(seat));
            }
            Fault::Isolate => self.isolate(seat),
            Fault::Ring => self.ring(),
            Fault::DiskError | Fault::PowerCutAtOperation => self.harm(seat, fault),
            Fault::FullDisk => self.fill(seat),
            Fault::Replace => self.replace(seat),
            Fault::Transfer => self.transfer(seat),
            Fault::Defragment => self.defragment(seat),
            Fault::Rot => self.turn_bits(seat)?,
            Fault::Grow => self.grow(),
        }
        Ok(())
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |seat: &super::seat::Seat| {
            seat.process.as_ref().is_some_and(|process| process.services.node.leads())
        };
        self.seats.iter().position(leads)
    }

    fn harm(&mut self, seat: usize, fault: Fault) {
        let at = 1 + self.seed.below(OPERATIONS);
        let seat = &mut self.seats[seat];
        let number = seat.disk.operations() + at;
        seat.harmed = true;
        match fault {
            Fault::DiskError => seat.disk.fail_at(number),
            _ => seat.disk.stop_at(number),
        }
    }

    fn fill(&mut self, seat: usize) {
        let room = self.seed.below(3) * self.seed.below(200_000);
        let seat_of_it = &mut self.seats[seat];
        seat_of_it.set_capacity(Some(seat_of_it.disk.used() + room));
        let mut length = 200_000 + self.seed.below(4_000_000);
        match self.seed.below(4) {
            // The next process finds it so.
            0 => self.end_process(seat, Crash::KeepAll),
            // It stops meanwhile, and has space again about when it has given up.
            1 => {
                let soon = 500_000 + self.seed.below(1_500_000);
                self.plan(self.now_us + soon, Happening::Stop(seat));
                length = soon + self.seed.below(800_000);
            }
            _ => {}
        }
        self.plan(self.now_us + length, Happening::Space(seat));
    }

    /// Some voters lose power just when their vote has arrived, and who has it is cut off: whether
    /// the vote is remembered decides whether a term has two leaders.
    pub fn strike_voter(&mut self, voter: u64, elected: usize) {
        let voter = self.seats.iter().position(|seat| seat.id == voter);
        let may = self.chaos && self.profile.weights[Fault::PowerCut as usize] > 0;
        let Some(voter) = voter.filter(|_| may && self.seed.below(12) == 0) else { return };
        if self.seats[voter].process.is_some() {
            self.note(Some(voter), "power cut", format!("after its vote for m{elected}"));
            let how = power_cut(&mut self.seed);
            self.cut_off(elected, true, true);
            self.end_process(voter, how);
        }
    }

    /// Some machines lose power just when a state takes the place of theirs.
    pub fn strike_installing(&mut self, seat: usize) {
        let process = self.seats[seat].process.as_ref();
        let installs = process.is_some_and(|process| process.member.is_installing());
        if installs && self.chaos && self.profile.fault_us > 0 && self.seed.below(30) == 0 {
            self.note(Some(seat), "power cut", "installing".to_owned());
            let how = power_cut(&mut self.seed);
            self.end_process(seat, how);
        }
    }

    /// A disk has space again.
    pub fn free(&mut self, seat: usize) {
        self.seats[seat].set_capacity(None);
        // Whoever lived through it dies of something else from here on.
        self.seats[seat].is_full = false;
    }

    pub fn stop(&mut self, seat: usize) {
        let Some(process) = &mut self.seats[seat].process else { return };
        if !self.chaos {
            return;
        }
        if std::mem::replace(&mut process.stopping, true) {
            return;
        }
        let (node, life) = (process.services.node.clone(), process.life);
        let ready = self.handed_over.clone();
        self.tasks.spawn(Some(life), async move {
            node.hand_over().await;
            ready.borrow_mut().push(life);
        });
    }

    fn isolate(&mut self, seat: usize) {
        let (heard, hears) =
            [(true, true), (true, false), (false, true)][self.seed.below(3) as usize];
        self.cut_off(seat, heard, hears);
    }

    /// Cuts the ways from a member to the others, and from them to it.
    pub fn cut_off(&mut self, seat: usize, heard: bool, hears: bool) {
        let own = self.seats[seat].id;
        let mut cuts = Vec::new();
        for other in self.seats.iter().map(|seat| seat.id).filter(|id| *id != own) {
            cuts.extend(heard.then_some((own, other)));
            cuts.extend(hears.then_some((other, own)));
        }
        self.cut(cuts);
    }

    /// Each member hears its neighbours only.
    fn ring(&mut self) {
        let count = self.seats.len();
        let mut cuts = Vec::new();
        for (a, one) in self.seats.iter().enumerate() {
            for (b, other) in self.seats.iter().enumerate() {
                let apart = (a + count - b) % count;
                if a != b && apart != 1 && (count > 3 && apart != count - 1 || count == 3) {
                    cuts.push((one.id, other.id));
                }
            }
        }
        self.cut(cuts);
    }

    pub fn cut(&mut self, cuts: Vec<(u64, u64)>) {
        let mut wire = self.wire.lock();
        for way in &cuts {
            wire.cut.insert(*way);
            wire.since.remove(way);
        }
        drop(wire);
        let length = 100_000 + self.seed.below(8_000_000);
        self.plan(self.now_us + length, Happening::Heal(cuts));
    }

    pub fn heal(&mut self, cuts: &[(u64, u64)]) {
        self.note(None, "heal", String::new());
        let mut wire = self.wire.lock();
        for way in cuts {
            wire.cut.remove(way);
        }
        drop(wire);
        for seat in 0..self.seats.len() {
            if self.seats[seat].process.is_some() {
                self.reconnect(seat);
            }
        }
    }

    /// As [`World::connect`], but leaves what is connected as it is.
    fn reconnect(&mut self, seat: usize) {
        let id = self.seats[seat].id;
        let now = tokio::time::Instant::now().into_std();
        let mut wire = self.wire.lock();
        for other in self.seats.iter().filter(|other| other.process.is_some() && other.id != id) {
            if !wire.cut.contains(&(id, other.id)) {
                wire.since.entry((id, other.id)).or_insert(now);
            }
        }
    }

    fn transfer(&mut self, seat: usize) {
        let to = self.seats[self.seed.below(self.seats.len() as u64) as usize].id;
        let Some(process) = &self.seats[seat].process else { return };
        let node = process.services.node.clone();
        self.tasks.spawn(Some(process.life), async move {
            // It may not lead, or the other may not be there.
            if node.leads() && node.transfer_leader(Some(to)).await.is_ok() {
                mark(Mark::LeadershipTransferred);
            }
        });
    }

    pub fn defragment(&mut self, seat: usize) {
        let Some(process) = &self.seats[seat].process else { return };
        let node = process.services.node.clone();
        if self.sending.contains(&process.life) {
            mark(Mark::DefragmentedBesideSnapshot);
        }
        let (told, _) = oneshot::channel();
        self.tasks.spawn(Some(process.life), async move {
            let _ = told.send(node.defragment().await.is_ok());
        });
        self.journal.mix(&[seat as u64, Part::Checkpointer as u64]);
    }
}

/// How a machine loses power. [`Crash::Garbage`] is left out, for redb overwrites its header in
/// place and cannot stand noise there; the log can, and its own tests prove it.
fn power_cut(seed: &mut Seed) -> Crash {
    match seed.below(4) {
        0 => Crash::LoseAll,
        1 => Crash::KeepAll,
        2 => Crash::Subset(seed.next()),
        _ => Crash::Torn(seed.next()),
    }
}
