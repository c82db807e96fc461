//! The world of one seed: machines, network, clients and faults under one clock.
//!
//! Everything that happens is an event at a time in microseconds. Between events nothing runs, so
//! the same seed makes the same world. Time is tokio's, held still and moved on from here.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvorum::raft::{Flow, Message, Role};
use kvorum::sim::{Mark, Part, mark};
use kvorum::storage::disk::sim::Seed;
use parking_lot::Mutex;

use super::asking;
use super::clients::{self, Ask, Busy, Record, Shared};
use super::ears::{self, Manner};
use super::journal::Journal;
use super::kube;
use super::network::{Question, Wire};
use super::panics::words;
use super::profile::Profile;
use super::replace::Replacing;
use super::rot::Rot;
use super::seat::Seat;
use super::tasks::{Life, Tasks};
use super::witness::Witness;

/// The longest step of the clock: timers within members are late by that much at most.
const STEP_US: u64 = 2_000;
/// Of so many committed entries, one is looked for on the disks of a majority.
const DURABLE_ONE_OF: u64 = 40;

/// How many watches are listened to at a time.
const WATCHES_MAX: usize = 16;

/// What is going to happen.
pub enum Happening {
    Deliver(Box<Message>),
    Ask {
        from: u64,
        to: u64,
        question: Question,
    },
    Client(usize),
    Watch,
    /// A watcher comes back to a member that has just started.
    ComeBack(usize),
    Fault,
    Restart(usize),
    Stop(usize),
    /// A process that stood still is about to go on.
    Wake(usize),
    Space(usize),
    Replace,
    /// How far the healing of a damaged member has come.
    Mend,
    Heal(Vec<(u64, u64)>),
}

/// A watch stream that somebody listens to.
pub struct Listening {
    pub ears: Vec<usize>,
    pub life: Life,
    pub ended: Rc<Cell<bool>>,
}

pub struct World {
    pub seed: Seed,
    pub profile: Profile,
    base: Instant,
    pub now_us: u64,
    pub seats: Vec<Seat>,
    pub wire: Arc<Mutex<Wire>>,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    pub tasks: Tasks,
    pub record: Shared,
    pub watches: Vec<Listening>,
    pub witness: Witness,
    pub journal: Journal,
    leaders: BTreeMap<u64, u64>,
    /// The revision as of an entry.
    levels: BTreeMap<u64, i64>,
    unique: u64,
    /// How sending states ended, to be told to their senders.
    pub snapshots_sent: Rc<RefCell<Vec<(Life, u64, bool)>>>,
    /// When the last message between two members arrives, if they arrive in order.
    pub last_arrival: BTreeMap<(u64, u64), u64>,
    /// Processes that have given leadership away and are to stop.
    pub handed_over: Rc<RefCell<Vec<Life>>>,
    pub replacing: Option<Replacing>,
    /// The machine whose disk grows old.
    pub rot: Option<Rot>,
    /// Members that are sending whole states.
    pub sending: Vec<Life>,
    /// When members last changed.
    pub replaced_us: u64,
    /// Whether clients ask and faults come.
    pub chaos: bool,
    pub counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(number: u64, loud: bool) -> Self {
        kvorum::sim::simulate();
        let mut seed = Seed::new(number);
        let profile = Profile::draw(&mut seed);
        let seats = (0..profile.members).map(|n| Seat::new(n, &profile, seed.next())).collect();
        let record = Shared::default();
        record.borrow_mut().history.drift_ppm = profile.skew_ppm;
        Self {
            seed,
            profile,
            base: now(),
            now_us: 0,
            seats,
            wire: Arc::default(),
            order: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            tasks: Tasks::default(),
            record,
            watches: Vec::new(),
            witness: Witness::new(),
            journal: Journal::new(loud),
            leaders: BTreeMap::new(),
            levels: BTreeMap::new(),
            unique: 0,
            snapshots_sent: Rc::default(),
            last_arrival: BTreeMap::new(),
            handed_over: Rc::default(),
            replacing: None,
            rot: None,
            sending: Vec::new(),
            replaced_us: 0,
            chaos: true,
            counts: BTreeMap::new(),
        }
    }

