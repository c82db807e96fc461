//! Who the members are, change by change, as the committed log has it; lists of them that clients
//! were shown are held against that.
//!
//! The judge keeps lists of its own: what a change comes to is decided here once more, by etcd's
//! rules in few lines.

use std::collections::{BTreeMap, BTreeSet};

use kvorum::members::Member;
use kvorum::pb::cluster_server::Cluster as _;
use kvorum::pb::{self, MemberListRequest, MemberUpdateRequest};
use kvorum::raft::Entry;
use kvorum::raft::conf::{Change, Context, Kind};
use kvorum::sim::{Mark, mark};
use tonic::Request as Call;

use super::clients::{Services, Shared};

/// What is answered if another member has one of the URLs.
const TAKEN: &str = "etcdserver: Peer URLs already exists";
/// How many members may learn at a time.
const LEARNERS_MAX: usize = 1;

/// What is known of a member beside its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    peer_urls: Vec<String>,
    is_learner: bool,
}

/// The members, by id.
pub type Roll = BTreeMap<u64, Known>;

/// A list that a client was shown.
#[derive(Debug)]
pub struct Told {
    /// How much of the log somebody had been shown the outcome of before it was asked for.
    pub floor: u64,
    pub roll: Roll,
    /// Whether it may come from a member that is not up to date.
    pub may_lag: bool,
}

/// The members as of each change.
#[derive(Debug, Default)]
pub struct Rolls {
    /// The index of the entry, and what the members were from there on.
    versions: Vec<(u64, Roll)>,
    removed: BTreeSet<u64>,
}

/// What is compared of members.
pub fn roll<'a>(members: impl IntoIterator<Item = &'a Member>) -> Roll {
    let known = |member: &Member| Known {
        peer_urls: member.peer_urls.clone(),
        is_learner: member.is_learner,
    };
    members.into_iter().map(|member| (member.id, known(member))).collect()
}

impl Rolls {
    /// The next committed change.
    pub fn fold(&mut self, entry: &Entry) -> Result<(), String> {
        let wrong = |what: &dyn std::fmt::Display| format!("entry {}: {what}", entry.index);
        let change = Change::decode(&entry.data).map_err(|error| wrong(&error))?;
        let context = match change.kind {
            Kind::Remove => Context::default(),
            _ => Context::decode(&change.context).map_err(|error| wrong(&error))?,
        };
        let mut roll = self.newest().clone();
        if self.make(&mut roll, &change, context) {
            self.versions.push((entry.index, roll));
        }
        Ok(())
    }

    /// Makes a change, if it may be made.
    fn make(&mut self, roll: &mut Roll, change: &Change, context: Context) -> bool {
        let id = change.node;
        if self.removed.contains(&id) {
            return false;
        }
        let peer_urls = context.peer_urls.unwrap_or_default();
        let others = roll.iter().filter(|(other, _)| **other != id);
        let is_taken =
            others.flat_map(|(_, known)| &known.peer_urls).any(|url| peer_urls.contains(url));
        let learners = roll.values().filter(|known| known.is_learner).count();
        let known = roll.get_mut(&id);
        match (change.kind, known) {
            (Kind::Remove, Some(_)) => {
                self.removed.insert(id);
                roll.remove(&id);
            }
            (Kind::Update, Some(known)) if !is_taken => known.peer_urls = peer_urls,
            (Kind::AddVoter, Some(known)) if context.is_promote && known.is_learner => {
                known.is_learner = false;
            }
            (Kind::AddVoter | Kind::AddLearner, None) if !context.is_promote && !is_taken => {
                let is_learner = context.is_learner;
                if is_learner && learners >= LEARNERS_MAX {
                    return false;
                }
                roll.insert(id, Known { peer_urls, is_learner });
            }
            _ => return false,
        }
        true
    }

    /// The members as of now.
    pub fn newest(&self) -> &Roll {
        static NOBODY: Roll = Roll::new();
        self.versions.last().map_or(&NOBODY, |(_, roll)| roll)
    }

    /// The member that has these URLs now.
    pub fn at(&self, peer_urls: &[String]) -> Option<u64> {
        let mut members = self.newest().iter();
        members.find(|(_, known)| known.peer_urls == peer_urls).map(|(id, _)| *id)
    }

    /// Holds a list against the log: it is the one of a moment between its call and its answer.
    pub fn check(&self, told: &Told) -> Result<(), String> {
        let Told { floor, roll, may_lag } = told;
        if *may_lag {
            // One that joins begins with a list it was told, and then goes through all that was.
            let was = |(id, known): (&u64, &Known)| {
                self.versions.iter().any(|(_, roll)| roll.get(id) == Some(known))
            };
            return match roll.iter().all(was) {
                true => Ok(()),
                false => Err(format!("members were never so: {roll:x?}")),
            };
        }
        let newer = self.versions.iter().skip(1).map(|(index, _)| *index).chain([u64::MAX]);
        let mut current = self.versions.iter().zip(newer).filter(|(_, until)| until > floor);
        if !current.any(|((_, version), _)| version == roll) {
            return Err(format!("members were not so after entry {floor}: {roll:x?}"));
        }
        Ok(())
    }
}

/// Asks who the members are.
pub async fn list(services: &Services, linearizable: bool, record: &Shared) {
    let (floor, request) = (record.borrow().rolls_floor, MemberListRequest { linearizable });
    let Ok(answer) = services.cluster.member_list(Call::new(request)).await else { return };
    let (members, may_lag) = (answer.into_inner().members, !linearizable);
    tell(services, Told { floor, roll: shown(members), may_lag }, record);
}

/// Asks for another address of a member.
pub async fn relocate(services: &Services, id: u64, url: String, record: &Shared) {
    let floor = record.borrow().rolls_floor;
    let request = MemberUpdateRequest { id, peer_ur_ls: vec![url] };
    match services.cluster.member_update(Call::new(request)).await {
        Ok(answer) => {
            mark(Mark::MemberMoved);
            let roll = shown(answer.into_inner().members);
            tell(services, Told { floor, roll, may_lag: false }, record);
        }
        Err(status) if status.message() == TAKEN => mark(Mark::MemberMoveRefused),
        Err(_) => {}
    }
}

/// Puts an answer on record.
fn tell(services: &Services, told: Told, record: &Shared) {
    let mut record = record.borrow_mut();
    if !told.may_lag {
        record.rolls_floor = record.rolls_floor.max(services.node.progress().applied);
        record.members = told.roll.keys().copied().collect();
    }
    record.rolls.push(told);
}

fn shown(members: Vec<pb::Member>) -> Roll {
    let known = |member: pb::Member| {
        let peer_urls = member.peer_ur_ls;
        (member.id, Known { peer_urls, is_learner: member.is_learner })
    };
    members.into_iter().map(known).collect()
}
