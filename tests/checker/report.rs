//! What was found: violations, by whom, and how much was looked at.

use std::collections::BTreeMap;
use std::fmt;

/// How many violations are told: the first ones say it, those that follow from them do not.
const TOLD_MAX: usize = 20;

/// Who objects; for watches, by which of etcd's guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    Log,
    Writes,
    Reads,
    RealTime,
    Filter,
    Ordered,
    Unique,
    Atomic,
    Bookmarkable,
    Resumable,
    Reliable,
    PrevKv,
    IsCreate,
    Protocol,
    Leases,
}

impl fmt::Display for By {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Log => "log",
            Self::Writes => "writes",
            Self::Reads => "reads",
            Self::RealTime => "real time",
            Self::Filter => "filter",
            Self::Ordered => "ordered",
            Self::Unique => "unique",
            Self::Atomic => "atomic",
            Self::Bookmarkable => "bookmarkable",
            Self::Resumable => "resumable",
            Self::Reliable => "reliable",
            Self::PrevKv => "prev_kv",
            Self::IsCreate => "is_create",
            Self::Protocol => "watch protocol",
            Self::Leases => "leases",
        })
    }
}

/// What was found, and how much was looked at.
#[derive(Debug, Default)]
pub struct Report {
    pub violations: Vec<String>,
    /// How often each objected, told or not.
    pub by: BTreeMap<By, usize>,
    pub operations: usize,
    pub writes: usize,
    pub reads: usize,
    /// Writes without an answer, and how many of them happened.
    pub unknown: usize,
    pub unknown_happened: usize,
    pub revisions: usize,
    pub events_heard: usize,
    /// Events that came with the row before, and those that did not, for it was compacted.
    pub previous_heard: usize,
    pub previous_gone: usize,
    /// Responses that told progress.
    pub progress_heard: usize,
    /// Leases that were granted, and those of them that were seen to end.
    pub leases: usize,
    pub leases_ended: usize,
}

impl Report {
    pub fn add(&mut self, by: By, violation: impl fmt::Display) {
        *self.by.entry(by).or_default() += 1;
        if self.violations.len() < TOLD_MAX {
            self.violations.push(format!("{by}: {violation}"));
        }
    }
}