    /// Lets a world come about and run its course; what went wrong in it.
    pub async fn live(&mut self) -> Result<(), String> {
        self.journal.note(0, None, "world", format!("{:?}", self.profile));
        for seat in 0..self.seats.len() {
            self.start(seat)?;
        }
        for client in 0..self.profile.clients {
            let at = 1_000_000 + self.seed.below(500_000);
            self.plan(at, Happening::Client(client));
        }
        self.plan(2_000_000, Happening::Watch);
        if self.profile.fault_us > 0 {
            let at = 2_000_000 + self.seed.below(self.profile.fault_us);
            self.plan(at, Happening::Fault);
        }
        self.run_until(self.profile.chaos_us).await?;
        self.come_to_rest().await
    }

    /// What time it is, for whoever runs within this world.
    pub fn clock(&self) -> impl Fn() -> u64 + use<> {
        let base = self.base;
        move || now().duration_since(base).as_micros() as u64
    }

    pub fn plan(&mut self, at_us: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((at_us, self.order)));
        self.happenings.insert(self.order, happening);
    }

    pub fn note(&mut self, seat: Option<usize>, what: &'static str, detail: String) {
        *self.counts.entry(what).or_default() += 1;
        self.journal.note(self.now_us, seat, what, detail);
    }

    pub async fn run_until(&mut self, end_us: u64) -> Result<(), String> {
        loop {
            self.gather()?;
            if self.run_tasks()? {
                continue;
            }
            let turn = self.next_turn();
            let event = self.queue.peek().map(|Reverse((at, _))| *at);
            let at = turn.map_or(u64::MAX, |(at, ..)| at).min(event.unwrap_or(u64::MAX));
            if at > self.now_us {
                if self.now_us >= end_us {
                    return Ok(());
                }
                let next = at.min(end_us).min(self.now_us + STEP_US);
                tokio::time::advance(Duration::from_micros(next - self.now_us)).await;
                self.now_us = next;
            } else if let Some((at, seat, part)) = turn
                && event.is_none_or(|event| at <= event)
            {
                self.turn(seat, part)?;
            } else if let Some(Reverse((_, order))) = self.queue.pop()
                && let Some(happening) = self.happenings.remove(&order)
            {
                self.happen(happening)?;
            }
        }
    }

    /// The part that takes the next turn, and when. One that is asked takes it a moment later.
    fn next_turn(&mut self) -> Option<(u64, usize, Part)> {
        let mut first: Option<(u64, usize, Part)> = None;
        let now = self.base + Duration::from_micros(self.now_us);
        for seat in 0..self.seats.len() {
            let paused_until = self.seats[seat].paused_until_us;
            let Some(process) = &mut self.seats[seat].process else { continue };
            let is_touched = std::mem::take(&mut process.is_touched);
            for (place, part) in Part::ALL.into_iter().enumerate() {
                if is_touched {
                    let wakes = process.member.wakes_at(part, now);
                    let since = |at: Instant| at.saturating_duration_since(self.base);
                    process.wakes[place] = wakes.map(|at| since(at).as_micros() as u64);
                }
                let Some(wakes) = process.wakes[place] else {
                    process.turns[place] = None;
                    continue;
                };
                let at = if wakes > self.now_us {
                    process.turns[place] = None;
                    wakes
                } else {
                    let slowness =
                        if part == Part::Checkpointer { self.profile.slowness } else { 1 };
                    let (seed, turn_us) = (&mut self.seed, self.profile.turn_us * slowness);
                    let soon = || self.now_us + wait(seed, turn_us);
                    *process.turns[place].get_or_insert_with(soon)
                };
                let at = at.max(paused_until);
                if first.is_none_or(|(first, ..)| at < first) {
                    first = Some((at, seat, part));
                }
            }
        }
        first
    }

    fn turn(&mut self, seat: usize, part: Part) -> Result<(), String> {
        self.journal.mix(&[self.now_us, seat as u64, part as u64]);
        self.seats[seat].touch();
        if let Some(process) = &mut self.seats[seat].process {
            process.turns[part as usize] = None;
        }
        if let Err(why) = self.seats[seat].turn(part) {
            return self.died(seat, &why);
        }
        match part {
            Part::Driver => {
                self.check_leader(seat)?;
                self.check_load(seat)?;
            }
            Part::Applier => self.check_level(seat)?,
            _ => {}
        }
        self.strike_installing(seat);
        let ended =
            |process: &super::seat::Process| process.stopping && process.member.has_stopped();
        if self.seats[seat].process.as_ref().is_some_and(ended) {
            self.stopped(seat);
        }
        Ok(())
    }

    /// Members that have applied as much are at the same revision, under the same alarms.
    fn check_level(&mut self, seat: usize) -> Result<(), String> {
        let Some(process) = &self.seats[seat].process else { return Ok(()) };
        let node = &process.services.node;
        let (applied, revision) = (node.progress().applied, node.revision());
        let known = *self.levels.entry(applied).or_insert(revision);
        let known = self.witness.level(applied).unwrap_or(known);
        if known != revision {
            return Err(format!(
                "m{seat} is at revision {revision} as of entry {applied}, not at {known}: {}",
                self.witness.describe(applied)
            ));
        }
        Ok(())
    }

    fn check_leader(&mut self, seat: usize) -> Result<(), String> {
        let id = self.seats[seat].id;
        let process = self.seats[seat].process.as_ref();
        let Some(status) = process.and_then(|process| process.member.status()) else {
            return Ok(());
        };
        if status.standing.role != Role::Leader {
            return Ok(());
        }
        let term = status.standing.term;
        match self.leaders.insert(term, id) {
            None => self.note(Some(seat), "leads", format!("term {term}")),
            Some(other) if other != id => {
                return Err(format!("{other:x} and {id:x} both lead term {term}"));
            }
            Some(_) => {}
        }
        self.look_at_followers(seat);
        Ok(())
    }

    /// Sees whether a leader probes a follower that it had sent a stream of entries.
    fn look_at_followers(&mut self, seat: usize) {
        let Some(process) = &mut self.seats[seat].process else { return };
        let followers = process.member.followers();
        for one in followers {
            let before = process.flows.insert(one.id, one.flow);
            if before == Some(Flow::Replicate) && one.flow == Flow::Probe {
                mark(Mark::FollowerProbedAgain);
            }
        }
    }

    /// Takes in what members have done since the last look.
    fn gather(&mut self) -> Result<(), String> {
        for seat in 0..self.seats.len() {
            let Some(process) = &mut self.seats[seat].process else { continue };
            for errand in process.member.take_errands() {
                let work = async move { poll_fn(|context| errand.poll(context)).await };
                self.tasks.spawn(Some(process.life), work);
            }
            for entry in process.member.take_committed() {
                self.journal.mix(&[seat as u64, entry.index, entry.term]);
                if self.witness.see(self.now_us, &entry)? && self.seed.below(DURABLE_ONE_OF) == 0 {
                    self.check_durable(seat, &entry)?;
                }
            }
        }
        let sent = std::mem::take(&mut self.wire.lock().sent);
        for (from, sent) in sent {
            self.route(from, sent);
        }
        let mut record = self.record.borrow_mut();
        for (lease, until) in record.promises.drain(..) {
            self.witness.promise(lease, until);
        }
        self.witness.given_up.extend(record.given_up.drain(..));
        for told in record.lifetimes.drain(..) {
            self.witness.check_lifetime(&told)?;
        }
        for told in record.rolls.drain(..) {
            self.witness.rolls.check(&told)?;
        }
        let freed = std::mem::take(&mut record.freed);
        drop(record);
        for client in freed {
            let pause = 1 + self.seed.below(2 * self.profile.think_us);
            self.plan(self.now_us + pause, Happening::Client(client));
        }
        self.tell_ends();
        Ok(())
    }

    /// Whether members change, or have a moment ago.
    pub fn is_changing(&self) -> bool {
        let lately = self.replaced_us > 0 && self.now_us < self.replaced_us + 5_000_000;
        self.replacing.is_some() || self.heals() || lately
    }

    /// An entry that is committed is on the disks of a majority.
    fn check_durable(&mut self, seat: usize, entry: &kvorum::raft::Entry) -> Result<(), String> {
        let Some(process) = &self.seats[seat].process else { return Ok(()) };
        let members = process.services.node.members();
        let voters: Vec<u64> =
            members.iter().filter(|member| !member.is_learner).map(|member| member.id).collect();
        let founding = entry.index <= self.profile.members as u64;
        if voters.is_empty() || founding || self.is_changing() {
            return Ok(());
        }
        let mut holders = 0;
        for seat in self.seats.iter().filter(|seat| voters.contains(&seat.id)) {
            // What it had is its own affair, and the others have it.
            let has = self.is_rotten(seat.number) || seat.holds(entry.index, entry.term)?;
            holders += usize::from(has);
        }
        *self.counts.entry("durable").or_default() += 1;
        if holders * 2 <= voters.len() {
            let (index, term) = (entry.index, entry.term);
            return Err(format!(
                "entry {index} of term {term} was committed and is on {holders} disks of {}",
                voters.len()
            ));
        }
        Ok(())
    }

    /// Something happens to one member; to any of them, as far as is known, if none is named.
    pub fn touch(&mut self, seat: Option<usize>) {
        match seat {
            Some(seat) => self.seats[seat].touch(),
            None => self.seats.iter_mut().for_each(Seat::touch),
        }
    }

    /// What runs next asks for the time by the clock of the process it is part of.
    fn keep_time(&self, owner: Option<Life>) {
        match owner.and_then(|life| self.seats[life.seat].process.as_ref()) {
            Some(process) => process.member.keep_time(),
            None => kvorum::sim::keep_time(None),
        }
    }

    /// Lets woken tasks go on; whether there were any.
    fn run_tasks(&mut self) -> Result<bool, String> {
        let mut ran = false;
        for (task, owner) in self.tasks.take_woken() {
            let paused =
                owner.is_some_and(|life| self.seats[life.seat].paused_until_us > self.now_us);
            if paused {
                self.tasks.put_off(task);
                continue;
            }
            ran = true;
            self.journal.mix(&[task]);
            self.keep_time(owner);
            self.touch(owner.map(|life| life.seat));
            if let Err(panic) = self.tasks.poll(task) {
                let death = words(&*panic);
                match owner {
                    Some(life) => self.died(life.seat, &death)?,
                    None => return Err(format!("the network died: {}", death.why)),
                }
            }
        }
        Ok(ran)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        self.touch(match &happening {
            Happening::Deliver(message) => self.seat_of(message.to),
            _ => None,
        });
        match happening {
            Happening::Deliver(message) => self.deliver(*message),
            Happening::Ask { from, to, question } => self.answer(from, to, question),
            Happening::Client(client) => self.ask(client),
            Happening::Watch => {
                let pause = 500_000 + self.seed.below(4_000_000);
                self.plan(self.now_us + pause, Happening::Watch);
                let seat = self.any_process();
                match self.profile.kubernetes && self.seed.coin() {
                    true => self.begin_watch(seat, ears::from_list),
                    false => self.begin_watch(seat, ears::any),
                }
            }
            Happening::ComeBack(seat) => self.begin_watch(Some(seat), ears::from_compaction),
            Happening::Fault => self.fault()?,
            Happening::Restart(seat) => self.start(seat)?,
            Happening::Stop(seat) => self.stop(seat),
            Happening::Wake(seat) => self.renew_all(seat),
            Happening::Space(seat) => self.free(seat),
            Happening::Replace => self.go_on_replacing()?,
            Happening::Mend => self.go_on_healing()?,
            Happening::Heal(cuts) => self.heal(&cuts),
        }
        Ok(())
    }

    /// A member that runs, if one does.
    pub fn any_process(&mut self) -> Option<usize> {
        let running: Vec<usize> =
            (0..self.seats.len()).filter(|seat| self.seats[*seat].process.is_some()).collect();
        (!running.is_empty()).then(|| running[self.seed.below(running.len() as u64) as usize])
    }

    fn ask(&mut self, client: usize) {
        if !self.chaos {
            return;
        }
        let Some(seat) = self.any_process() else {
            self.plan(self.now_us + 100_000, Happening::Client(client));
            return;
        };
        self.unique += 1;
        let (seed, profile, unique) = (&mut self.seed, &self.profile, self.unique);
        let record = self.record.borrow();
        let ask = match profile.kubernetes && seed.below(4) > 0 {
            true => kube::think(seed, &record, profile, unique),
            false => clients::think(seed, &record, profile, unique, self.now_us),
        };
        drop(record);
        let Some(process) = &self.seats[seat].process else { return };
        let busy = Busy { client, record: self.record.clone() };
        let asking = asking::ask(process.services.clone(), ask, busy, self.clock());
        self.tasks.spawn(Some(process.life), asking);
    }

    /// Clients that have waited for a member renew their leases there, all at once.
    fn renew_all(&mut self, seat: usize) {
        let Some(process) = &self.seats[seat].process else { return };
        if !self.chaos {
            return;
        }
        let (services, life) = (process.services.clone(), process.life);
        let leases = self.record.borrow().leases.clone();
        for lease in leases.into_iter().rev().take(4) {
            let (ask, record) = (Ask::KeepAlive { lease }, self.record.clone());
            let asking = asking::leases(services.clone(), ask, record, self.clock());
            self.tasks.spawn(Some(life), asking);
        }
    }

    fn begin_watch(
        &mut self,
        seat: Option<usize>,
        watch: impl Fn(&mut Seed, &mut Record, u64) -> usize,
    ) {
        let seats = &self.seats;
        let lives =
            |life: Life| seats[life.seat].process.as_ref().is_some_and(|one| one.life == life);
        self.watches.retain(|watch| !watch.ended.get() && lives(watch.life));
        let Some(seat) = seat.filter(|_| self.chaos && self.watches.len() < WATCHES_MAX) else {
            return;
        };
        if self.seats[seat].process.is_none() {
            return;
        }
        let count = [1, 1, 2, 3][self.seed.below(4) as usize];
        let mut ears = Vec::new();
        for _ in 0..count {
            let record = &mut self.record.borrow_mut();
            ears.push(watch(&mut self.seed, record, self.profile.keys));
        }
        let manner = Manner::draw(&mut self.seed);
        let Some(process) = &self.seats[seat].process else { return };
        let (ended, record) = (Rc::new(Cell::new(false)), self.record.clone());
        let (watching, life) = (process.member.watch(), process.life);
        let (server, clock, over) = (process.services.server, self.clock(), ended.clone());
        let listening = ears::listen(watching, ears.clone(), manner, server, record, clock, over);
        self.tasks.spawn(Some(life), listening);
        self.watches.push(Listening { ears, life, ended });
    }
}

/// A short while, mostly; sometimes a long one.
fn wait(seed: &mut Seed, usual_us: u64) -> u64 {
    match seed.below(200) {
        0 => seed.below(20 * usual_us + 1),
        _ => seed.below(usual_us + 1),
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
