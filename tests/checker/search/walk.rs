//! The walk through all orders: what could be next, step by step, and back again.
//!
//! Calls and returns stand in one list by time. Who could be next stands before the first return
//! in it; whoever is done is taken out, with its return, and put back when one goes back.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::model::{Act, Mark, Model, Names, Said};
use super::{heard, shown};
use crate::checker::history::History;

/// One operation of the search.
struct Candidate {
    act: Act,
    /// What was answered, if the order must contain it: its revision, and the answer, unless that
    /// got lost and only the revision is known.
    must: Option<(i64, Option<Said>)>,
    call: usize,
    end: Option<usize>,
    /// Its place in the history.
    place: usize,
    /// The number of those that ask for the same.
    kind: usize,
}

/// A place in the list of calls and returns; the last one belongs to nobody.
#[derive(Clone, Copy)]
struct Link {
    before: usize,
    after: usize,
    /// Whose call it is; `None` for a return, where those who could be next end.
    call_of: Option<usize>,
}

/// How a walk ended.
pub enum Step {
    Done,
    NoWay,
    TooLong,
}

/// A search on its way.
pub struct Walk<'a> {
    history: &'a History,
    model: Model,
    candidates: Vec<Candidate>,
    /// Calls and returns that are not done yet, in the order of time.
    links: Vec<Link>,
    /// What was done, in order, and how to go back before it.
    done: Vec<(usize, Mark)>,
    /// What the order must still contain: how many, and how many of each revision.
    missing: usize,
    missing_at: HashMap<i64, usize>,
    met: HashSet<(u64, u64)>,
    pub steps: usize,
    steps_max: usize,
    /// The furthest it came, and what was in the way.
    pub furthest: (usize, String),
}

