//! Configuration changes: who votes is raft's matter, who they are is kept here.

use crate::members::Member;
use crate::pb::membershippb;
use crate::storage::engine::{Table, Write};
use crate::storage::keys::{self, ConfState};

use super::{Machine, Outcome};

impl Machine {
    /// Applies an entry that adds a member, together with the configuration raft made of it.
    pub fn add_member(&mut self, index: u64, term: u64, member: Member, made: ConfState) {
        self.advance(index, term);
        self.writes.push(member.row());
        self.members.add(member);
        self.writes.push(Write::Put {
            table: Table::Meta,
            key: keys::CONF_STATE.into(),
            value: made.encode().into(),
        });
        self.conf_state = made;
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
        self.writes.extend(self.members.set_attributes(request.member_id, name, urls));
        Outcome::done()
    }

    /// The raft configuration as of the applied index.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }
}
