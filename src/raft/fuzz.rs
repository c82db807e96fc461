//! The body of the fuzz target `raft_step`: one member among others that may say anything.
//!
//! The member is driven as the room's chapter asks: what it wants written is written, what it
//! commits is applied. Bytes decide what it is told, by whom, and when its disk and applier get
//! that far. Much of it is in order, or it would never lead or commit; the rest is numbers around
//! the true ones, and raw bytes. Nothing may panic, and its own promises hold whatever it hears.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::conf::{self, Change, Context, Kind};
use super::{
    Boot, Boundary, ConfState, Core, Entry, EntryType, HardState, Message, MessageType, Persist,
    Proposed, Refusal, Work, wire,
};
use crate::input::Input;

const OWN: u64 = 1;
const STEPS_MAX: usize = 400;

/// Starts a member and lets `bytes` decide what happens to it.
pub fn fuzz_step(bytes: &[u8]) {
    let mut input = Input(bytes);
    let Some(mut member) = Member::new(input.byte()) else { return };
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() || member.step(&mut input).is_none() {
            return;
        }
    }
}

impl Input<'_> {
    /// Mostly a number around one that means something.
    fn near(&mut self, center: u64) -> u64 {
        match self.byte() {
            byte @ 0..200 => center.wrapping_add(u64::from(byte) % 7).wrapping_sub(2),
            byte @ 200..240 => u64::from(byte) % 16,
            240..244 => u64::MAX,
            244..248 => u64::MAX - 1,
            248..252 => 1 << 63,
            _ => u64::from_le_bytes([0; 8].map(|_| self.byte())),
        }
    }
}

/// What survives a crash.
#[derive(Clone, Default)]
struct Disk {
    hard_state: HardState,
    boundary: Boundary,
    entries: Vec<Entry>,
    state: State,
}

/// The state machine, as far as raft cares.
#[derive(Clone, Default)]
struct State {
    index: u64,
    term: u64,
    conf_state: ConfState,
    removed: BTreeSet<u64>,
}

impl State {
    /// Whether the members' book lets a change happen.
    fn admits(&mut self, change: &Change) -> bool {
        let known = conf::contains(&self.conf_state, change.node);
        let learns = self.conf_state.learners.contains(&change.node);
        match change.kind {
            Kind::AddVoter => learns || !(known || self.removed.contains(&change.node)),
            Kind::AddLearner => !known && !self.removed.contains(&change.node),
            Kind::Update => known,
            Kind::Remove => known && self.removed.insert(change.node),
        }
    }
}

impl Disk {
    fn last_index(&self) -> u64 {
        self.boundary.index + self.entries.len() as u64
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.boundary.index + 1)? as usize)
    }
}

struct Member {
    core: Core,
    disk: Disk,
    /// The last entry that was ever written in the term on disk. A leader that takes back what it
    /// said in its term may have left less.
    written: u64,
    state: State,
    writing: VecDeque<Persist>,
    applying: VecDeque<Entry>,
    /// Everything that was ever handed out as committed.
    committed: BTreeMap<u64, Entry>,
    /// What it said, for the others to answer.
    sent: VecDeque<Message>,
    /// Writes and applies at once.
    is_quick: bool,
    runs: u64,
}

