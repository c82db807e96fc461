//! Readers that wait until this member's state shows everything acknowledged before they came.
//!
//! ```text
//! come ─▶ next ─▶ one question to the leader ─▶ an index ─▶ applied ─▶ look
//! ```
//!
//! One question is under way at a time; whoever comes meanwhile shares the next one. Where many
//! come, the next one also waits a little for company: it costs all members the same however many
//! share it. A question may be lost without a trace, so it is put again after a while, as a new
//! one. How long a reader is willing to wait is measured where it waits.
//!
//! A *round* is as long as somebody waits for an answer; one that takes as long as a reader waits
//! is *slow*, and the next begins.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::arrivals::{Arrivals, Reader};
use super::clock;
use crate::marks::{Mark, mark};
use crate::raft::ReadId;

/// When a question without an answer is put again.
const RETRY: Duration = Duration::from_millis(500);
/// A question that so many shared was a busy member's: there the next one waits for company, as
/// a question costs all members the same however many share it.
const COMPANY: usize = 32;
/// How long after the one before.
const SPACING: Duration = Duration::from_micros(400);

/// Readers, by how far they have come.
pub(super) struct Reads {
    arrivals: Arrivals,
    /// How long readers wait.
    patience: Duration,
    /// Since when somebody waits for an answer.
    round: Option<Instant>,
    /// Slow rounds, and questions that were lost, since these numbers were last taken.
    slow: u64,
    failed: u64,
    next: Vec<Reader>,
    asked: Option<Asked>,
    /// Until when the next question waits for company.
    waits_until: Option<Instant>,
    /// Who may look when an index is applied, ascending.
    answered: VecDeque<(u64, Vec<Reader>)>,
}

struct Asked {
    id: ReadId,
    since: Instant,
    readers: Vec<Reader>,
}

impl Reads {
    pub fn new(arrivals: Arrivals, patience: Duration) -> Self {
        Self {
            arrivals,
            patience,
            round: None,
            slow: 0,
            failed: 0,
            next: Vec::new(),
            asked: None,
            waits_until: None,
            answered: VecDeque::new(),
        }
    }

    /// How many rounds were slow, and how many questions lost, since the last call.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.slow), std::mem::take(&mut self.failed))
    }

    /// Whether a question should be put now.
    pub fn wants_to_ask(&mut self, now: Instant) -> bool {
        let is_late = |asked: &Asked| now.saturating_duration_since(asked.since) >= RETRY;
        if self.asked.as_ref().is_some_and(is_late) {
            mark(Mark::ReadAskedAgain);
            self.lose_asked();
        }
        self.waits_until = self.waits_until.filter(|until| now < *until);
        let may_ask = self.asked.is_none() && self.waits_until.is_none();
        if may_ask {
            // Whoever gives up has waited at least as long as the round it is in.
            let since = self.arrivals.take_into(&mut self.next);
            self.round = self.round.or(since);
        }
        let waited = self.waits();
        if may_ask {
            self.next.retain(|reader| !reader.is_closed());
        }
        // The time is that after the last one gave up: its round was slow, and is the last.
        self.look(waited, now.max(clock::now()));
        may_ask && !self.next.is_empty()
    }

    /// When a question that waits for company is put, should anybody have one.
    pub fn due(&self) -> Option<Instant> {
        self.waits_until.filter(|_| self.asked.is_none())
    }

    /// How many readers wait, whatever for.
    #[cfg(debug_assertions)]
    pub fn waiting(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |asked| asked.readers.len());
        let answered = self.answered.iter().map(|(_, readers)| readers.len());
        self.next.len() + asked + answered.sum::<usize>()
    }

    /// Whether anybody waits for an answer.
    fn waits(&self) -> bool {
        !self.next.is_empty() || self.asked.is_some()
    }

    /// Notes how long a round has taken in which somebody waited until now.
    fn look(&mut self, waited: bool, now: Instant) {
        let began = *self.round.get_or_insert(now);
        if waited && now.saturating_duration_since(began) >= self.patience {
            self.slow += 1;
            self.round = Some(now);
        }
        if !self.waits() {
            self.round = None;
        }
    }

    /// Notes that the question was put for everybody who has come.
    pub fn asked(&mut self, id: ReadId, now: Instant) {
        let readers = std::mem::take(&mut self.next);
        self.waits_until = (readers.len() >= COMPANY).then(|| now + SPACING);
        self.asked = Some(Asked { id, since: now, readers });
    }

    /// Notes an answer; one to a question that was put again is of no use.
    pub fn answer(&mut self, id: ReadId, index: u64) {
        if let Some(asked) = self.asked.take_if(|asked| asked.id == id) {
            self.round = None;
            let at = self.answered.back().map_or(index, |(last, _)| index.max(*last));
            self.answered.push_back((at, asked.readers));
        }
    }

    /// Notes that a question will not be answered.
    pub fn lost(&mut self, id: ReadId) {
        if self.asked.as_ref().is_some_and(|asked| asked.id == id) {
            mark(Mark::LeaderChangedUnderReaders);
            self.failed += 1;
            self.lose_asked();
        }
    }

    fn lose_asked(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.next.extend(asked.readers);
        }
    }

    /// Lets those look whose index is applied.
    pub fn applied(&mut self, applied: u64) {
        while self.answered.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, readers) = self.answered.pop_front().expect("the front was just seen");
            for reader in readers {
                // A reader that is gone has lost its patience.
                let _ = reader.send(Ok(()));
            }
        }
    }

    /// Lets everybody look.
    pub fn open(&mut self) {
        self.arrivals.take_into(&mut self.next);
        self.round = None;
        let asked = self.asked.take().map(|asked| asked.readers);
        let answered = self.answered.drain(..).flat_map(|(_, readers)| readers);
        for reader in self.next.drain(..).chain(asked.into_iter().flatten()).chain(answered) {
            let _ = reader.send(Ok(()));
        }
    }

    /// Whether somebody waits for an index to be applied.
    pub fn await_applied(&self) -> bool {
        !self.answered.is_empty()
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        self.arrivals.close();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_round_is_slow_once_however_many_wait() {
        let patience = Duration::from_secs(7);
        let arrivals = Arrivals::default();
        let mut reads = Reads::new(arrivals.clone(), patience);
        let (readers, mut answers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        readers.into_iter().for_each(|reader| drop(arrivals.come(reader)));
        let began = Instant::now();
        assert!(reads.wants_to_ask(began));
        reads.look(true, began + patience / 2);
        assert_eq!(reads.take_counts(), (0, 0));
        reads.look(true, began + patience * 5 / 4);
        reads.look(true, began + patience * 3 / 2);
        assert_eq!(reads.take_counts(), (1, 0));

        // A question that is lost has failed, and the round goes on.
        assert!(reads.wants_to_ask(began + patience * 3 / 2));
        let (first, second) = (ReadId(1), ReadId(2));
        reads.asked(first, began);
        reads.lost(second);
        assert_eq!(reads.take_counts(), (0, 0));
        reads.lost(first);
        reads.asked(second, began);
        assert_eq!(reads.take_counts(), (0, 1));
        reads.look(true, began + patience * 5 / 2);
        assert_eq!(reads.take_counts(), (1, 0));

        // Who is answered waits no more.
        reads.answer(second, 9);
        reads.applied(9);
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_ok()));
        reads.look(true, began + patience * 9);
        assert_eq!(reads.take_counts(), (0, 0));
    }
}
