//! Members, disks, appliers and a network in one value, and the promises they must keep.
//!
//! - Nothing happens by itself: writes, applies and messages queue up until a call moves them.
//! - A crash loses whatever was not written, and the state since the last checkpoint.
//! - Messages cross as bytes of etcd's wire format.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::conf::{self, Change, Context, Kind};
use super::super::{
    Boot, Boundary, ConfState, Core, Entry, EntryType, HardState, Message, MessageType, Persist,
    ReadId, Refusal, Role, Work, wire,
};
use super::show;

/// The state machine: the commands it was given, and the members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    pub applied: u64,
    pub term: u64,
    pub conf_state: ConfState,
    /// Ids that never come back.
    pub removed: BTreeSet<u64>,
    pub commands: Vec<(u64, String)>,
}

impl Machine {
    /// Whether a change is one that the members floor lets happen.
    fn admits(&mut self, change: &Change) -> bool {
        match change.kind {
            Kind::AddVoter | Kind::AddLearner => !self.removed.contains(&change.node),
            Kind::Remove => {
                conf::contains(&self.conf_state, change.node) && self.removed.insert(change.node)
            }
            Kind::Update => conf::contains(&self.conf_state, change.node),
        }
    }
}

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub boundary: Boundary,
    pub entries: Vec<Entry>,
    pub checkpoint: Machine,
}

impl Disk {
    pub fn last_index(&self) -> u64 {
        self.boundary.index + self.entries.len() as u64
    }

    pub fn write(&mut self, persist: Persist, snapshots: &BTreeMap<u64, Machine>) {
        if let Some(metadata) = persist.snapshot.as_ref().map(|snapshot| snapshot.get_metadata()) {
            self.boundary = Boundary { index: metadata.index, term: metadata.term };
            self.entries.clear();
            self.checkpoint = snapshots[&metadata.index].clone();
        }
        if let Some(first) = persist.entries.first() {
            self.entries.truncate((first.index - self.boundary.index - 1) as usize);
            self.entries.extend(persist.entries);
        }
        self.hard_state = persist.hard_state;
    }
}

pub struct Member {
    /// Absent while crashed.
    pub core: Option<Core>,
    pub disk: Disk,
    pub writing: VecDeque<Persist>,
    pub applying: VecDeque<Entry>,
    pub machine: Machine,
    /// How often it started, which makes its seeds.
    pub runs: u64,
    /// Open reads, with the highest index that any client knew to be committed when they began.
    pub reads: BTreeMap<ReadId, u64>,
    pub slow_disk: bool,
    pub slow_applier: bool,
}

#[derive(Default)]
pub struct World {
    pub seed: u64,
    pub members: BTreeMap<u64, Member>,
    pub wire: Vec<Message>,
    pub cut: BTreeSet<(u64, u64)>,
    pub events: Events,
    /// A disk that forgets what it has confirmed. The checks must notice.
    pub lying_disks: bool,
    pub tally: Tally,
    promises: Promises,
    /// What a received snapshot holds, by its index.
    snapshots: BTreeMap<u64, Machine>,
}

/// What happened since it was last looked at, a line each.
#[derive(Default)]
pub struct Events {
    /// Writing the lines takes longer than what they tell of.
    pub quiet: bool,
    pub lines: Vec<String>,
}

impl Events {
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if !self.quiet {
            self.lines.push(line());
        }
    }
}

/// How often things happened, so that a test can tell whether it tested anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub terms: u64,
    pub commits: u64,
    pub crashes: u64,
    pub reads: u64,
    pub reads_lost: u64,
    pub snapshots: u64,
    pub removals: u64,
    pub refusals: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.terms += other.terms;
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.reads += other.reads;
        self.reads_lost += other.reads_lost;
        self.snapshots += other.snapshots;
        self.removals += other.removals;
        self.refusals += other.refusals;
    }

    /// Whether everything happened that should be tested.
    pub fn is_lively(&self) -> bool {
        let Tally { terms, commits, crashes, reads, reads_lost, snapshots, removals, refusals } =
            *self;
        let rare = [snapshots, removals];
        let common = [terms, commits, crashes, reads, reads_lost, refusals];
        rare.iter().all(|count| *count >= 20) && common.iter().all(|count| *count >= 200)
    }
}

/// What must never be contradicted, over all members and crashes.
#[derive(Default)]
struct Promises {
    leaders: BTreeMap<u64, u64>,
    /// By voter and term.
    votes: BTreeMap<(u64, u64), u64>,
    /// Term and data by index.
    committed: BTreeMap<u64, (u64, Vec<u8>)>,
    /// Data by index and term, of all that was ever written or sent.
    entries: BTreeMap<(u64, u64), Vec<u8>>,
    conf_states: BTreeMap<u64, ConfState>,
}

