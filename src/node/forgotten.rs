//! A member that forgot: its log or its vote is lost, or older than what it promised with them.
//!
//! Under its old id it could vote twice in a term, or let a log win that lacks what it helped to
//! acknowledge, and two histories would become possible. So it must not begin.
//!
//! ```text
//! the log is not there, or damaged ─────────────┐
//! the log ends before the state does ───────────┤
//! another member heard of more than the log has ┼─▶ noted, refused, for good
//! the leader counts on entries that are missing ┘
//! ```
//!
//! - Of an older copy that is whole in itself only others can tell. Every member remembers what it
//!   heard the others promise since it began, and is asked for that before a member begins.
//! - A promise is of a term: in the same term a log only grows, and a later one may cut it.
//! - A member whose others cannot be asked begins: nobody could tell it anything. If its leader
//!   finds entries missing after that, it stops, and the note keeps it from beginning again.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use parking_lot::Mutex;

use crate::error::Fault;
use crate::raft::{Message, MessageType};
use crate::storage::wal;

/// What a member was heard to promise, by term first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Promise {
    /// That it will not vote, nor acknowledge anything, in an earlier term.
    pub term: u64,
    /// That, as long as this term lasts, its log reaches up to here.
    pub index: u64,
}

impl Promise {
    /// What a message promises. Only those count that leave when what they say is on disk.
    fn of(message: &Message) -> Option<Self> {
        let index = match message.msg_type() {
            MessageType::MsgAppendResponse if !message.reject => message.index,
            MessageType::MsgRequestVote => 0,
            MessageType::MsgRequestVoteResponse if !message.reject => 0,
            _ => return None,
        };
        Some(Self { term: message.term, index })
    }

    /// Whether a log with these ends has forgotten the promise.
    fn is_broken_by(self, term: u64, last: u64) -> bool {
        term < self.term || (term == self.term && last < self.index)
    }
}

/// What others were heard to promise since this process began.
#[derive(Debug, Default)]
pub(super) struct Promises {
    by_member: Mutex<BTreeMap<u64, Promise>>,
}

impl Promises {
    /// Notes what a message promises.
    pub fn hear(&self, message: &Message) {
        if let Some(promise) = Promise::of(message) {
            let mut by_member = self.by_member.lock();
            let known = by_member.entry(message.from).or_default();
            *known = promise.max(*known);
        }
    }

    /// Everything that was heard, by member.
    pub fn all(&self) -> BTreeMap<u64, Promise> {
        self.by_member.lock().clone()
    }
}

/// Promises by whose they are: the cluster's id and the member's.
pub type Heard = BTreeMap<(u64, u64), Promise>;

/// Where a note says that the member here forgot.
const NOTE: &str = "forgotten";

/// Notes that the member here forgot, for every start to come.
pub(super) fn note(member_dir: &Path, why: &str) {
    let path = member_dir.join(NOTE);
    let written = fs::write(&path, why).and_then(|()| fs::File::open(member_dir)?.sync_all());
    if let Err(error) = written {
        tracing::error!(path = %path.display(), %error, "cannot note that this member forgot");
    }
}

/// What was noted.
pub(super) fn noted(member_dir: &Path) -> Option<String> {
    let path = member_dir.join(NOTE);
    match fs::read_to_string(&path) {
        Ok(why) => Some(why),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(format!("{}: {error}", path.display())),
    }
}

/// Why a fault means that a member forgot, if it does.
pub(super) fn reason(fault: &Fault, wal_dir: &Path) -> Option<String> {
    let is_loss = match fault {
        Fault::Forgotten(_) => true,
        Fault::Corrupt { path, .. } => path.starts_with(wal_dir) && wal::is_lost(fault),
        Fault::Io { path, source, .. } => path == wal_dir && source.kind() == ErrorKind::NotFound,
        Fault::Row { .. } | Fault::Engine { .. } | Fault::Broken(_) => false,
    };
    is_loss.then(|| fault.to_string())
}

/// Why a log that ends so, in such a term, is not what others were promised with it, if it is not.
pub(super) fn contradiction(promise: Promise, term: u64, last: u64) -> Option<String> {
    promise.is_broken_by(term, last).then(|| {
        format!(
            "it ends at entry {last} in term {term}, but another member heard of entry {} in term \
             {}",
            promise.index, promise.term
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageType, term: u64, index: u64, reject: bool) -> Message {
        let mut message = Message { from: 7, term, index, reject, ..Message::default() };
        message.set_msg_type(kind);
        message
    }

    #[test]
    fn the_last_promise_of_the_newest_term_counts() {
        use MessageType::*;
        let promises = Promises::default();
        assert!(promises.all().is_empty());
        promises.hear(&message(MsgAppendResponse, 3, 20, false));
        promises.hear(&message(MsgAppendResponse, 3, 10, false));
        promises.hear(&message(MsgAppendResponse, 3, 30, true));
        promises.hear(&message(MsgRequestPreVote, 9, 0, false));
        promises.hear(&message(MsgRequestPreVoteResponse, 9, 0, false));
        promises.hear(&message(MsgHeartbeatResponse, 9, 0, false));
        promises.hear(&message(MsgRequestVoteResponse, 9, 0, true));
        assert_eq!(promises.all()[&7], Promise { term: 3, index: 20 });
        promises.hear(&message(MsgRequestVoteResponse, 4, 0, false));
        assert_eq!(promises.all()[&7], Promise { term: 4, index: 0 });
        promises.hear(&message(MsgRequestVote, 5, 12, false));
        assert_eq!(promises.all()[&7], Promise { term: 5, index: 0 });
    }

    #[test]
    fn a_log_may_be_longer_or_cut_by_a_later_term() {
        let promise = Promise { term: 3, index: 20 };
        assert_eq!(contradiction(promise, 3, 20), None);
        assert_eq!(contradiction(promise, 3, 21), None);
        assert_eq!(contradiction(promise, 4, 5), None);
        assert!(contradiction(promise, 3, 19).is_some());
        assert!(contradiction(promise, 2, 99).is_some());
    }
}
