//! A member is replaced: removed, and another added, started and promoted in its seat. Or one is
//! added in a seat of its own, once in a world.

use kvorum::members::{Change, Member, member_id};
use kvorum::node::Handle;
use kvorum::sim::{Mark, mark};

use super::seat::{Seat, url};
use super::world::{Happening, World};

/// How often to look how far it has come.
const LOOK_US: u64 = 300_000;

/// How far a replacement has come.
#[derive(Clone, Debug)]
pub struct Replacing {
    pub seat: usize,
    phase: Phase,
    as_learner: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Removing,
    Adding,
    Promoting,
}

impl World {
    /// Begins to replace the member of a seat, unless another one is being replaced.
    pub fn replace(&mut self, seat: usize) {
        if !self.may_replace() {
            return;
        }
        let as_learner = self.seed.coin();
        self.replacing = Some(Replacing { seat, phase: Phase::Removing, as_learner });
        self.replaced_us = self.now_us.max(1);
        self.plan(self.now_us, Happening::Replace);
    }

    /// Begins to add a member, unless members change, or one was added before.
    pub fn grow(&mut self) {
        let number = self.seats.len();
        if number > self.profile.members || self.replacing.is_some() || self.rot.is_some() {
            return;
        }
        let disk_seed = self.seed.next();
        let mut seat = Seat::new(number, &self.profile, disk_seed);
        (seat.id, seat.is_empty) = (self.new_id(number), true);
        self.seats.push(seat);
        let as_learner = self.seed.coin();
        self.replacing = Some(Replacing { seat: number, phase: Phase::Adding, as_learner });
        self.replaced_us = self.now_us.max(1);
        self.plan(self.now_us, Happening::Replace);
    }

    /// The id of a member that is added now.
    fn new_id(&self, seat: usize) -> u64 {
        member_id(&[url(seat)], &self.now_us.to_string())
    }

    /// Looks how far a replacement has come, and has the next step done.
    pub fn go_on_replacing(&mut self) -> Result<(), String> {
        let Some(replacing) = self.replacing.clone() else { return Ok(()) };
        self.plan(self.now_us + LOOK_US, Happening::Replace);
        let Replacing { seat, phase, as_learner } = replacing;
        let id = self.seats[seat].id;
        let known = self.newest_members(seat);
        match phase {
            Phase::Removing if known.as_ref().is_some_and(|node| node.members().is_removed(id)) => {
                self.vacate(seat);
                self.set_phase(Phase::Adding);
            }
            Phase::Removing => self.change(seat, Change::Remove(id)),
            Phase::Adding => match known.filter(|node| node.members().get(id).is_some()) {
                Some(node) => {
                    let members = (*node.members()).clone();
                    self.seats[seat].occupy(node.cluster_id(), members);
                    self.note(Some(seat), "joins", format!("{id:x}"));
                    self.set_phase(Phase::Promoting);
                    self.start(seat)?;
                }
                None => {
                    let (is_learner, name) = (as_learner, String::new());
                    let peer_urls = vec![url(seat)];
                    if let Some(added) = self.witness.rolls.at(&peer_urls) {
                        // Whoever was asked before has had it added after all.
                        self.seats[seat].id = added;
                        return Ok(());
                    }
                    let added = Member { id, peer_urls, is_learner, name, ..Member::default() };
                    self.change(seat, Change::Add(added));
                }
            },
            Phase::Promoting => {
                let learns = known.is_none_or(|node| {
                    node.members().get(id).is_none_or(|member| member.is_learner)
                });
                if learns {
                    self.change(seat, Change::Promote(id));
                } else {
                    self.note(Some(seat), "replaced", format!("{id:x}"));
                    if as_learner {
                        mark(Mark::LearnerPromoted);
                    }
                    if seat == self.profile.members {
                        mark(Mark::ClusterGrown);
                    }
                    (self.replacing, self.replaced_us) = (None, self.now_us);
                }
            }
        }
        Ok(())
    }

    /// Goes on with a member that the leader has removed and added as a learner.
    pub fn go_on_adding(&mut self, seat: usize) {
        self.replacing = Some(Replacing { seat, phase: Phase::Adding, as_learner: true });
        self.plan(self.now_us, Happening::Replace);
    }

    /// Goes on with a member that is out, or shall be.
    pub fn take_out(&mut self, seat: usize) {
        self.replacing = Some(Replacing { seat, phase: Phase::Removing, as_learner: true });
        self.plan(self.now_us, Happening::Replace);
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(replacing) = &mut self.replacing {
            replacing.phase = phase;
        }
    }

    /// The member that has applied most, beside the one in question.
    fn newest_members(&self, but: usize) -> Option<Handle> {
        let others = self.seats.iter().filter(|seat| seat.number != but);
        let nodes = others.filter_map(|seat| seat.process.as_ref());
        let nodes = nodes.map(|process| process.services.node.clone());
        nodes.max_by_key(|node| node.progress().applied)
    }

    /// Has one of the other members propose a change. Whether it came to be is seen later.
    fn change(&mut self, but: usize, change: Change) {
        let Some(seat) = self.any_process().filter(|seat| *seat != but) else { return };
        let Some(process) = &self.seats[seat].process else { return };
        let life = process.life;
        let work = propose(process.services.node.clone(), change);
        self.tasks.spawn(Some(life), work);
    }

    pub fn vacate(&mut self, seat: usize) {
        self.note(Some(seat), "removed", format!("{:x}", self.seats[seat].id));
        if let Some(process) = &self.seats[seat].process {
            self.tasks.drop_of(process.life);
        }
        let (old, disk_seed) = (self.seats[seat].id, self.seed.next());
        self.seats[seat].vacate(disk_seed);
        self.seats[seat].id = self.new_id(seat);
        self.wire.lock().since.retain(|(from, to), _| *from != old && *to != old);
    }
}

async fn propose(node: Handle, change: Change) {
    // Refused or timed out, it is tried again.
    let _ = node.reconfigure(change).await;
}
