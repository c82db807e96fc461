//! The reading of history for watchers that are behind, shared by as many as start close together.
//!
//! The hub hands out a [`Job`]; whoever may read the store fills its [`Page`] and hands it back:
//!
//! ```text
//! let mut page = job.page();
//! for each row of history with revision >= job.from, ascending, up to the view's revision {
//!     match page.visit(revision, key, kind) {
//!         Visit::Skip => {}
//!         Visit::Stop => break,
//!         Visit::Take => page.take(change, lookup)?,
//!     }
//! }
//! hub.caught_up(page.finish(view_revision))      // or page.compacted(compact_revision)
//! ```
//!
//! Invariants:
//! - A page ends between revisions, never inside one, unless a row limit below one revision's rows
//!   forbids; then it ends after that revision.
//! - The view is at least as new as the hub when the job was made, so every page gets on.

use std::sync::Arc;

use crate::error::Fault;

use super::batch::Batch;
use super::change::{Change, Kind, Lookup};
use super::groups::Groups;
use super::limits::Limits;
use super::watcher::{Wants, Watcher};

/// A catch-up job, by number. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub(super) u64);

/// A request to read history.
#[derive(Debug)]
pub struct Job {
    pub id: JobId,
    /// The first revision wanted.
    pub from: i64,
    /// The hub's revision when the job was made. Reading on to the newest revision saves a turn.
    pub to: i64,
    pub(super) interest: Arc<Interest>,
    pub(super) revisions: usize,
    pub(super) bytes: usize,
    pub(super) rows: usize,
}

/// What the watchers of a job want.
#[derive(Debug, Default)]
pub(super) struct Interest {
    pub groups: Groups,
    /// By the job's own numbering: where each watcher starts, and its wants.
    members: Vec<(i64, Wants)>,
}

impl Interest {
    /// Adds a watcher; its number is how many came before it.
    pub fn add(&mut self, watcher: &Watcher) {
        let member = u32::try_from(self.members.len()).expect("a job has few watchers");
        self.groups.insert(&watcher.span, member);
        self.members.push((watcher.next, watcher.wants));
    }

    /// Whether anybody wants an event, and whether with its previous row.
    fn wanted(&self, revision: i64, key: &[u8], kind: Kind) -> (bool, bool) {
        let (mut wanted, mut previous) = (false, false);
        self.groups.matching(key, &mut |member| {
            let (next, wants) = &self.members[member as usize];
            let accepts = revision >= *next && wants.accepts(kind);
            wanted |= accepts;
            previous |= accepts && wants.previous;
        });
        (wanted, previous)
    }
}

impl Job {
    pub(super) fn new(id: JobId, from: i64, to: i64, interest: Arc<Interest>, l: &Limits) -> Self {
        assert!(from <= to, "a job reads what the hub has seen");
        let (revisions, bytes, rows) = (l.page_revisions, l.page_bytes, l.scan_rows);
        Self { id, from, to, interest, revisions, bytes, rows }
    }

    /// How many watchers share the job.
    pub fn watchers(&self) -> usize {
        self.interest.members.len()
    }

    /// An empty page to be filled.
    pub fn page(&self) -> PageWriter<'_> {
        PageWriter {
            job: self,
            batches: Vec::new(),
            revision: self.from,
            bytes: 0,
            rows: 0,
            stopped: false,
            previous: false,
        }
    }
}

/// What to do about a row of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Nobody wants it.
    Skip,
    /// Hand it over with [`PageWriter::take`].
    Take,
    /// The page is full; this row is not part of it.
    Stop,
}

/// A page being filled.
#[derive(Debug)]
pub struct PageWriter<'a> {
    job: &'a Job,
    batches: Vec<Batch>,
    /// The revision of the last row visited.
    revision: i64,
    bytes: usize,
    rows: usize,
    stopped: bool,
    /// Whether the row to be taken is wanted with its previous row.
    previous: bool,
}

impl PageWriter<'_> {
    /// Judges the next row of history.
    pub fn visit(&mut self, revision: i64, key: &[u8], kind: Kind) -> Visit {
        assert!(revision >= self.revision, "history is read in order");
        if revision > self.revision && self.is_full() {
            self.stopped = true;
            return Visit::Stop;
        }
        self.revision = revision;
        self.rows += 1;
        let (wanted, previous) = self.job.interest.wanted(revision, key, kind);
        self.previous = previous;
        if wanted { Visit::Take } else { Visit::Skip }
    }

    /// Takes the row last visited.
    pub fn take(&mut self, change: Change, lookup: &mut Lookup<'_>) -> Result<(), Fault> {
        let asked = self.previous && !change.created;
        let previous = if asked { lookup(&change)? } else { None };
        self.bytes += change.row.len() + previous.as_ref().map_or(0, |row| row.len());
        if self.batches.last().is_none_or(|batch| batch.revision != self.revision) {
            self.batches.push(Batch::empty(self.revision));
        }
        let batch = self.batches.last_mut().expect("one was just made sure of");
        batch.push(change, previous);
        Ok(())
    }

    /// The page, from a view whose newest revision is `view_revision`.
    pub fn finish(self, view_revision: i64) -> Page {
        let through = if self.stopped { self.revision } else { view_revision };
        Page { job: self.job.id, batches: self.batches, outcome: Outcome::Through(through) }
    }

    /// The answer when the job's first revision is before the store's compact revision.
    pub fn compacted(self, compact_revision: i64) -> Page {
        Page {
            job: self.job.id,
            batches: Vec::new(),
            outcome: Outcome::Compacted(compact_revision),
        }
    }

    fn is_full(&self) -> bool {
        self.batches.len() >= self.job.revisions
            || self.bytes >= self.job.bytes
            || self.rows >= self.job.rows
    }
}

/// What a job found.
#[derive(Debug)]
pub struct Page {
    pub(super) job: JobId,
    pub(super) batches: Vec<Batch>,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// Every wanted event up to this revision is in the page.
    Through(i64),
    Compacted(i64),
}
