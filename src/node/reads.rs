//! Readers that wait until this member's state shows everything acknowledged before they came.
//!
//! ```text
//! come ─▶ next ─▶ one question to the leader ─▶ an index ─▶ applied ─▶ look
//! ```
//!
//! One question is under way at a time; whoever comes meanwhile shares the next one. A question
//! may be lost without a trace, so it is put again after a while, as a new one. How long a reader
//! is willing to wait is measured where it waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Error;
use crate::raft::ReadId;

/// When a question without an answer is put again.
const RETRY: Duration = Duration::from_millis(500);

pub(super) type Reader = oneshot::Sender<Result<(), Error>>;

/// Readers, by how far they have come.
#[derive(Default)]
pub(super) struct Reads {
    next: Vec<Reader>,
    asked: Option<Asked>,
    /// Who may look when an index is applied, ascending.
    answered: VecDeque<(u64, Vec<Reader>)>,
}

struct Asked {
    id: ReadId,
    since: Instant,
    readers: Vec<Reader>,
}

impl Reads {
    pub fn come(&mut self, reader: Reader) {
        self.next.push(reader);
    }

    /// Whether a question should be put now.
    pub fn wants_to_ask(&mut self, now: Instant) -> bool {
        let is_late = |asked: &Asked| now.saturating_duration_since(asked.since) >= RETRY;
        if self.asked.as_ref().is_some_and(is_late) {
            self.lose_asked();
        }
        if self.asked.is_none() {
            self.next.retain(|reader| !reader.is_closed());
        }
        self.asked.is_none() && !self.next.is_empty()
    }

    /// Notes that the question was put for everybody who has come.
    pub fn asked(&mut self, id: ReadId, now: Instant) {
        let readers = std::mem::take(&mut self.next);
        self.asked = Some(Asked { id, since: now, readers });
    }

    /// Notes an answer; one to a question that was put again is of no use.
    pub fn answer(&mut self, id: ReadId, index: u64) {
        if let Some(asked) = self.asked.take_if(|asked| asked.id == id) {
            let at = self.answered.back().map_or(index, |(last, _)| index.max(*last));
            self.answered.push_back((at, asked.readers));
        }
    }

    /// Notes that a question will not be answered.
    pub fn lost(&mut self, id: ReadId) {
        if self.asked.as_ref().is_some_and(|asked| asked.id == id) {
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
