//! A cluster under everything that may happen to it, from a seed.
//!
//! Messages are lost, repeated and overtaken; networks part; members crash and forget what was not
//! written; disks and appliers lag; members come and go. The [`World`] checks at every step that no
//! term has two leaders, no promise is made before it is written, logs agree, what is committed
//! stays, and no read is stale. In the end everything heals and the cluster must go on.
//!
//! `SEED=42 cargo test raft::tests::simulation` runs one seed, `SEEDS=2000` that many.

use std::env;
use std::panic;

use bytes::Bytes;

use super::super::Role;
use super::super::conf::{Change, Kind};
use super::world::{Disk, Tally, World};

/// Steps of trouble before everything heals.
const STEPS: u64 = 2_000;
/// Rounds in which a healed cluster must have settled.
const ROUNDS: u64 = 150;
/// Members that ever exist.
const IDS_MAX: u64 = 9;

/// The seed's decisions (xorshift).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.roll(from.len() as u64) as usize]) }
    }
}

struct Simulation {
    dice: Dice,
    world: World,
    commands: u64,
    newest_id: u64,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut dice = Dice::new(seed);
        let founders: Vec<u64> = (1..=[1, 2, 3, 3, 3, 5][dice.roll(6) as usize]).collect();
        let mut world = World::new(seed);
        world.found(&founders);
        let newest_id = founders.len() as u64;
        let mut simulation = Simulation { dice, world, commands: 0, newest_id };
        simulation.slow_down();
        simulation
    }

    /// Leaves writing and applying to the dice.
    fn slow_down(&mut self) {
        for member in self.world.members.values_mut() {
            (member.slow_disk, member.slow_applier) = (true, true);
        }
    }

    fn trouble(&mut self) {
        self.world.events.quiet = true;
        for _ in 0..STEPS {
            self.step();
        }
    }

    fn step(&mut self) {
        let running = self.world.running();
        let someone = self.dice.pick(&running);
        match (self.dice.roll(1000), someone) {
            (0..200, _) => self.pass_time(&running),
            (200..500, _) => {
                for _ in 0..=self.dice.roll(10) {
                    self.move_message();
                }
            }
            (500..650, Some(id)) => {
                let count = 1 + self.dice.roll(3) as usize;
                self.world.finish_writes(id, count);
            }
            (650..800, Some(id)) => {
                let count = 1 + self.dice.roll(5) as usize;
                self.world.apply(id, count);
            }
            (800..880, Some(id)) => self.propose(id),
            (880..950, Some(id)) => drop(self.world.read(id)),
            (950..958, Some(id)) => self.change_members(id),
            (958..963, Some(id)) => {
                let to = 1 + self.dice.roll(self.newest_id);
                let _ = self.world.input(id, |core| core.transfer_leader(to));
            }
            (963..966, Some(id)) => self.world.crash(id),
            (966..980, _) => self.restart_someone(),
            (980..983, Some(id)) => {
                for other in 1..=self.newest_id {
                    if self.dice.roll(2) == 0 {
                        self.world.cut.extend([(id, other), (other, id)]);
                    }
                }
            }
            (983..989, _) => self.world.cut.clear(),
            (989..995, Some(id)) => {
                self.world.checkpoint(id);
                let applied = self.world.member(id).machine.applied;
                let kept = self.dice.roll(10);
                self.world.compact(id, applied.saturating_sub(kept));
            }
            (_, Some(id)) => {
                let peer = 1 + self.dice.roll(self.newest_id);
                self.world.report_unreachable(id, peer);
            }
            (_, None) => {}
        }
    }

    /// A tick for nearly everybody.
    fn pass_time(&mut self, running: &[u64]) {
        for id in running {
            if self.dice.roll(20) > 0 {
                self.world.tick(*id);
            }
        }
    }

    /// Delivers a message, mostly an old one; some get lost and some arrive twice.
    fn move_message(&mut self) {
        let under_way = self.world.wire.len() as u64;
        if under_way == 0 {
            return;
        }
        let bound = if self.dice.roll(4) == 0 { under_way } else { under_way.min(3) };
        let index = self.dice.roll(bound) as usize;
        let message = self.world.wire.remove(index);
        match self.dice.roll(30) {
            0 => self.world.lose(&message),
            1 => {
                self.world.wire.push(message.clone());
                self.world.deliver(message);
            }
            _ => self.world.deliver(message),
        }
    }

    fn propose(&mut self, id: u64) {
        let count = 1 + self.dice.roll(4);
        let payloads = (1..=count).map(|n| Bytes::from(format!("c{}", self.commands + n)));
        let payloads = payloads.collect();
        self.commands += count;
        let _ = self.world.input(id, |core| core.propose(payloads));
    }

    fn change_members(&mut self, id: u64) {
        let known = 1 + self.dice.roll(self.newest_id);
        let (kind, node) = match self.dice.roll(6) {
            0 | 1 if self.newest_id < IDS_MAX => {
                self.newest_id += 1;
                self.world.join(self.newest_id, Disk::default());
                self.slow_down();
                let kind = if self.dice.roll(2) == 0 { Kind::AddLearner } else { Kind::AddVoter };
                (kind, self.newest_id)
            }
            0..=2 => (Kind::AddVoter, known),
            3 => (Kind::Update, known),
            _ => (Kind::Remove, known),
        };
        let change = Change { id: 0, kind, node, context: Bytes::new() };
        let _ = self.world.input(id, |core| core.propose_conf_change(&change));
    }

    fn restart_someone(&mut self) {
        let is_down = |id: &u64| !self.world.is_running(*id);
        let down: Vec<u64> = self.world.members.keys().copied().filter(is_down).collect();
        if let Some(id) = self.dice.pick(&down) {
            self.world.start(id);
        }
    }

    /// Ends all trouble. The cluster must elect, commit, and agree.
    fn heal(&mut self) {
        self.world.cut.clear();
        for id in self.world.members.keys().copied().collect::<Vec<_>>() {
            if !self.world.is_running(id) {
                self.world.start(id);
            }
            let member = self.world.member(id);
            (member.slow_disk, member.slow_applier) = (false, false);
        }
        for _ in 0..ROUNDS {
            for id in self.world.running() {
                self.world.finish_writes(id, usize::MAX);
                self.world.apply(id, usize::MAX);
                self.world.tick(id);
            }
            for message in std::mem::take(&mut self.world.wire) {
                self.world.deliver(message);
            }
        }
        let leader = self.world.leader().expect("a healed cluster elects");
        self.world.input(leader, |core| core.propose(vec!["last".into()])).expect("and commits");
        let reads = self.world.tally.reads;
        self.world.read(leader).expect("and reads");
        self.world.settle();
        assert!(self.world.tally.reads > reads, "a healed cluster answers reads");
        self.agree(leader);
    }

    fn agree(&self, leader: u64) {
        let expected = &self.world.members[&leader].machine;
        assert_eq!(expected.commands.last().map(|(_, text)| &**text), Some("last"));
        for id in expected.conf_state.voters.iter().chain(&expected.conf_state.learners) {
            assert_eq!(self.world.members[id].machine, *expected, "{id} and {leader} agree");
        }
        let leads = |id: &u64| {
            let core = self.world.members[id].core.as_ref().expect("running");
            core.status().standing.role == Role::Leader
        };
        assert_eq!(self.world.running().into_iter().filter(leads).count(), 1, "one leader");
    }
}