impl Member {
    /// A member with some history, or none.
    fn new(choice: u8) -> Option<Self> {
        let mut disk = Disk::default();
        let founders: &[u64] = match choice % 8 {
            0..4 => &[1, 2, 3],
            4 => &[1],
            5 => &[2, 3],
            6 => &[1, 2],
            _ => &[],
        };
        if !founders.is_empty() {
            let context = |id: &u64| (*id, Context { id: *id, ..Context::default() }.encode());
            let founded = conf::bootstrap(founders.iter().map(context).collect());
            (disk.hard_state, disk.entries) = founded;
        }
        if choice & 0x40 != 0 && !founders.is_empty() {
            // Its log goes on in later terms, and begins later than it did.
            let first = disk.last_index() + 1;
            disk.entries.extend((first..first + 6).map(|index| entry(index, 2 + index / 7, b"x")));
            disk.hard_state = HardState { term: 3, vote: 0, commit: first + 1 };
            disk.state.index = first;
            disk.state.term = disk.entry(first)?.term;
            disk.state.conf_state.voters = founders.to_vec();
            disk.boundary = Boundary { index: first - 1, term: 1 };
            disk.entries.drain(..first as usize - 1);
        }
        let core = boot(&disk, 1)?;
        let mut member = Self {
            core,
            written: disk.last_index(),
            state: disk.state.clone(),
            disk,
            writing: VecDeque::new(),
            applying: VecDeque::new(),
            committed: BTreeMap::new(),
            sent: VecDeque::new(),
            is_quick: choice & 0x80 == 0,
            runs: 1,
        };
        member.attend()?;
        Some(member)
    }