impl World {
    pub fn new(seed: u64) -> World {
        World { seed, ..World::default() }
    }

    /// Founds a cluster.
    pub fn found(&mut self, ids: &[u64]) {
        let context = |id: u64| Context { id, ..Context::default() }.encode();
        let founders = ids.iter().map(|id| (*id, context(*id))).collect();
        let (hard_state, entries) = conf::bootstrap(founders);
        for id in ids {
            let disk = Disk {
                hard_state: hard_state.clone(),
                entries: entries.clone(),
                ..Disk::default()
            };
            self.join(*id, disk);
        }
    }

    /// Adds a process, which the cluster need not know yet.
    pub fn join(&mut self, id: u64, disk: Disk) {
        let member = Member {
            core: None,
            disk,
            writing: VecDeque::new(),
            applying: VecDeque::new(),
            machine: Machine::default(),
            runs: 0,
            reads: BTreeMap::new(),
            slow_disk: false,
            slow_applier: false,
        };
        self.members.insert(id, member);
        self.start(id);
    }

    pub fn start(&mut self, id: u64) {
        let seed = self.seed;
        let member = self.member(id);
        member.runs += 1;
        member.machine = member.disk.checkpoint.clone();
        let boot = Boot {
            id,
            applied: member.machine.applied,
            hard_state: member.disk.hard_state.clone(),
            conf_state: member.machine.conf_state.clone(),
            entries: member.disk.entries.clone(),
            boundary: member.disk.boundary,
            seed: seed * 1000 + id * 100 + member.runs,
            election_tick: 10,
            heartbeat_tick: 1,
            no_pre_vote: false,
        };
        member.core = Some(Core::new(boot).expect("the disk is consistent"));
        self.attend(id);
    }

    pub fn crash(&mut self, id: u64) {
        let lying = self.lying_disks;
        self.tally.crashes += 1;
        let member = self.member(id);
        member.core = None;
        member.writing.clear();
        member.applying.clear();
        member.reads.clear();
        if lying && member.disk.entries.len() > 3 {
            let checkpoint = member.disk.checkpoint.applied;
            member.disk.entries.pop();
            let last = member.disk.last_index();
            if last < checkpoint {
                member.disk.entries.clear();
                member.disk.boundary = Boundary { index: checkpoint, term: member.machine.term };
            }
            member.disk.hard_state.commit =
                member.disk.hard_state.commit.min(member.disk.last_index());
        }
    }

