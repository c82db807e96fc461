//! A cluster in this process: members as `main` makes them, on free ports, with a [`Network`]
//! between them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kvorum::config::{ClusterState, Config, Url};
use kvorum::members;
use kvorum::pb::etcdserverpb::cluster_client::ClusterClient;
use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::lease_client::LeaseClient;
use kvorum::pb::{MemberAddRequest, MemberRemoveRequest};
use kvorum::{Running, Server, StartError};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::client::{Watch, get, put, until, within};
use super::network::{Network, Relay, Rule};
use crate::support::port::Port;

/// Shorter than what is usual, for tests wait for elections; long enough for a busy machine.
const HEARTBEAT: Duration = Duration::from_millis(50);
pub const ELECTION: Duration = Duration::from_millis(500);

/// Some members and the network between them.
pub struct Cluster {
    pub network: Network,
    members: Vec<Member>,
}

/// A member, at work or not.
pub struct Member {
    config: Config,
    relay: Relay,
    /// Where it listens; others know it by its relay.
    port: Port,
    id: u64,
    running: Option<Running>,
    channel: Option<Channel>,
    directory: Option<tempfile::TempDir>,
}

impl Drop for Member {
    fn drop(&mut self) {
        // A test that failed did not stop it. Taking the directory from a member at work would
        // abort this process, and nobody would see why the test failed.
        if self.running.is_some()
            && let Some(directory) = self.directory.take()
        {
            let _ = directory.keep();
        }
    }
}

impl Cluster {
    /// A cluster at work.
    pub async fn start(size: usize) -> Self {
        Self::start_with(size, |_| {}).await
    }

