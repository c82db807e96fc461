//! A second opinion: a search for an order in which one store could have done it all.
//!
//! Wing and Gong's search, with Lowe's memory of where it has been: of the operations under way at
//! a moment one was the next, so they are tried one after the other on a model of the store. What
//! the model says has to be what the client heard, revision and all; otherwise another is tried,
//! or one goes back. If no order is left, there is none.
//!
//! The log is not looked at, nor is anything shared with what judges by it: not even the model. So
//! a defect of that judge, or a log that is wrong in the same way as the answers, shows here.
//!
//! - An operation without an answer may have been done at any time after its call, or never: it is
//!   taken if nothing else leads on. One that was refused is left out, as are serializable reads,
//!   which may lag.
//! - *What is never regretted* is taken without an alternative: an answer that fits and changes
//!   nothing can come now if it can come at all; one that fits and makes the next revision must,
//!   since that revision will not come again.
//! - *What can be known* of a write without an answer is: values are unique, so a row that anybody
//!   was shown, watches too, tells that its write was done, and at which revision.
//! - *What makes no difference* is tried once: of lost writes that ask for the same, and whose
//!   values nobody saw, the first.
//! - *What cannot end well* is left: a revision is passed while an answer at it is still to come.
//! - States that were met before with the same operations done are not tried again. They are
//!   remembered by 128 bits of hash.
//!
//! So the search only branches where somebody unheard of made a revision. It still may take longer
//! than anybody waits, and then it says [`Verdict::Inconclusive`], which is neither yes nor no.
//!
//! A long history is judged up to a moment: whether one is linearizable shows in its beginnings.
//! What is answered later than that moment is without an answer then.

mod model;
mod walk;

use std::collections::HashMap;
use std::fmt;

use super::history::{Answer, Event, History, Op, Outcome, Request, Row};
use model::rows_of;
use walk::{Step, Walk};

/// How much is searched.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a longer history, this many operations from its beginning.
    pub operations: usize,
    /// Requests executed on the model.
    pub steps: usize,
}

/// A few seconds at the most.
pub const LIMITS: Limits = Limits { operations: 2_000, steps: 200_000 };

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Linearizable,
    /// There is no order; how far one comes.
    Impossible(String),
    /// The search was longer than it was allowed to be.
    Inconclusive,
}

/// What the search says, of how many operations, after how many steps.
#[derive(Debug)]
pub struct Opinion {
    pub verdict: Verdict,
    pub operations: usize,
    pub steps: usize,
}

impl fmt::Display for Opinion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Linearizable => "an order",
            Verdict::Impossible(_) => "no order",
            Verdict::Inconclusive => "inconclusive",
        };
        write!(out, "{verdict} of the first {} operations", self.operations)
    }
}

/// Searches for an order.
pub fn search(history: &History, limits: Limits) -> Opinion {
    let mut places: Vec<usize> = (0..history.ops.len()).collect();
    places.retain(|place| {
        let op = &history.ops[*place];
        let is_heard = op.answer().is_some();
        let may_have_been = matches!(op.outcome, Outcome::Unknown) && op.request.may_write();
        !op.request.may_lag() && (is_heard || may_have_been)
    });
    places.sort_by_key(|place| history.ops[*place].call);
    let moment = places.get(limits.operations).map_or(u64::MAX, |at| history.ops[*at].call);
    places.truncate(limits.operations);
    let operations = places.len();
    let mut walk = Walk::new(history, &places, moment, limits.steps);
    let verdict = match walk.go_on() {
        Step::Done => Verdict::Linearizable,
        Step::NoWay => Verdict::Impossible(walk.furthest.1),
        Step::TooLong => Verdict::Inconclusive,
    };
    Opinion { verdict, operations, steps: walk.steps }
}

/// The answer of an operation, if it was there before a moment.
fn heard(op: &Op, moment: u64) -> Option<&Answer> {
    op.answer().filter(|_| op.end.is_some_and(|end| end < moment))
}

/// Which revisions writes made, by place, as far as rows tell that were shown before a moment.
fn shown(history: &History, places: &[usize], moment: u64) -> HashMap<usize, i64> {
    let mut writers: HashMap<&str, Option<usize>> = HashMap::new();
    for place in places {
        let mut changes = Vec::new();
        history.ops[*place].request.changes(&mut changes);
        for change in changes {
            let Request::Put { value, .. } = change else { continue };
            let writer = writers.entry(value).or_insert(Some(*place));
            if *writer != Some(*place) {
                // Whoever wrote it cannot be told.
                *writer = None;
            }
        }
    }
    let mut shown = HashMap::new();
    let mut show = |row: &Row| {
        if let Some(Some(writer)) = writers.get(row.value.as_str()) {
            shown.insert(*writer, row.modified);
        }
    };
    let answers = history.ops.iter().filter_map(|op| heard(op, moment));
    answers.for_each(|answer| rows_of(&answer.reply, &mut show));
    let told = history.watches.iter().flat_map(|watch| &watch.heard);
    for event in told.filter(|told| told.at < moment).flat_map(|told| &told.events) {
        if let Event::Put(row) = event {
            show(row);
        }
    }
    shown
}
