//! Configuration changes: who votes is raft's matter, who they are is kept here.

use std::sync::Arc;

use crate::error::Error;
use crate::members::Change;
use crate::pb::membershippb;
use crate::planted::{Mistake, planted};
use crate::storage::engine::{Table, Write};
use crate::storage::keys::{self, ConfState};

use super::{Machine, Outcome, Reply};

#[cfg(test)]
mod tests;

impl Machine {
    /// Whether the machine will take a change: asked before raft hears of it.
    pub fn check_change(&self, change: &Change) -> Result<(), Error> {
        self.members.check(change, self.settings.learners_max)
    }

    /// Applies a change of members together with the configuration raft made of it, `None` if the
    /// change was refused: then the entry is stepped over.
    pub fn change_members(
        &mut self,
        index: u64,
        term: u64,
        change: Change,
        made: Option<ConfState>,
    ) -> Outcome {
        let allowed = self.check_change(&change);
        self.advance(index, term);
        let made = match (allowed, made) {
            (Ok(()), Some(made)) => made,
            (Err(error), None) => return Outcome::of(Err(error)),
            (Ok(()), None) | (Err(_), Some(_)) => {
                unreachable!("a change reaches raft if and only if the members take it")
            }
        };
        self.writes.extend(Arc::make_mut(&mut self.members).change(change));
        self.writes.push(Write::Put {
            table: Table::Meta,
            key: keys::CONF_STATE.into(),
            value: made.encode().into(),
        });
        if planted(Mistake::ConfStateForgotten) {
            self.writes.pop();
        }
        self.conf_state = made;
        Outcome::of(Ok(Reply::Members(self.members.iter().cloned().collect())))
    }

    pub(super) fn set_cluster_version(&mut self, version: String) -> Outcome {
        self.writes.push(Write::Put {
            table: Table::Cluster,
            key: keys::CLUSTER_VERSION.into(),
            value: version.clone().into(),
        });
        self.cluster_version = Some(version);
        Outcome::done()
    }

    pub(super) fn set_member_attributes(
        &mut self,
        request: membershippb::ClusterMemberAttrSetRequest,
    ) -> Outcome {
        let attributes = request.member_attributes.unwrap_or_default();
        let (name, urls) = (attributes.name, attributes.client_urls);
        let members = Arc::make_mut(&mut self.members);
        self.writes.extend(members.set_attributes(request.member_id, name, urls));
        Outcome::done()
    }

    /// The raft configuration as of the applied index.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }
}
