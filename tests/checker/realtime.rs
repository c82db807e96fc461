//! Real time: who was shown which revision when, and who must not be behind that.

use super::history::{History, Op};
use super::report::{By, Report};

pub struct RealTime {
    /// What was shown, by time: revisions that existed by then.
    shown: Vec<(u64, i64)>,
    /// Of each revision, the first moment at which it or a later one was shown.
    first: Vec<u64>,
}

impl RealTime {
    pub fn new(history: &History, last: i64) -> Self {
        let answers = history.ops.iter().filter_map(|op| {
            let answer = op.answer()?;
            Some((op.end?, answer.revision))
        });
        let heard = history.watches.iter().flat_map(|watch| &watch.heard).map(|heard| {
            (heard.at, heard.events.last().map_or(heard.revision, |event| event.revision()))
        });
        let mut shown: Vec<(u64, i64)> = answers.chain(heard).collect();
        shown.sort_unstable();
        let mut first = vec![u64::MAX; usize::try_from(last + 1).unwrap_or(0)];
        for &(time, revision) in &shown {
            if let Some(first) = usize::try_from(revision).ok().and_then(|at| first.get_mut(at)) {
                *first = time.min(*first);
            }
        }
        for at in (1..first.len()).rev() {
            first[at - 1] = first[at - 1].min(first[at]);
        }
        Self { shown, first }
    }

    /// The first moment at which somebody was shown this revision or a later one.
    pub fn shown(&self, revision: i64) -> u64 {
        usize::try_from(revision).ok().and_then(|at| self.first.get(at)).map_or(u64::MAX, |t| *t)
    }

    /// Holds calls against what had been shown before them, and what was shown against the calls
    /// of those who made it. `owners` are the makers of the revisions, from 1 on.
    pub fn check(&self, history: &History, owners: &[Option<usize>], report: &mut Report) {
        for (revision, number) in (1..).zip(owners) {
            let Some(number) = number else { continue };
            let (op, shown) = (&history.ops[*number], self.shown(revision));
            if op.call > shown {
                let what = format!("revision {revision} was shown at {shown}, before {op}");
                report.add(By::RealTime, what);
            }
        }
        let mut calls: Vec<&Op> = history.ops.iter().filter(|op| op.answer().is_some()).collect();
        calls.retain(|op| !op.request.may_lag());
        calls.sort_unstable_by_key(|op| op.call);
        let (mut next, mut newest) = (0, 0);
        for op in calls {
            while let Some(&(time, revision)) = self.shown.get(next)
                && time < op.call
            {
                newest = newest.max(revision);
                next += 1;
            }
            let revision = op.answer().map_or(0, |answer| answer.revision);
            let owner = usize::try_from(revision - 1).ok().and_then(|at| owners.get(at).copied());
            let owner = owner.flatten().map(|owner| &history.ops[owner]);
            let made_it = owner.is_some_and(|owner| std::ptr::eq(owner, op));
            if revision < newest || revision == newest && made_it {
                let what = format!("revision {newest} had been shown before the call of {op}");
                report.add(By::RealTime, what);
            }
        }
    }
}
