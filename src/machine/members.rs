//! Configuration changes: who votes is raft's matter, who they are is kept here.

use crate::error::{Error, Fault};
use crate::members::Member;
use crate::pb::membershippb;
use crate::raft::ConfState;
use crate::raft::conf::{Change, Context, Kind};
use crate::storage::engine::{Table, Write};
use crate::storage::keys;

use super::{Machine, Outcome, Reply};

impl Machine {
    /// Applies a configuration change together with the configuration raft made of it.
    pub fn apply_conf_change(
        &mut self,
        index: u64,
        term: u64,
        change: &Change,
        conf_state: &ConfState,
    ) -> Result<Outcome, Fault> {
        self.advance(index, term);
        match change.kind {
            Kind::AddVoter | Kind::AddLearner => {
                let context = Context::decode(&change.context).map_err(|error| {
                    Fault::Broken(format!("the member in log entry {index}: {error}"))
                })?;
                let member = Member {
                    id: context.id,
                    peer_urls: context.peer_urls.unwrap_or_default(),
                    is_learner: context.is_learner,
                    name: context.name,
                    client_urls: context.client_urls,
                };
                self.writes.push(member.row());
                self.members.add(member);
            }
            // A single member's log holds nothing else; clusters bring the rest.
            Kind::Remove | Kind::Update => {
                return Ok(Outcome::of(Err(Error::NotBuilt("changing the members of a cluster"))));
            }
        }
        let stored = keys::ConfState {
            voters: conf_state.voters.clone(),
            learners: conf_state.learners.clone(),
            voters_outgoing: conf_state.voters_outgoing.clone(),
            learners_next: conf_state.learners_next.clone(),
            auto_leave: conf_state.auto_leave,
        };
        self.writes.push(Write::Put {
            table: Table::Meta,
            key: keys::CONF_STATE.into(),
            value: stored.encode().into(),
        });
        self.conf_state = conf_state.clone();
        Ok(Outcome::of(Ok(Reply::Done)))
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
