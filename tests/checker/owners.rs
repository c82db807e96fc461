//! Who made which revision: acknowledged writes say so, others are known by what they wrote.

use std::collections::HashMap;

use super::history::{Event, History, Outcome, Request};
use super::replay::{FIRST, Store};
use super::report::{By, Report};

/// Writes by what they would leave in the log.
pub struct Owners<'a> {
    /// The writer of each value.
    by_value: HashMap<&'a str, usize>,
    /// Writes without an answer that delete this very key, and those that delete ranges.
    deleting: HashMap<&'a str, Vec<usize>>,
    deleting_ranges: Vec<usize>,
    /// Those without an answer that are known to have happened.
    happened: Vec<bool>,
}

impl<'a> Owners<'a> {
    pub fn new(history: &'a History, report: &mut Report) -> Self {
        let happened = vec![false; history.ops.len()];
        let (by_value, deleting, deleting_ranges) = Default::default();
        let mut owners = Self { by_value, deleting, deleting_ranges, happened };
        for (number, op) in history.ops.iter().enumerate() {
            let mut changes = Vec::new();
            op.request.changes(&mut changes);
            for change in changes {
                owners.enter(number, change, &op.outcome, report);
            }
        }
        // A guard fits one state only; what fits many can wait. Then the earlier call, which is
        // held against less.
        let order = |number: &usize| {
            let op = &history.ops[*number];
            (!matches!(op.request, Request::Txn(_)), op.call)
        };
        owners.deleting.values_mut().for_each(|numbers| numbers.sort_by_key(order));
        owners.deleting_ranges.sort_by_key(order);
        owners
    }

    fn enter(
        &mut self,
        number: usize,
        change: &'a Request,
        outcome: &Outcome,
        report: &mut Report,
    ) {
        match change {
            Request::Put { value, .. } => {
                let known = self.by_value.insert(value, number);
                if known.is_some_and(|known| known != number) {
                    let what = format!("two operations write {value:?}: that cannot be judged");
                    report.add(By::Writes, what);
                }
            }
            Request::Delete(span) if matches!(outcome, Outcome::Unknown) => match span.end {
                None => self.deleting.entry(&span.key).or_default().push(number),
                Some(_) => self.deleting_ranges.push(number),
            },
            Request::Delete(_) | Request::Range(_) | Request::Txn(_) => {}
        }
    }

    /// The write without an answer that made these events, before `shown`, on this state.
    pub fn find(
        &mut self,
        history: &History,
        before: &Store,
        events: &[Event],
        shown: u64,
    ) -> Result<usize, String> {
        let revision = events[0].revision();
        let mut value = events.iter().filter_map(|event| match event {
            Event::Put(row) => Some(row.value.as_str()),
            Event::Delete { .. } => None,
        });
        let candidates = match value.next() {
            Some(value) => self.by_value.get(value).copied().into_iter().collect(),
            None => {
                let mut numbers = self.deleting.get(events[0].key()).cloned().unwrap_or_default();
                numbers.extend(&self.deleting_ranges);
                numbers
            }
        };
        let mut reason = format!("nobody sent {events:?}");
        for number in candidates {
            let op = &history.ops[number];
            let fits = op.happened_at(before, revision, events);
            reason = match &op.outcome {
                _ if self.happened[number] => format!("it happened before: {op}"),
                Outcome::Answered(answer) => {
                    format!("acknowledged at {} or without effect: {op}", answer.revision)
                }
                Outcome::Refused => format!("refused: {op}"),
                Outcome::Unknown if !fits => format!("{op} would not have made {events:?}"),
                Outcome::Unknown if op.call > shown => {
                    format!("shown to somebody at {shown}, before the call of {op}")
                }
                Outcome::Unknown => {
                    self.happened[number] = true;
                    return Ok(number);
                }
            };
        }
        Err(reason)
    }
}

/// The answered operations, revision by revision.
pub struct Answered {
    /// Newest revision first: what is due next is at the end.
    waiting: Vec<(i64, usize)>,
}

/// Sorts what was answered by the revision of the answer; one that the log does not have is told.
pub fn by_revision(history: &History, last: i64, report: &mut Report) -> Answered {
    let mut waiting = Vec::new();
    for (number, op) in history.ops.iter().enumerate() {
        let Some(answer) = op.answer() else { continue };
        if (FIRST - 1..=last).contains(&answer.revision) {
            waiting.push((answer.revision, number));
        } else {
            report.add(By::Log, format!("{op}: the log ends at {last}"));
        }
    }
    waiting.sort_unstable_by(|a, b| b.cmp(a));
    Answered { waiting }
}

impl Answered {
    /// What was answered at a revision; asked for in ascending order.
    pub fn take(&mut self, revision: i64) -> Vec<usize> {
        let mut numbers = Vec::new();
        while let Some(&(at, number)) = self.waiting.last()
            && at == revision
        {
            numbers.push(number);
            self.waiting.pop();
        }
        numbers
    }
}