fn simulate(seed: u64) -> Tally {
    let mut simulation = Simulation::new(seed);
    simulation.trouble();
    simulation.heal();
    simulation.world.tally()
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn promises_hold_whatever_happens() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(200),
    };
    let mut total = Tally::default();
    for seed in seeds.clone() {
        let outcome = panic::catch_unwind(|| simulate(seed));
        let tally = outcome.unwrap_or_else(|_| panic!("SEED={seed} shows it"));
        total.add(tally);
    }
    if seeds.end - seeds.start >= 200 {
        assert!(total.is_lively(), "the simulation shows too little: {total:?}");
    }
}

/// The same seed is the same run, in spite of the randomness inside raft-rs.
#[test]
fn a_seed_is_a_run() {
    for seed in 0..10 {
        let runs = [0, 1].map(|_| {
            let mut simulation = Simulation::new(seed);
            let mut events = Vec::new();
            for _ in 0..1000 {
                simulation.step();
                events.append(&mut simulation.world.events.lines);
            }
            events
        });
        assert!(!runs[0].is_empty());
        assert_eq!(runs[0], runs[1], "SEED={seed} is not deterministic");
    }
}

/// The checks see what they are meant to see: disks that forget what they confirmed are noticed.
#[test]
fn lying_disks_are_noticed() {
    let notices = |seed| {
        let run = panic::catch_unwind(|| {
            let mut simulation = Simulation::new(seed);
            simulation.world.lying_disks = true;
            simulation.trouble();
        });
        run.is_err()
    };
    let noticed = (0..20).filter(|seed| notices(*seed)).count();
    assert!(noticed > 0, "no lie was noticed");
}