    /// A cluster at work whose members are told something else than usual.
    pub async fn start_with(size: usize, change: impl Fn(&mut Config)) -> Self {
        let network = Network::new();
        let relays: Vec<Relay> = (0..size).map(|_| Relay::hold(&network)).collect();
        let founders: Vec<(String, String)> =
            relays.iter().enumerate().map(|(n, relay)| (format!("m{n}"), relay.url())).collect();
        let members = relays.into_iter().zip(&founders).map(|(relay, (name, url))| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let port = Port::hold().expect("a free port");
            let mut config = Config {
                name: name.clone(),
                data_dir: directory.path().join("data"),
                listen_client_urls: vec![Url::http("127.0.0.1:0")],
                listen_peer_urls: vec![Url::http(&format!("127.0.0.1:{}", port.number))],
                initial_advertise_peer_urls: vec![url.clone()],
                initial_cluster: founders.clone(),
                heartbeat_interval: HEARTBEAT,
                election_timeout: ELECTION,
                worker_threads: 1,
                ..Config::default()
            };
            change(&mut config);
            let id = members::member_id(std::slice::from_ref(url), &config.initial_cluster_token);
            let (running, channel, directory) = (None, None, Some(directory));
            Member { config, relay, port, id, running, channel, directory }
        });
        let mut cluster = Self { network, members: members.collect() };
        cluster.start_members(&(0..size).collect::<Vec<_>>()).await;
        cluster
    }

    /// Starts members that are stopped, all at once: a majority may be needed for each to be ready.
    pub async fn start_members(&mut self, which: &[usize]) {
        // Members find each other while they start, so the way to them is open before that.
        let mut starting = JoinSet::new();
        for &n in which {
            let member = &mut self.members[n];
            assert!(member.running.is_none(), "member {n} is at work");
            member.relay.open(member.id, member.port.number).await;
            let config = member.config.clone();
            starting.spawn(async move { (n, Server::start(config).await) });
        }
        while let Some(started) = within("members that start", starting.join_next()).await {
            let (n, running) = started.expect("a start does not panic");
            self.members[n].begin_work(running.expect("a member starts"));
        }
    }

    /// Tries to start a member that is stopped, which may be refused; its way is open while it
    /// tries.
    pub async fn try_start(&mut self, n: usize) -> Result<(), StartError> {
        let member = &mut self.members[n];
        assert!(member.running.is_none(), "member {n} is at work");
        member.relay.open(member.id, member.port.number).await;
        match within("a start", Server::start(member.config.clone())).await {
            Ok(running) => member.begin_work(running),
            Err(error) => {
                member.relay.shut().await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Replaces a member that is stopped, as docs/clusters.md says: another one is asked to remove
    /// it, if it knows it, and to add it; then it starts with an empty directory.
    pub async fn replace(&mut self, n: usize, through: usize) {
        let mut client = ClusterClient::new(self.members[through].channel());
        let (old, url) = (self.members[n].id, self.members[n].relay.url());
        until("a removal", async || {
            let removed = client.member_remove(MemberRemoveRequest { id: old }).await;
            match removed {
                Ok(_) => Some(()),
                Err(status) if status.message() == "etcdserver: member not found" => Some(()),
                Err(_) => None,
            }
        })
        .await;
        let added = until("an addition", async || {
            let request = MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: false };
            client.member_add(request).await.ok()
        });
        let added = added.await.into_inner();
        self.members[n].id = added.member.expect("it is told").id;
        let name = self.members[n].config.name.clone();
        self.change(n, |config| {
            let pair = |member: kvorum::pb::Member| {
                let known = Some(member.name).filter(|name| !name.is_empty());
                (known.unwrap_or(name.clone()), member.peer_ur_ls[0].clone())
            };
            config.initial_cluster = added.members.into_iter().map(pair).collect();
            config.initial_cluster_state = ClusterState::Existing;
            let _ = std::fs::remove_dir_all(&config.data_dir);
        });
        self.try_start(n).await.expect("it joins");
    }

    /// Tells a member something else from its next start on.
    pub fn change(&mut self, n: usize, change: impl FnOnce(&mut Config)) {
        change(&mut self.members[n].config);
    }

    /// Stops a member in an orderly way.
    pub async fn stop(&mut self, n: usize) {
        let member = &mut self.members[n];
        let running = member.running.take().expect("it is at work");
        within("a stop", running.shutdown()).await;
        member.relay.shut().await;
        member.channel = None;
    }

    /// Takes a member away from the others without a word, then stops it.
    pub async fn lose(&mut self, n: usize) {
        let id = self.members[n].id;
        self.rule_all(id, Rule::Close);
        self.members[n].relay.shut().await;
        self.stop(n).await;
        self.rule_all(id, Rule::Pass);
    }

    /// Stops all members at once, and deletes what they left.
    pub async fn end(mut self) {
        self.stop_all().await;
    }

    /// Stops all members at once.
    pub async fn stop_all(&mut self) {
        let mut stopping = JoinSet::new();
        for member in &mut self.members {
            member.channel = None;
            if let Some(running) = member.running.take() {
                stopping.spawn(running.shutdown());
            }
        }
        within("all stops", async { while stopping.join_next().await.is_some() {} }).await;
        for member in &mut self.members {
            member.relay.shut().await;
        }
    }

    /// Rules all that a member says and hears.
    pub fn rule_all(&self, id: u64, rule: Rule) {
        self.rule_said(id, rule);
        self.rule_heard(id, rule);
    }

    /// Rules all that a member says.
    pub fn rule_said(&self, id: u64, rule: Rule) {
        self.others(id).for_each(|other| self.network.rule(id, other, rule));
    }

    /// Rules all that a member hears.
    pub fn rule_heard(&self, id: u64, rule: Rule) {
        self.others(id).for_each(|other| self.network.rule(other, id, rule));
    }

    fn others(&self, id: u64) -> impl Iterator<Item = u64> + '_ {
        self.members.iter().map(|member| member.id).filter(move |other| *other != id)
    }

    pub fn member(&self, n: usize) -> &Member {
        &self.members[n]
    }

    /// Members at work.
    pub fn at_work(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.running.is_some())
    }

    /// Which member leads, when all at work but those in `except` agree on one of them.
    pub async fn leader_but(&self, except: &[usize]) -> usize {
        let agreed = async || {
            let mut leaders = BTreeMap::new();
            for (n, member) in self.members.iter().enumerate() {
                if member.running.is_some() && !except.contains(&n) {
                    let standing = member.running().node().progress();
                    leaders.insert(n, (standing.term, standing.leader));
                }
            }
            let (term, leader) = *leaders.values().next()?;
            let all = leaders.values().all(|each| *each == (term, leader));
            leaders.into_keys().find(|n| all && self.members[*n].id == leader)
        };
        until("a leader", agreed).await
    }

    /// Which member leads, when all at work agree.
    pub async fn leader(&self) -> usize {
        self.leader_but(&[]).await
    }

    /// A member that does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.members.len()).find(|n| *n != leader).expect("there are others")
    }

    /// Waits until every member at work shows a key with a value, as of whatever it has applied.
    pub async fn until_everywhere(&self, key: &str, value: &str) {
        for member in self.at_work() {
            let seen =
                async || (member.stale(key).await.ok()?.as_deref() == Some(value)).then_some(());
            until("a value everywhere", seen).await;
        }
    }

    /// Asserts that all members at work have the same rows at the same revision.
    pub async fn assert_alike(&self) {
        let newest = self.at_work().map(|member| member.running().node().revision()).max();
        let newest = newest.expect("somebody is at work");
        let mut hashes = Vec::new();
        for member in self.at_work() {
            let node = member.running().node();
            until("the newest revision", async || (node.revision() >= newest).then_some(())).await;
            let hash = node.hash_kv(newest).await.expect("it is not compacted");
            hashes.push((hash.hash, hash.compact_revision));
        }
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
    }
}

impl Member {
    fn begin_work(&mut self, running: Running) {
        let id = running.node().member_id();
        assert!(self.config.auto_replace || self.id == id, "it is another member");
        self.id = id;
        let url = format!("http://{}", running.client_addresses()[0]);
        let endpoint = Endpoint::from_shared(url).expect("an address");
        self.channel = Some(endpoint.connect_lazy());
        self.running = Some(running);
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where others reach it.
    pub fn peer_url(&self) -> String {
        self.relay.url()
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it is at work")
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone().expect("it is at work")
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel()).max_decoding_message_size(64 << 20)
    }

    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel())
    }

    /// Puts, and returns the revision.
    pub async fn put(&self, key: &str, value: &str) -> Result<i64, Status> {
        put(self.kv(), key, value).await
    }

    /// What a key holds, linearizably.
    pub async fn get(&self, key: &str) -> Result<Option<String>, Status> {
        get(self.kv(), key, false).await
    }

    /// What a key holds, as far as this member knows.
    pub async fn stale(&self, key: &str) -> Result<Option<String>, Status> {
        get(self.kv(), key, true).await
    }

    /// Opens a watch of all keys that begin with `prefix`.
    pub async fn watch(&self, prefix: &str, start_revision: i64) -> Watch {
        Watch::open(self.channel(), prefix, start_revision).await
    }
}
