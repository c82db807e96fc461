//! The members as everybody sees them, and their changes as the log words them.
//!
//! The applier publishes the members after each batch that changed them; a look at them costs
//! nobody a wait. They are as new as the rows that readers see, and as little linearizable without
//! a read barrier.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use parking_lot::RwLock;

use super::transport::{Alone, Transport};
use crate::error::Fault;
use crate::members::{self, Member, Members};
use crate::raft::conf::{self, Context, Kind};

/// The published members.
#[derive(Clone)]
pub(super) struct Membership {
    own: u64,
    newest: Arc<RwLock<Arc<Members>>>,
    /// Whether this member has no vote; asked for with every request.
    learns: Arc<AtomicBool>,
    version: Arc<ArcSwapOption<String>>,
    /// Whoever talks to the others; absent until there is somebody.
    peers: Arc<OnceLock<Arc<dyn Transport>>>,
}

impl Membership {
    pub fn new(own: u64, members: Arc<Members>, version: Option<&str>) -> Self {
        let learns = Arc::new(AtomicBool::new(learns(&members, own)));
        let newest = Arc::new(RwLock::new(members));
        let version = version.map(|version| Arc::new(version.to_owned()));
        let version = Arc::new(ArcSwapOption::new(version));
        Self { own, newest, learns, version, peers: Arc::default() }
    }

    /// Has the other members talked to from here on.
    pub fn connect(&self, peers: Arc<dyn Transport>) {
        self.tell(&*peers, &Members::default(), &self.get());
        // Called once, by the boot.
        let _ = self.peers.set(peers);
    }

    /// Whoever talks to the others.
    pub fn peers(&self) -> &dyn Transport {
        self.peers.get().map_or(&Alone, |peers| &**peers)
    }

    /// The version the cluster agreed on, if it has.
    pub fn cluster_version(&self) -> Option<Arc<String>> {
        self.version.load_full()
    }

    /// Whether this member is a learner.
    pub fn learns(&self) -> bool {
        self.learns.load(Ordering::Acquire)
    }

    /// The newest members.
    pub fn get(&self) -> Arc<Members> {
        self.newest.read().clone()
    }

    /// Shows `members` and the version they agreed on from here on. Only the applier calls this.
    pub fn publish(&self, members: &Arc<Members>, version: Option<&str>) {
        if self.version.load().as_ref().map(|version| version.as_str()) != version {
            self.version.store(version.map(|version| Arc::new(version.to_owned())));
        }
        let before = self.get();
        if Arc::ptr_eq(&before, members) {
            return;
        }
        *self.newest.write() = members.clone();
        self.learns.store(learns(members, self.own), Ordering::Release);
        self.tell(self.peers(), &before, members);
    }

    fn tell(&self, peers: &dyn Transport, before: &Members, now: &Members) {
        for gone in before.iter().filter(|member| now.get(member.id).is_none()) {
            peers.remove(gone.id);
        }
        for member in now.iter().filter(|member| member.id != self.own) {
            let known = before.get(member.id);
            if known.is_none_or(|known| known.peer_urls != member.peer_urls) {
                peers.set(member.id, member.peer_urls.clone());
            }
        }
    }
}

fn learns(members: &Members, own: u64) -> bool {
    members.get(own).is_some_and(|own| own.is_learner)
}

/// What a change in the log wants of the members.
pub(super) fn wanted(change: &conf::Change) -> Result<members::Change, Fault> {
    let id = change.node;
    if change.kind == Kind::Remove {
        return Ok(members::Change::Remove(id));
    }
    let broken = |what: String| Fault::Broken(format!("a change of member {id:x}: {what}"));
    let context = Context::decode(&change.context).map_err(|error| broken(error.to_string()))?;
    if context.id != id {
        return Err(broken(format!("its context is of member {:x}", context.id)));
    }
    let peer_urls = context.peer_urls.unwrap_or_default();
    Ok(match change.kind {
        Kind::Update => members::Change::Update { id, peer_urls },
        Kind::AddVoter | Kind::AddLearner if context.is_promote => members::Change::Promote(id),
        Kind::AddVoter | Kind::AddLearner => members::Change::Add(Member {
            id,
            peer_urls,
            is_learner: context.is_learner,
            name: context.name,
            client_urls: context.client_urls,
        }),
        Kind::Remove => unreachable!("a removal has no context"),
    })
}

/// The words for a change, under the request's id by which its waiter is found.
pub(super) fn worded(id: u64, change: members::Change) -> conf::Change {
    let node = change.id();
    let urls = |urls: Vec<String>| Some(urls).filter(|urls| !urls.is_empty());
    let (kind, context) = match change {
        members::Change::Add(member) => {
            let kind = if member.is_learner { Kind::AddLearner } else { Kind::AddVoter };
            let context = Context {
                id: node,
                peer_urls: urls(member.peer_urls),
                is_learner: member.is_learner,
                name: member.name,
                client_urls: member.client_urls,
                is_promote: false,
            };
            (kind, Some(context))
        }
        members::Change::Promote(_) => (Kind::AddVoter, Some(Context::promotion(node))),
        members::Change::Update { peer_urls, .. } => {
            let context = Context { id: node, peer_urls: urls(peer_urls), ..Context::default() };
            (Kind::Update, Some(context))
        }
        members::Change::Remove(_) => (Kind::Remove, None),
    };
    let context = context.map(|context| context.encode()).unwrap_or_default();
    conf::Change { id, kind, node, context }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every change comes back from its words as it was.
    #[test]
    fn words_say_what_is_wanted() {
        let learner = Member {
            id: 0xfeed,
            peer_urls: vec!["http://10.0.0.1:2380".into(), "https://10.0.0.2:2380".into()],
            is_learner: true,
            ..Member::default()
        };
        let voter = Member { is_learner: false, name: "m1".into(), ..learner.clone() };
        let changes = [
            members::Change::Add(learner),
            members::Change::Add(voter),
            members::Change::Promote(0xfeed),
            members::Change::Update { id: 0xfeed, peer_urls: Vec::new() },
            members::Change::Update { id: 0xfeed, peer_urls: vec!["http://10.0.0.3:1".into()] },
            members::Change::Remove(0xfeed),
        ];
        for change in changes {
            let words = worded(7, change.clone());
            assert_eq!((words.id, words.node), (7, 0xfeed));
            assert_eq!(wanted(&words).expect("our own words"), change);
        }
    }

    #[test]
    fn a_context_of_another_member_is_a_fault() {
        let mut words = worded(7, members::Change::Promote(1));
        words.node = 2;
        wanted(&words).expect_err("the context names another member");
    }
}