    /// One thing happens; `None` when the driver would stop the node.
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.below(20) {
            0..5 => {
                let message = self.made_up(input);
                self.hear(message)?;
            }
            5..10 => {
                let message = self.answer(input)?;
                self.hear(message)?;
            }
            10 => {
                if let Ok(message) = wire::decode(input.piece()) {
                    self.hear(message)?;
                }
            }
            11..13 => (0..=input.below(24)).for_each(|_| self.core.tick()),
            13 => {
                let count = 1 + usize::from(input.below(4));
                self.finish_writes(count);
            }
            14 => {
                let count = 1 + usize::from(input.below(4));
                self.apply(count)?;
            }
            15 => {
                let payload = Bytes::from(vec![b'p'; 1 + usize::from(input.below(9))]);
                let payloads = vec![payload; 1 + usize::from(input.below(3))];
                self.note_proposed(payloads);
            }
            16 => {
                let change = change(input);
                let _ = self.core.propose_conf_change(&change);
            }
            17 => self.ask(input),
            18 => {
                let keep = u64::from(input.below(4));
                self.disk.state = self.state.clone();
                self.compact(self.state.index.saturating_sub(keep));
            }
            _ => self.restart()?,
        }
        self.attend()
    }

    fn note_proposed(&mut self, payloads: Vec<Bytes>) {
        let last = self.core.status().last_index;
        if let Ok(Proposed::Appended { first, .. }) = self.core.propose(payloads) {
            assert_eq!(first, last + 1, "a proposal follows the log");
        }
    }

    /// What else a driver may want of it.
    fn ask(&mut self, input: &mut Input<'_>) {
        let peer = u64::from(input.below(5));
        match input.below(7) {
            0 => drop(self.core.read_index()),
            1 => drop(self.core.campaign()),
            2 => drop(self.core.transfer_leader(peer)),
            3 => self.core.report_unreachable(peer),
            4 => self.core.report_snapshot(peer, true),
            5 => self.core.report_snapshot(peer, false),
            _ => self.core.lose_leader(peer),
        }
    }

    /// A message that nobody in good order need have sent.
    fn made_up(&mut self, input: &mut Input<'_>) -> Message {
        let status = self.core.status();
        let msg_type = i32::from(input.below(20));
        let mut message = Message {
            msg_type,
            to: if input.byte() == 255 { 2 } else { OWN },
            from: u64::from(input.below(6)),
            term: input.near(status.standing.term + 2),
            ..Message::default()
        };
        message.index = match input.below(4) {
            0 => input.near(status.commit),
            1 => input.near(status.first_index),
            _ => input.near(status.last_index),
        };
        let known = self.core.node.store().term_at(message.index);
        message.log_term = match (input.byte(), known) {
            (0..200, Some(term)) => term,
            _ => input.near(status.standing.term),
        };
        let last = self.add_entries(&mut message, input);
        let commit = if input.byte() < 128 { status.commit } else { last };
        message.commit = input.near(commit);
        let flags = input.byte();
        message.reject = flags & 1 != 0;
        message.reject_hint = input.near(status.last_index);
        if flags & 2 != 0 {
            message.context = input.piece();
        }
        if flags & 4 != 0 || msg_type == MessageType::MsgSnapshot as i32 {
            let metadata = message.mut_snapshot().mut_metadata();
            metadata.index = input.near(status.commit + 2);
            metadata.term = input.near(status.standing.term);
            let mut members = |count: u8| (0..count).map(|_| u64::from(input.below(6))).collect();
            let conf_state = metadata.mut_conf_state();
            (conf_state.voters, conf_state.learners) = (members(3), members(flags >> 6));
        }
        message
    }

    /// Gives a message entries, mostly such that follow each other; the index of the last.
    fn add_entries(&self, message: &mut Message, input: &mut Input<'_>) -> u64 {
        let (mut index, mut term) = (message.index, message.log_term.max(1));
        for _ in 0..input.below(5) {
            index = index.wrapping_add(1);
            let how = input.byte();
            if how < 32 {
                (index, term) = (input.near(index), input.near(term));
            } else if how < 64 {
                term = message.term;
            }
            let mut entry = entry(index, term, b"e");
            match how % 8 {
                0 => (entry.entry_type, entry.data) = (1, change(input).encode()),
                1 => (entry.entry_type, entry.data) = (i32::from(input.below(4)), input.piece()),
                _ => {}
            }
            message.entries.push(entry);
        }
        index
    }

    /// What a member in good order would answer to something this one said, perhaps with a wrong
    /// number in it; if it has said nothing, what a leader would say.
    fn answer(&mut self, input: &mut Input<'_>) -> Option<Message> {
        let status = self.core.status();
        let mut answer = match self.sent.pop_front() {
            None => self.as_leader(input),
            Some(sent) => answer_to(&sent, &status, input),
        };
        match input.byte() {
            0..4 => answer.index = input.near(answer.index),
            4..8 => answer.term = input.near(answer.term),
            8..12 => answer.commit = input.near(answer.commit),
            12..16 => answer.from = u64::from(input.below(6)),
            16..20 => answer.reject = !answer.reject,
            _ => {}
        }
        Some(answer)
    }

    /// An append or a heartbeat as the next leader's.
    fn as_leader(&self, input: &mut Input<'_>) -> Message {
        let status = self.core.status();
        let from = match status.standing.leader {
            0 | OWN => 2,
            leader => leader,
        };
        let is_newer = from != status.standing.leader;
        let term = status.standing.term + u64::from(is_newer || input.below(8) == 0);
        let mut message = Message { to: OWN, from, term, ..Message::default() };
        let back = u64::from(input.below(6).saturating_sub(3));
        let previous = status.last_index.saturating_sub(back).max(status.commit);
        let known = self.core.node.store().term_at(previous);
        if input.below(4) == 0 {
            message.set_msg_type(MessageType::MsgHeartbeat);
            message.commit = status.commit;
            return message;
        }
        message.set_msg_type(MessageType::MsgAppend);
        (message.index, message.log_term) = (previous, known.unwrap_or(0));
        let count = u64::from(input.below(4));
        message.entries = (1..=count).map(|next| entry(previous + next, term, b"l")).collect();
        if input.below(6) == 0
            && let Some(last) = message.entries.last_mut()
        {
            (last.entry_type, last.data) = (1, change(input).encode());
        }
        message.commit = previous + u64::from(input.below(4)).min(count);
        message
    }

    fn hear(&mut self, message: Message) -> Option<()> {
        match self.core.step(message) {
            // The driver stops the node.
            Err(Refusal::LogLost { .. }) => None,
            Ok(()) | Err(_) => Some(()),
        }
    }

    /// Does what the core wants, and holds it to its word.
    fn attend(&mut self) -> Option<()> {
        loop {
            while let Some(work) = self.core.work() {
                self.take(work);
            }
            let (writing, applying) = (self.writing.len(), self.applying.len());
            if !self.is_quick || writing + applying == 0 {
                return Some(());
            }
            self.finish_writes(writing);
            self.apply(applying)?;
        }
    }

    fn take(&mut self, work: Work) {
        for message in work.messages {
            self.check_message(&message);
            self.sent.push_back(message);
            if self.sent.len() > 16 {
                self.sent.pop_front();
            }
        }
        for entry in &work.committed {
            assert_eq!(self.disk.entry(entry.index), Some(entry), "what is committed is durable");
            let known = self.committed.entry(entry.index).or_insert_with(|| entry.clone());
            assert_eq!(known, entry, "what is committed stays");
        }
        self.applying.extend(work.committed);
        if let Some(persist) = work.persist {
            let first = persist.entries.first().map_or(u64::MAX, |entry| entry.index);
            let newest = self.applying.back().map_or(self.state.index, |entry| entry.index);
            assert!(first > newest, "entry {first} replaces one that is committed");
            self.writing.push_back(persist);
        }
        let status = self.core.status();
        assert!(status.commit <= status.last_index, "a commit that was not there: {status:?}");
        assert!(status.applied <= status.commit, "{status:?}");
    }

    fn check_message(&self, message: &Message) {
        assert_eq!(message.from == OWN, message.from != 0, "it speaks for itself: {message:?}");
        let written = &self.disk.hard_state;
        let is_past = written.term > message.term;
        match message.get_msg_type() {
            MessageType::MsgRequestVoteResponse if !message.reject => {
                let vote = (written.term, written.vote);
                assert!(is_past || vote == (message.term, message.to), "an unwritten vote");
            }
            MessageType::MsgAppendResponse if !message.reject => {
                let is_written = message.index <= self.written;
                assert!(is_past || is_written, "unwritten entries are acknowledged");
            }
            MessageType::MsgRequestVote | MessageType::MsgAppend | MessageType::MsgHeartbeat => {
                assert!(written.term >= message.term, "an unwritten term");
            }
            _ => {}
        }
    }

    /// Finishes the oldest writes, with one report.
    fn finish_writes(&mut self, count: usize) {
        let (mut installed, mut number) = (None, None);
        for persist in self.writing.drain(..count.min(self.writing.len())) {
            number = Some(persist.number);
            let metadata = persist.snapshot.map(|snapshot| snapshot.get_metadata().clone());
            if let Some(metadata) = metadata {
                let state = &mut self.disk.state;
                (state.index, state.term) = (metadata.index, metadata.term);
                state.conf_state = metadata.get_conf_state().clone();
                self.disk.boundary = Boundary { index: metadata.index, term: metadata.term };
                self.disk.entries.clear();
                installed = Some(metadata.index);
            }
            if let Some(first) = persist.entries.first() {
                assert!(first.index <= self.disk.last_index() + 1, "a hole in the log");
                self.disk.entries.truncate((first.index - self.disk.boundary.index - 1) as usize);
                self.disk.entries.extend(persist.entries);
            }
            let (before, now) = (&self.disk.hard_state, persist.hard_state);
            assert!(now.term >= before.term, "terms go up");
            let revoted = now.term == before.term && before.vote != 0 && now.vote != before.vote;
            assert!(!revoted, "a second vote in term {}", now.term);
            assert!(now.commit <= self.disk.last_index(), "a commit beyond the log is written");
            let last = self.disk.last_index();
            self.written = if now.term == before.term { self.written.max(last) } else { last };
            self.disk.hard_state = now;
        }
        let Some(number) = number else { return };
        self.core.on_persisted(number);
        if let Some(index) = installed {
            self.state = self.disk.state.clone();
            self.applying.retain(|entry| entry.index > index);
            // Whoever sent it may have lied about what it replaces.
            self.committed.retain(|known, _| *known > index);
            self.core.on_applied(index);
        }
    }

    /// Applies the oldest committed entries; `None` for one that stops the node.
    fn apply(&mut self, count: usize) -> Option<()> {
        for _ in 0..count.min(self.applying.len()) {
            let entry = self.applying.pop_front()?;
            assert_eq!(entry.index, self.state.index + 1, "entries are applied in order");
            (self.state.index, self.state.term) = (entry.index, entry.term);
            if entry.entry_type == EntryType::EntryConfChange as i32 {
                let change = Change::decode(&entry.data).ok()?;
                if self.state.admits(&change) {
                    let applied = self.core.apply_conf_change(entry.index, &change).ok()?;
                    self.state.conf_state = applied.conf_state;
                }
            }
            self.core.on_applied(entry.index);
        }
        Some(())
    }

    fn compact(&mut self, index: u64) {
        let first = self.disk.boundary.index;
        // Only what is on disk is in the log that a start finds.
        if index <= first || index > self.disk.last_index() || !self.writing.is_empty() {
            return;
        }
        let dropped = self.disk.entries.drain(..(index - first) as usize).next_back();
        self.disk.boundary = Boundary { index, term: dropped.map_or(0, |entry| entry.term) };
        self.core.compact(index);
    }

    /// Forgets what was not written, and goes on from the rest.
    fn restart(&mut self) -> Option<()> {
        self.runs += 1;
        self.writing.clear();
        self.applying.clear();
        self.sent.clear();
        self.state = self.disk.state.clone();
        // A commit alone is not written. Who led has it, and would commit the same once more; who
        // only says that it leads may not.
        let certain = self.disk.hard_state.commit.max(self.state.index);
        self.committed.retain(|index, _| *index <= certain);
        self.written = self.disk.last_index();
        self.core = boot(&self.disk, self.runs)?;
        Some(())
    }
}

