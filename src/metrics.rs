//! The metrics of one member, under etcd's names, with etcd's types and buckets.
//!
//! Counted at the edges and in `node`, from returned facts; never woven through logic. Gauges that
//! mirror state are set when somebody scrapes (`http::metrics`). A member has its own registry, so
//! that several may live in one process.
//!
//! What runs for every request is an addition to a number found once, never a search by labels.
//!
//! Absent, because kvorum has nothing they could tell of: `go_*` and `promhttp_*`, the insides of
//! bbolt and of etcd's send loop, the v2 store, the grpc proxy. `tests/process/metrics.rs` has the
//! list and holds the rest to what etcd shows.

mod grpc;
mod peers;
mod process;
mod snapshots;

use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

use grpc::Grpc;
pub use grpc::{Calls, GrpcMethod, Messages};
pub use peers::{Peer, Peers, Transfer};
pub use process::Process;
pub use snapshots::Snapshots;

/// Everything a member counts.
pub struct Metrics {
    registry: Registry,
    grpc: Grpc,
    pub client_received_bytes: IntCounter,
    pub client_sent_bytes: IntCounter,
    pub calls: Calls,
    pub wal_fsync_seconds: Histogram,
    pub wal_write_bytes: IntGauge,
    pub backend_commit_seconds: Histogram,
    pub backend_snapshot_seconds: Histogram,
    pub backend_defrag_seconds: Histogram,
    pub defrag_inflight: IntGauge,
    pub db_total_bytes: IntGauge,
    pub db_in_use_bytes: IntGauge,
    pub quota_bytes: Gauge,
    pub mvcc_puts: IntCounter,
    pub mvcc_deletes: IntCounter,
    pub mvcc_ranges: IntCounter,
    pub mvcc_txns: IntCounter,
    pub mvcc_put_bytes: IntGauge,
    pub mvcc_events: IntCounter,
    pub stream_failures: IntCounterVec,
    pub mvcc_keys: IntGauge,
    pub mvcc_revision: IntGauge,
    pub mvcc_compact_revision: IntGauge,
    pub mvcc_hash_seconds: Histogram,
    pub mvcc_hash_rev_seconds: Histogram,
    pub watch_streams: IntGauge,
    pub watchers: IntGauge,
    pub watchers_slow: IntGauge,
    pub lease_ttl_seconds: Histogram,
    pub leases_granted: IntCounter,
    pub leases_revoked: IntCounter,
    pub leases_renewed: IntCounter,
    pub leases_expired: IntCounter,
    pub has_leader: IntGauge,
    pub is_leader: IntGauge,
    pub is_learner: IntGauge,
    /// Learners promoted while this member led, and those that were not, by the reason.
    pub promotions: IntCounter,
    pub promotions_failed: IntCounterVec,
    pub heartbeats_late: IntCounter,
    pub snapshots: Snapshots,
    pub leader_changes: IntCounter,
    pub proposals_committed: IntGauge,
    pub proposals_applied: IntGauge,
    pub proposals_pending: IntGauge,
    pub proposals_failed: IntCounter,
    pub read_indexes_failed: IntCounter,
    pub read_indexes_slow: IntCounter,
    pub slow_applies: IntCounter,
    pub apply_seconds: Histogram,
    pub health_success: IntCounter,
    pub health_failures: IntCounter,
    pub healthcheck: IntGaugeVec,
    pub healthchecks: IntCounterVec,
    pub server_id: IntGaugeVec,
    pub server_version: IntGaugeVec,
    pub cluster_version: IntGaugeVec,
    pub peers: Peers,
    pub alarms: IntGaugeVec,
    pub process: Process,
}

