//! Joining a cluster that runs: finding oneself among its members.
//!
//! Whoever added a member fixed its id and its peer URLs. The new process learns both from a member
//! that runs, and `--initial-cluster` must say the same of everybody: it is the operator's only
//! chance to notice that two clusters are being mixed up.
//!
//! A member that was started before is not let in again with an empty directory, which etcd does:
//! it forgot what it voted for and what it promised to keep, and would break both promises under
//! its old id.

use std::collections::BTreeMap;

use super::urls::{Difference, Resolve, difference};
use super::{Member, Members};

/// Why a member does not join. The text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotNamed(String),
    #[error("the members asked know of no members; is their cluster being founded just now?")]
    Nobody,
    #[error(
        "cluster {cluster_id:x} has no member with the peer URLs {urls}: this one was not added to \
         it, or was removed. Run `etcdctl member add {name} --peer-urls={urls}` first, then start \
         it with an empty data directory and the --initial-cluster that was printed"
    )]
    NotAdded { cluster_id: u64, name: String, urls: String },
    #[error(
        "this member was added to cluster {cluster_id:x} as {id:x} with the peer URLs {theirs}, \
         but --initial-cluster has {name} with {ours} ({why}); say the same in both places, or run \
         `etcdctl member update {id:x} --peer-urls={ours}`"
    )]
    OtherUrls {
        cluster_id: u64,
        id: u64,
        name: String,
        theirs: String,
        ours: String,
        why: Box<Difference>,
    },
    #[error(
        "member {id:x} of cluster {cluster_id:x} was started before, as {was:?}, and its data \
         directory here is empty: without its log and its vote it could undo what it agreed to. \
         Run `etcdctl member remove {id:x}` and `etcdctl member add {name} --peer-urls={urls}`, \
         then start it again; if the data is elsewhere, start it with that --data-dir"
    )]
    Started { cluster_id: u64, id: u64, was: String, name: String, urls: String },
    #[error(
        "member count is unequal: --initial-cluster has {ours} ({names}), but cluster \
         {cluster_id:x} has {theirs}:{members}; name exactly those"
    )]
    Count { cluster_id: u64, ours: usize, names: String, theirs: usize, members: String },
    #[error(
        "PeerURLs: no match found for existing member ({id:x}, {urls}): nobody in \
         --initial-cluster={cluster} has exactly these peer URLs"
    )]
    Unmatched { id: u64, urls: String, cluster: String },
    #[error(
        "too many learner members in cluster: it has {count}, but --max-learners is {max}; give \
         all members the same --max-learners"
    )]
    Learners { count: usize, max: usize },
}

/// Finds the member called `name` in `initial_cluster` among the members of a cluster that runs;
/// its id, and everybody.
pub fn join(
    remote: &[Member],
    cluster_id: u64,
    initial_cluster: &[(String, String)],
    name: &str,
    learners_max: usize,
    resolve: Resolve<'_>,
) -> Result<(u64, Members), JoinError> {
    let mut named: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, url) in initial_cluster {
        named.entry(name).or_default().push(url.clone());
    }
    let Some(own) = named.get(name) else { return Err(JoinError::NotNamed(name.to_owned())) };
    if remote.is_empty() {
        return Err(JoinError::Nobody);
    }
    let me = find(remote, cluster_id, name, own, resolve)?;
    if remote.len() != named.len() {
        return Err(JoinError::Count {
            cluster_id,
            ours: named.len(),
            names: named.keys().copied().collect::<Vec<_>>().join(", "),
            theirs: remote.len(),
            members: remote.iter().map(listed).collect(),
        });
    }
    for member in remote {
        let is_member = |urls: &Vec<String>| difference(&member.peer_urls, urls, resolve).is_none();
        if !named.values().any(is_member) {
            let pairs = initial_cluster.iter().map(|(name, url)| format!("{name}={url}"));
            return Err(JoinError::Unmatched {
                id: member.id,
                urls: member.peer_urls.join(","),
                cluster: pairs.collect::<Vec<_>>().join(","),
            });
        }
    }
    let count = remote.iter().filter(|member| member.is_learner).count();
    if count > learners_max {
        return Err(JoinError::Learners { count, max: learners_max });
    }
    let mut members = Members::default();
    remote.iter().for_each(|member| members.add(member.clone()));
    Ok((me, members))
}

/// The id under which a member was added that has not been started yet.
fn find(
    remote: &[Member],
    cluster_id: u64,
    name: &str,
    own: &[String],
    resolve: Resolve<'_>,
) -> Result<u64, JoinError> {
    let (name, urls) = (name.to_owned(), own.join(","));
    if let Some(me) = remote.iter().find(|it| difference(&it.peer_urls, own, resolve).is_none()) {
        if me.was_at_work() {
            let (id, was) = (me.id, me.name.clone());
            return Err(JoinError::Started { cluster_id, id, was, name, urls });
        }
        return Ok(me.id);
    }
    let shares = |member: &&Member| member.peer_urls.iter().any(|url| own.contains(url));
    let Some(me) = remote.iter().find(shares) else {
        return Err(JoinError::NotAdded { cluster_id, name, urls });
    };
    let why = difference(own, &me.peer_urls, resolve).expect("an equal one was looked for");
    let why = Box::new(why);
    let (id, theirs) = (me.id, me.peer_urls.join(","));
    Err(JoinError::OtherUrls { cluster_id, id, name, theirs, ours: urls, why })
}

fn listed(member: &Member) -> String {
    let name = if member.is_started() { &member.name } else { "unstarted" };
    format!(" {name}={} ({:x})", member.peer_urls.join(","), member.id)
}

/// Whether a running cluster tells that the founder `id` was at work before. Founding it again in
/// an empty directory would give it a second vote on what was decided.
pub fn is_bootstrapped(remote: &[Member], id: u64) -> bool {
    remote.iter().any(|member| member.id == id && member.was_at_work())
}