fn entry(index: u64, term: u64, data: &'static [u8]) -> Entry {
    Entry { index, term, data: Bytes::from_static(data), ..Entry::default() }
}

fn boot(disk: &Disk, seed: u64) -> Option<Core> {
    let boot = Boot {
        id: OWN,
        applied: disk.state.index,
        hard_state: disk.hard_state.clone(),
        conf_state: disk.state.conf_state.clone(),
        entries: disk.entries.clone(),
        boundary: disk.boundary,
        seed,
        election_tick: 10,
        heartbeat_tick: 1,
        no_pre_vote: false,
    };
    Some(Core::new(boot).expect("a disk that was written in order is consistent"))
}

fn change(input: &mut Input<'_>) -> Change {
    let kinds = [Kind::AddVoter, Kind::Remove, Kind::Update, Kind::AddLearner];
    let kind = kinds[usize::from(input.below(4))];
    let node = u64::from(input.below(6));
    Change { id: 7, kind, node, context: Bytes::new() }
}

/// What the addressee of a message would answer.
fn answer_to(sent: &Message, status: &super::Status, input: &mut Input<'_>) -> Message {
    let mut answer = Message { from: sent.to, to: OWN, term: sent.term, ..Message::default() };
    let kind = match sent.get_msg_type() {
        MessageType::MsgRequestPreVote => MessageType::MsgRequestPreVoteResponse,
        MessageType::MsgRequestVote => MessageType::MsgRequestVoteResponse,
        MessageType::MsgAppend => {
            answer.index = sent.entries.last().map_or(sent.index, |entry| entry.index);
            MessageType::MsgAppendResponse
        }
        MessageType::MsgSnapshot => {
            answer.index = sent.get_snapshot().get_metadata().index;
            MessageType::MsgAppendResponse
        }
        MessageType::MsgHeartbeat => {
            answer.context = sent.context.clone();
            answer.commit = sent.commit;
            MessageType::MsgHeartbeatResponse
        }
        MessageType::MsgReadIndex => {
            (answer.entries, answer.term) = (sent.entries.clone(), status.standing.term);
            answer.index = status.commit + u64::from(input.below(3));
            MessageType::MsgReadIndexResp
        }
        // Whatever else it said is said to it.
        kind => {
            answer = Message { from: sent.to, to: OWN, ..sent.clone() };
            kind
        }
    };
    answer.set_msg_type(kind);
    answer
}
