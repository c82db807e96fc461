//! A configuration as the log shows it when a member starts, by etcd's names.

use serde_json::{Value, json};

use super::url::{Url, print_list};
use super::{AutoCompaction, ClusterState, Config, duration, initial_cluster};

impl Config {
    /// What was resolved, as fields of a log line.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        let urls = |urls: &[Url]| json!(print_list(urls));
        let (mode, retention) = match self.auto_compaction {
            AutoCompaction::Off => ("periodic", json!("0s")),
            AutoCompaction::Periodic(time) => ("periodic", json!(duration::print(time))),
            AutoCompaction::Revision(count) => ("revision", json!(count)),
        };
        let wal_dir = self.wal_dir.as_ref().map(|path| path.display().to_string());
        vec![
            ("name", json!(self.name)),
            ("data-dir", json!(self.data_dir().display().to_string())),
            ("wal-dir-dedicated", json!(wal_dir.unwrap_or_default())),
            ("storage-engine", json!(self.storage_engine.name())),
            ("heartbeat-interval", json!(duration::print(self.heartbeat_interval))),
            ("election-timeout", json!(duration::print(self.election_timeout))),
            ("snapshot-count", json!(self.snapshot_count)),
            ("snapshot-catchup-entries", json!(self.snapshot_catchup_entries)),
            ("initial-advertise-peer-urls", json!(self.initial_advertise_peer_urls)),
            ("listen-peer-urls", urls(&self.listen_peer_urls)),
            ("advertise-client-urls", json!(self.advertise_client_urls)),
            ("listen-client-urls", urls(&self.listen_client_urls)),
            ("listen-client-http-urls", urls(&self.listen_client_http_urls)),
            ("listen-metrics-urls", urls(&self.listen_metrics_urls)),
            ("initial-cluster", json!(initial_cluster::print(&self.initial_cluster))),
            (
                "initial-cluster-state",
                json!(match self.initial_cluster_state {
                    ClusterState::New => "new",
                    ClusterState::Existing => "existing",
                }),
            ),
            ("initial-cluster-token", json!(self.initial_cluster_token)),
            ("quota-backend-bytes", json!(self.quota_bytes().unwrap_or(-1))),
            ("max-request-bytes", json!(self.max_request_bytes)),
            ("max-concurrent-streams", json!(self.max_concurrent_streams)),
            ("max-txn-ops", json!(self.max_txn_ops)),
            ("cors", json!(self.cors)),
            ("pre-vote", json!(self.pre_vote)),
            ("auto-replace", json!(self.auto_replace)),
            ("auto-compaction-mode", json!(mode)),
            ("auto-compaction-retention", retention),
            ("unsafe-no-fsync", json!(self.unsafe_no_fsync)),
        ]
    }
}
