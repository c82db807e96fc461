//! One change of the members, and whether it may happen.
//!
//! Every member judges a committed change by the book as of that entry, and they all must come to
//! the same answer; so the rules look at nothing but the book, the change, and the limit of
//! learners, which an operator sets alike everywhere.
//!
//! Deliberately absent: whether the change is wise. That enough members run is looked at before it
//! is proposed, at the edge, where it is known who runs.

use bytes::Bytes;

use super::{Member, Members, row_key};
use crate::error::Error;
use crate::storage::engine::{Table, Write};
use crate::storage::keys;

/// What happens to one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Add(Member),
    /// A learner gets a vote.
    Promote(u64),
    /// A member moves; nothing else about it changes.
    Update {
        id: u64,
        peer_urls: Vec<String>,
    },
    Remove(u64),
}

impl Change {
    /// The member concerned.
    pub fn id(&self) -> u64 {
        match self {
            Self::Add(member) => member.id,
            Self::Promote(id) | Self::Update { id, .. } | Self::Remove(id) => *id,
        }
    }
}

impl Members {
    /// Whether the change may be applied, with etcd's answer if not.
    pub fn check(&self, change: &Change, learners_max: usize) -> Result<(), Error> {
        if self.is_removed(change.id()) {
            return Err(Error::MemberNotFound);
        }
        let known = self.get(change.id());
        match change {
            Change::Add(_) if known.is_some() => Err(Error::MemberExist),
            Change::Add(member) => {
                self.check_free(member.id, &member.peer_urls)?;
                let learners = self.iter().filter(|member| member.is_learner).count();
                if member.is_learner && learners >= learners_max {
                    return Err(Error::TooManyLearners);
                }
                Ok(())
            }
            Change::Promote(_) => match known {
                Some(member) if member.is_learner => Ok(()),
                Some(_) => Err(Error::MemberNotLearner),
                None => Err(Error::MemberNotFound),
            },
            Change::Update { .. } | Change::Remove(_) if known.is_none() => {
                Err(Error::MemberNotFound)
            }
            Change::Update { id, peer_urls } => self.check_free(*id, peer_urls),
            Change::Remove(_) => Ok(()),
        }
    }

    /// Refuses URLs that belong to anybody but `id`.
    fn check_free(&self, id: u64, peer_urls: &[String]) -> Result<(), Error> {
        let mut others = self.iter().filter(|member| member.id != id);
        match others.any(|other| other.peer_urls.iter().any(|url| peer_urls.contains(url))) {
            true => Err(Error::PeerURLExist),
            false => Ok(()),
        }
    }

    /// Makes a change that was checked; the rows to store.
    pub fn change(&mut self, change: Change) -> Vec<Write> {
        let id = change.id();
        assert!(!self.is_removed(id), "a removed member id never comes back");
        match change {
            Change::Add(member) => {
                let row = member.row();
                self.add(member);
                vec![row]
            }
            Change::Promote(_) => vec![self.edit(id, |member| member.is_learner = false)],
            Change::Update { peer_urls, .. } => {
                vec![self.edit(id, |member| member.peer_urls = peer_urls)]
            }
            Change::Remove(_) => {
                self.by_id.remove(&id);
                self.removed.insert(id);
                removal(id).into()
            }
        }
    }

    fn edit(&mut self, id: u64, edit: impl FnOnce(&mut Member)) -> Write {
        let member = self.by_id.get_mut(&id).expect("a checked change knows its member");
        edit(member);
        member.row()
    }
}

/// The rows of a removal: the member's is gone, and its id is spent.
fn removal(id: u64) -> [Write; 2] {
    [
        Write::Delete { table: Table::Members, key: row_key(id) },
        Write::Put {
            table: Table::MembersRemoved,
            key: row_key(id),
            value: Bytes::from_static(keys::REMOVED),
        },
    ]
}