impl<'a> Walk<'a> {
    pub fn new(history: &'a History, places: &[usize], moment: u64, steps_max: usize) -> Self {
        let shown = shown(history, places, moment);
        let names = Names::of(places.iter().map(|place| &history.ops[*place]));
        let mut times = Vec::new();
        let mut candidates = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let op = &history.ops[*place];
            let heard = heard(op, moment);
            let must = match heard {
                Some(answer) => Some((answer.revision, Some(names.said(answer)))),
                None => shown.get(place).map(|revision| (*revision, None)),
            };
            // Who returns when another calls was under way with it: calls come first.
            times.push((op.call, false, number));
            if heard.is_some() {
                times.push((op.end.unwrap_or(u64::MAX), true, number));
            }
            let act = names.act(&op.request);
            candidates.push(Candidate { act, must, call: 0, end: None, place: *place, kind: 0 });
        }
        times.sort_unstable();
        let mut known = HashMap::new();
        let kinds = candidates.iter().map(|candidate| {
            let next = known.len();
            *known.entry(&candidate.act).or_insert(next)
        });
        let kinds: Vec<usize> = kinds.collect();
        candidates.iter_mut().zip(kinds).for_each(|(candidate, kind)| candidate.kind = kind);
        let mut links = Vec::with_capacity(times.len() + 1);
        for (at, (_, is_return, number)) in times.iter().enumerate() {
            let (before, after) = (at.checked_sub(1).unwrap_or(times.len()), at + 1);
            links.push(Link { before, after, call_of: (!is_return).then_some(*number) });
            match is_return {
                true => candidates[*number].end = Some(at),
                false => candidates[*number].call = at,
            }
        }
        links.push(Link { before: times.len().saturating_sub(1), after: 0, call_of: None });
        let mut missing_at = HashMap::new();
        for (revision, _) in candidates.iter().filter_map(|one| one.must.as_ref()) {
            *missing_at.entry(*revision).or_default() += 1;
        }
        Self {
            history,
            model: names.empty_store(),
            missing: missing_at.values().sum(),
            missing_at,
            candidates,
            links,
            done: Vec::new(),
            met: HashSet::new(),
            steps: 0,
            steps_max,
            furthest: (0, String::new()),
        }
    }

    fn first(&self) -> usize {
        self.links[self.links.len() - 1].after
    }

    /// Goes on from here in every way that there is, and stays where it comes through.
    pub fn go_on(&mut self) -> Step {
        let from = self.done.len();
        self.take_what_fits();
        if self.missing == 0 {
            return Step::Done;
        }
        self.remember_how_far();
        if self.met.insert(self.fingerprint()) {
            let (mut at, mut tried) = (self.first(), HashSet::new());
            while let Some(number) = self.links[at].call_of {
                if self.steps >= self.steps_max {
                    return Step::TooLong;
                }
                let Candidate { must, kind, .. } = &self.candidates[number];
                // Of several that are alike the first to be called serves as well as any.
                if must.is_none() && tried.insert(*kind) && self.take(number) {
                    match self.go_on() {
                        Step::NoWay => self.undo(1),
                        end => return end,
                    }
                }
                at = self.links[at].after;
            }
        }
        self.undo(self.done.len() - from);
        Step::NoWay
    }

    /// Takes all that fits and is never regretted.
    fn take_what_fits(&mut self) {
        let mut at = self.first();
        while let Some(number) = self.links[at].call_of {
            let revision = self.model.revision;
            let can_be = |(at, _): &(i64, _)| *at == revision || *at == revision + 1;
            let fits = self.candidates[number].must.as_ref().is_some_and(can_be);
            // What did not fit before may do so now: a revision may be full.
            at = if fits && self.take(number) { self.first() } else { self.links[at].after };
        }
    }

    /// Takes an operation as the next one, unless it cannot be.
    fn take(&mut self, number: usize) -> bool {
        let (before, revision) = (self.model.mark(), self.model.revision);
        let candidate = &self.candidates[number];
        let is_left = self.missing_at.get(&revision).is_some_and(|count| *count > 0);
        if candidate.must.is_none() && is_left {
            return false;
        }
        self.steps += 1;
        let said = self.model.run(&candidate.act);
        let moved = self.model.revision > revision;
        let fits = match &candidate.must {
            Some((at, heard)) => {
                *at == self.model.revision && heard.as_ref().map_or(moved, |heard| *heard == said)
            }
            // One that does nothing leads nowhere.
            None => moved,
        };
        if !fits || moved && is_left {
            self.model.back(before);
            return false;
        }
        self.count(number, -1);
        let Candidate { call, end, .. } = self.candidates[number];
        for at in end.into_iter().chain([call]) {
            let Link { before, after, .. } = self.links[at];
            self.links[before].after = after;
            self.links[after].before = before;
        }
        self.done.push((number, before));
        true
    }

    fn undo(&mut self, count: usize) {
        for _ in 0..count {
            let Some((number, before)) = self.done.pop() else { return };
            self.model.back(before);
            self.count(number, 1);
            let Candidate { call, end, .. } = self.candidates[number];
            for at in [call].into_iter().chain(end) {
                let Link { before, after, .. } = self.links[at];
                self.links[before].after = at;
                self.links[after].before = at;
            }
        }
    }

    fn count(&mut self, number: usize, by: isize) {
        let Some((revision, _)) = &self.candidates[number].must else { return };
        self.missing = self.missing.saturating_add_signed(by);
        let at = self.missing_at.entry(*revision).or_default();
        *at = at.saturating_add_signed(by);
    }

    /// Which operations were done, and what that came to.
    fn fingerprint(&self) -> (u64, u64) {
        let mut done = vec![0_u64; self.candidates.len().div_ceil(64)];
        for (number, _) in &self.done {
            done[number / 64] |= 1 << (number % 64);
        }
        let hash = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            (seed, &done, &self.model).hash(&mut hasher);
            hasher.finish()
        };
        (hash(1), hash(2))
    }

    fn remember_how_far(&mut self) {
        if self.done.len() <= self.furthest.0 && !self.furthest.1.is_empty() {
            return;
        }
        let mut waiting = Vec::new();
        let mut at = self.first();
        while let Some(number) = self.links[at].call_of {
            let candidate = &self.candidates[number];
            let is_due = |(at, _): &(i64, _)| *at <= self.model.revision + 1;
            if candidate.must.as_ref().is_some_and(is_due) && waiting.len() < 3 {
                waiting.push(self.history.ops[candidate.place].to_string());
            }
            at = self.links[at].after;
        }
        let (done, revision) = (self.done.len(), self.model.revision);
        let text = format!("after {done} operations, at {revision}, none fits: {waiting:#?}");
        self.furthest = (done, text);
    }
}