    pub fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("the member exists")
    }

    pub fn core(&mut self, id: u64) -> &mut Core {
        self.member(id).core.as_mut().expect("the member runs")
    }

    pub fn is_running(&self, id: u64) -> bool {
        self.members.get(&id).is_some_and(|member| member.core.is_some())
    }

    pub fn running(&self) -> Vec<u64> {
        let running = self.members.iter().filter(|(_, member)| member.core.is_some());
        running.map(|(id, _)| *id).collect()
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        let terms = self.promises.leaders.len() as u64;
        let commits = self.promises.committed.len() as u64;
        Tally { terms, commits, ..self.tally }
    }

    pub fn leader(&self) -> Option<u64> {
        let leads = |core: &Core| core.status().standing.role == Role::Leader;
        let mut leaders: Vec<(u64, u64)> = Vec::new();
        for (id, member) in &self.members {
            if let Some(core) = member.core.as_ref().filter(|core| leads(core)) {
                leaders.push((core.status().standing.term, *id));
            }
        }
        leaders.iter().max().map(|(_, id)| *id)
    }

    /// Gives a member one input and does what follows from it.
    pub fn input<T>(
        &mut self,
        id: u64,
        act: impl FnOnce(&mut Core) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let outcome = act(self.core(id));
        self.attend(id);
        outcome
    }

    pub fn tick(&mut self, id: u64) {
        self.core(id).tick();
        self.attend(id);
    }

    pub fn read(&mut self, id: u64) -> Result<ReadId, Refusal> {
        let known = self.promises.committed.keys().next_back().copied().unwrap_or(0);
        let read = self.core(id).read_index()?;
        self.member(id).reads.insert(read, known);
        self.events.note(|| format!("{id} asks for read {}", read.0));
        self.attend(id);
        Ok(read)
    }

    /// Hands a message over, unless it is lost on the way.
    pub fn deliver(&mut self, message: Message) {
        let lost = self.cut.contains(&(message.from, message.to)) || !self.is_running(message.to);
        let is_snapshot = message.msg_type == MessageType::MsgSnapshot as i32;
        let (from, to) = (message.from, message.to);
        if lost {
            self.events.note(|| format!("{} LOST", show::message(&message)));
        } else {
            let bytes = wire::encode(message);
            let message = wire::decode(bytes.into()).expect("what we encode can be decoded");
            if let Err(refusal) = self.input(to, |core| core.step(message)) {
                self.tally.refusals += 1;
                self.events.note(|| format!("{to} refuses: {refusal}"));
            }
        }
        if is_snapshot {
            self.report_snapshot(from, to, !lost);
        }
    }

    /// Delivers until nothing is under way.
    pub fn settle(&mut self) {
        while !self.wire.is_empty() {
            for message in std::mem::take(&mut self.wire) {
                self.deliver(message);
            }
        }
    }

    /// Loses a message on its way. The sender of a snapshot always learns how that ended.
    pub fn lose(&mut self, message: &Message) {
        self.events.note(|| format!("{} DROPPED", show::message(message)));
        if message.msg_type == MessageType::MsgSnapshot as i32 {
            self.report_snapshot(message.from, message.to, false);
        }
    }

    pub fn report_unreachable(&mut self, id: u64, peer: u64) {
        self.core(id).report_unreachable(peer);
        self.attend(id);
    }

    fn report_snapshot(&mut self, from: u64, to: u64, arrived: bool) {
        if self.is_running(from) {
            self.core(from).report_snapshot(to, arrived);
            self.attend(from);
        }
    }

    /// Finishes the oldest writes of a member, `count` of them with one report.
    pub fn finish_writes(&mut self, id: u64, count: usize) {
        let World { members, snapshots, promises, tally, .. } = self;
        let member = members.get_mut(&id).expect("the member exists");
        let Some(core) = member.core.as_mut() else { return };
        let mut installed = None;
        let mut number = None;
        for persist in member.writing.drain(..count.min(member.writing.len())) {
            number = Some(persist.number);
            promises.see_entries(&persist.entries);
            installed = persist.snapshot.as_ref().map(|s| s.get_metadata().index).or(installed);
            member.disk.write(persist, snapshots);
        }
        let Some(number) = number else { return };
        core.on_persisted(number);
        if let Some(index) = installed {
            member.machine = snapshots[&index].clone();
            member.applying.retain(|entry| entry.index > index);
            core.on_applied(index);
            tally.snapshots += 1;
            self.events.note(|| format!("{id} installs the snapshot at {index}"));
        }
        self.events.note(|| format!("{id} has written #{number}"));
        self.attend(id);
    }

    /// Applies the next committed entries of a member.
    pub fn apply(&mut self, id: u64, count: usize) {
        for _ in 0..count {
            let member = self.member(id);
            let Some(entry) = member.applying.pop_front() else { return };
            let member = self.members.get_mut(&id).expect("the member exists");
            let core = member.core.as_mut().expect("only running members apply");
            let machine = &mut member.machine;
            assert_eq!(entry.index, machine.applied + 1, "entries are applied in order");
            (machine.applied, machine.term) = (entry.index, entry.term);
            match entry.get_entry_type() {
                EntryType::EntryConfChange => {
                    let change = Change::decode(&entry.data).expect("only changes are committed");
                    if machine.admits(&change) {
                        let applied =
                            core.apply_conf_change(entry.index, &change).expect("it fits");
                        machine.conf_state = applied.conf_state;
                        if applied.removed {
                            self.tally.removals += 1;
                            self.events.note(|| format!("{id} is removed"));
                        }
                    } else {
                        self.events.note(|| format!("{id} rejects the next"));
                    }
                }
                EntryType::EntryNormal if entry.data.is_empty() => {}
                EntryType::EntryNormal => {
                    let command = String::from_utf8(entry.data.to_vec()).expect("text");
                    machine.commands.push((entry.index, command));
                }
                EntryType::EntryConfChangeV2 => panic!("V2 changes do not exist for us"),
            }
            core.on_applied(entry.index);
            self.promises.see_conf_state(entry.index, &machine.conf_state);
            self.events.note(|| format!("{id} applies {}", show::entry(&entry)));
            self.attend(id);
        }
    }

    /// Does all the work a member has.
    fn attend(&mut self, id: u64) {
        while let Some(work) = self.members.get_mut(&id).and_then(|m| m.core.as_mut()?.work()) {
            self.promises.see_standing(id, &work, &mut self.events);
            for (read, index) in &work.reads {
                let known =
                    self.member(id).reads.remove(read).expect("only open reads are answered");
                assert!(*index >= known, "read {read:?} of {id} missed {known}, served at {index}");
                self.tally.reads += 1;
                self.events.note(|| format!("{id} may serve read {} at {index}", read.0));
            }
            for read in &work.reads_lost {
                self.member(id).reads.remove(read).expect("only open reads are lost");
                self.tally.reads_lost += 1;
                self.events.note(|| format!("{id} loses read {}", read.0));
            }
            for entry in &work.committed {
                self.promises.see_committed(entry);
            }
            for message in work.messages {
                self.send(id, message);
            }
            let member = self.member(id);
            member.applying.extend(work.committed);
            if let Some(persist) = work.persist {
                member.writing.push_back(persist.clone());
                self.events.note(|| format!("{id} writes {}", show::persist(&persist)));
            }
        }
        if !self.members[&id].slow_disk && !self.members[&id].writing.is_empty() {
            self.finish_writes(id, usize::MAX);
        }
        if !self.members[&id].slow_applier && !self.members[&id].applying.is_empty() {
            self.apply(id, usize::MAX);
        }
    }

    fn send(&mut self, id: u64, mut message: Message) {
        let member = &self.members[&id];
        if message.msg_type == MessageType::MsgSnapshot as i32 {
            // As the driver does: the snapshot is what the state machine holds now, which may be
            // more than raft asked for.
            let metadata = message.mut_snapshot().mut_metadata();
            metadata.index = member.machine.applied;
            metadata.term = member.machine.term;
            metadata.conf_state = Some(member.machine.conf_state.clone());
            self.snapshots.insert(metadata.index, member.machine.clone());
        }
        self.promises.see_message(&message, &member.disk);
        self.events.note(|| show::message(&message));
        self.wire.push(message);
    }

    /// Notes the state machine's state durably, as the checkpointer does behind everybody's back.
    pub fn checkpoint(&mut self, id: u64) {
        let member = self.member(id);
        assert!(
            member.machine.applied <= member.disk.last_index(),
            "only what is written is applied"
        );
        member.disk.checkpoint = member.machine.clone();
    }

    /// Drops log entries up to `index`, in memory and on disk.
    pub fn compact(&mut self, id: u64, index: u64) {
        let member = self.member(id);
        let index = index.min(member.disk.checkpoint.applied);
        let first = member.disk.boundary.index;
        if index <= first {
            return;
        }
        let dropped = member.disk.entries.drain(..(index - first) as usize).next_back();
        let term = dropped.expect("the boundary moves").term;
        member.disk.boundary = Boundary { index, term };
        member.core.as_mut().expect("the member runs").compact(index);
    }
}