/// Registers metrics of each type under one registry.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn keep<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<M>,
    ) -> M {
        let metric = made.expect("names and labels are constants");
        self.0.register(Box::new(metric.clone())).expect("each name is registered once");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn float_counter(&self, name: &str, help: &str) -> Counter {
        self.keep(Counter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(name, help))
    }

    fn float(&self, name: &str, help: &str) -> Gauge {
        self.keep(Gauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn seconds(&self, name: &str, help: &str, start: f64, count: usize) -> Histogram {
        self.keep(Histogram::with_opts(Self::doubling(name, help, start, count)))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        (start, count): (f64, usize),
    ) -> HistogramVec {
        self.keep(HistogramVec::new(Self::doubling(name, help, start, count), labels))
    }

    /// Buckets of which each ends at twice the end of the one before.
    fn doubling(name: &str, help: &str, start: f64, count: usize) -> HistogramOpts {
        let buckets = exponential_buckets(start, 2.0, count).expect("bounds are constants");
        HistogramOpts::new(name, help).buckets(buckets)
    }
}

impl Metrics {
    /// A fresh registry; `extensive` adds latency histograms per gRPC method.
    pub fn new(extensive: bool) -> Self {
        let registry = Registry::new();
        let m = Maker(&registry);
        Self {
            grpc: Grpc::new(&m, extensive),
            client_received_bytes: m.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes received from clients.",
            ),
            client_sent_bytes: m
                .counter("etcd_network_client_grpc_sent_bytes_total", "Bytes sent to clients."),
            calls: Calls::new(&m),
            wal_fsync_seconds: m.seconds(
                "etcd_disk_wal_fsync_duration_seconds",
                "How long fsync of the write-ahead log takes.",
                0.001,
                14,
            ),
            wal_write_bytes: m
                .gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the write-ahead log."),
            backend_commit_seconds: m.seconds(
                "etcd_disk_backend_commit_duration_seconds",
                "How long a checkpoint into the state engine takes.",
                0.001,
                14,
            ),
            backend_snapshot_seconds: m.seconds(
                "etcd_disk_backend_snapshot_duration_seconds",
                "How long sending a snapshot takes.",
                0.01,
                17,
            ),
            backend_defrag_seconds: m.seconds(
                "etcd_disk_backend_defrag_duration_seconds",
                "How long rewriting the state engine takes.",
                0.1,
                13,
            ),
            defrag_inflight: m
                .gauge("etcd_disk_defrag_inflight", "Whether a defragmentation is running."),
            db_total_bytes: m.gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes the state engine occupies on disk.",
            ),
            db_in_use_bytes: m.gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of live rows in the state engine.",
            ),
            quota_bytes: m
                .float("etcd_server_quota_backend_bytes", "The quota on the state, in bytes."),
            mvcc_puts: m.counter("etcd_mvcc_put_total", "Puts applied."),
            mvcc_deletes: m.counter("etcd_mvcc_delete_total", "Deletes applied."),
            mvcc_ranges: m.counter("etcd_mvcc_range_total", "Ranges answered."),
            mvcc_txns: m.counter("etcd_mvcc_txn_total", "Transactions applied."),
            mvcc_put_bytes: m.gauge(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Bytes of the keys and values put.",
            ),
            mvcc_events: m.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers."),
            stream_failures: m.counters(
                "etcd_network_server_stream_failures_total",
                "Streams that clients broke off by what they sent.",
                &["Type", "API"],
            ),
            mvcc_keys: m.gauge("etcd_debugging_mvcc_keys_total", "Live keys."),
            mvcc_revision: m.gauge("etcd_debugging_mvcc_current_revision", "The current revision."),
            mvcc_compact_revision: m
                .gauge("etcd_debugging_mvcc_compact_revision", "The last compaction's revision."),
            mvcc_hash_seconds: m.seconds(
                "etcd_mvcc_hash_duration_seconds",
                "How long hashing everything takes.",
                0.01,
                15,
            ),
            mvcc_hash_rev_seconds: m.seconds(
                "etcd_mvcc_hash_rev_duration_seconds",
                "How long hashing the rows at a revision takes.",
                0.01,
                15,
            ),
            watch_streams: m.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams."),
            watchers: m.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
            watchers_slow: m
                .gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers fed from history."),
            lease_ttl_seconds: m.seconds(
                "etcd_debugging_lease_ttl_total",
                "Times to live of the leases granted, in seconds.",
                1.0,
                24,
            ),
            leases_granted: m.counter("etcd_debugging_lease_granted_total", "Leases granted."),
            leases_revoked: m.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
            leases_renewed: m.counter("etcd_debugging_lease_renewed_total", "Leases renewed."),
            leases_expired: m
                .counter("etcd_debugging_server_lease_expired_total", "Leases expired."),
            has_leader: m.gauge("etcd_server_has_leader", "Whether a leader is known."),
            is_leader: m.gauge("etcd_server_is_leader", "Whether this member leads."),
            is_learner: m.gauge("etcd_server_is_learner", "Whether this member is a learner."),
            promotions: m.counter(
                "etcd_server_learner_promote_successes",
                "Learners promoted while this member led.",
            ),
            promotions_failed: m.counters(
                "etcd_server_learner_promote_failures",
                "Learners not promoted while this member led.",
                &["Reason"],
            ),
            heartbeats_late: m.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats that could not be sent in time.",
            ),
            snapshots: Snapshots::new(&m),
            leader_changes: m
                .counter("etcd_server_leader_changes_seen_total", "Leader changes seen."),
            proposals_committed: m
                .gauge("etcd_server_proposals_committed_total", "Index of the last commit."),
            proposals_applied: m
                .gauge("etcd_server_proposals_applied_total", "Index of the last apply."),
            proposals_pending: m
                .gauge("etcd_server_proposals_pending", "Proposals waiting for their commit."),
            proposals_failed: m
                .counter("etcd_server_proposals_failed_total", "Proposals that failed."),
            read_indexes_failed: m.counter(
                "etcd_server_read_indexes_failed_total",
                "Questions of readers that were lost.",
            ),
            read_indexes_slow: m.counter(
                "etcd_server_slow_read_indexes_total",
                "Rounds of readers that timed out.",
            ),
            slow_applies: m
                .counter("etcd_server_slow_apply_total", "Applies slower than the warning."),
            // One batch of entries at a time, of all kinds; the labels are there for queries.
            apply_seconds: m
                .histograms(
                    "etcd_server_apply_duration_seconds",
                    "How long applying a batch of entries takes.",
                    &["version", "op", "success"],
                    (0.0001, 20),
                )
                .with_label_values(&["v3", "Batch", "true"]),
            health_success: m.counter("etcd_server_health_success", "Successful /health answers."),
            health_failures: m.counter("etcd_server_health_failures", "Failed /health answers."),
            healthcheck: m.gauges(
                "etcd_server_healthcheck",
                "The result of each health check.",
                &["type", "name"],
            ),
            healthchecks: m.counters(
                "etcd_server_healthchecks_total",
                "Health checks by result.",
                &["type", "name", "status"],
            ),
            server_id: m.gauges("etcd_server_id", "This member's id.", &["server_id"]),
            server_version: m.gauges(
                "etcd_server_version",
                "The version served.",
                &["server_version"],
            ),
            cluster_version: m.gauges(
                "etcd_cluster_version",
                "The cluster's version.",
                &["cluster_version"],
            ),
            peers: Peers::new(&m),
            alarms: m.gauges(
                "etcd_debugging_server_alarms",
                "Alarms in force.",
                &["server_id", "alarm_type"],
            ),
            process: Process::new(&m),
            registry,
        }
    }

    /// The counters of a method, all of them present at zero.
    pub fn grpc_method(&self, kind: &'static str, service: &str, method: &str) -> GrpcMethod {
        self.grpc.method(kind, service, method)
    }

    /// The exposition text.
    pub fn render(&self) -> Vec<u8> {
        self.grpc.settle();
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory cannot fail");
        text
    }
}