impl Promises {
    fn see_standing(&mut self, id: u64, work: &Work, events: &mut Events) {
        let Some(standing) = work.standing else { return };
        events.note(|| format!("{id} is {}", show::standing(&standing)));
        if standing.role == Role::Leader {
            let first = *self.leaders.entry(standing.term).or_insert(id);
            assert_eq!(first, id, "two leaders in term {}", standing.term);
        }
    }

    fn see_committed(&mut self, entry: &Entry) {
        let seen = (entry.term, entry.data.to_vec());
        let first = self.committed.entry(entry.index).or_insert_with(|| seen.clone());
        assert_eq!(*first, seen, "committed entry {} changed", entry.index);
    }

    fn see_entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            let seen = entry.data.to_vec();
            let first =
                self.entries.entry((entry.index, entry.term)).or_insert_with(|| seen.clone());
            assert_eq!(*first, seen, "{}@{} is two entries", entry.index, entry.term);
        }
    }

    fn see_conf_state(&mut self, index: u64, conf_state: &ConfState) {
        let first = self.conf_states.entry(index).or_insert_with(|| conf_state.clone());
        assert_eq!(first, conf_state, "two conf states at {index}");
    }

    fn see_message(&mut self, message: &Message, disk: &Disk) {
        let written = &disk.hard_state;
        if message.get_msg_type() == MessageType::MsgAppend {
            self.see_entries(&message.entries);
        }
        match message.get_msg_type() {
            MessageType::MsgRequestVoteResponse if !message.reject => {
                let vote = (message.from, message.term);
                let first = *self.votes.entry(vote).or_insert(message.to);
                assert_eq!(first, message.to, "{vote:?} voted twice");
                // One report may cover the writes of several terms.
                let is_past = written.term > message.term;
                let is_written = (written.term, written.vote) == (message.term, message.to);
                assert!(is_past || is_written, "unwritten vote {vote:?}");
            }
            MessageType::MsgAppendResponse if !message.reject => {
                let (last, is_past) = (disk.last_index(), written.term > message.term);
                assert!(is_past || message.index <= last, "unwritten {} confirmed", message.index);
            }
            MessageType::MsgRequestVote | MessageType::MsgAppend | MessageType::MsgHeartbeat => {
                // Only a newer term of our own may have been written since.
                assert!(written.term >= message.term, "unwritten term {}", message.term);
            }
            _ => {}
        }
    }
}
