//! The metrics of one member, under etcd's names, with etcd's types and buckets.
//!
//! Counted at the edges and in `node`, from returned facts; never woven through logic. Gauges that
//! mirror state are set when somebody scrapes (`http::metrics`). A member has its own registry, so
//! that several may live in one process.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

/// The names of gRPC codes by number, as go-grpc-prometheus spells them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The counters of one gRPC method, looked up once.
#[derive(Clone)]
pub struct GrpcMethod {
    started: IntCounter,
    handled: Vec<IntCounter>,
    seconds: Option<Histogram>,
}

impl GrpcMethod {
    /// A call began.
    pub fn start(&self) {
        self.started.inc();
    }

    /// A call ended with this gRPC code.
    pub fn finish(&self, code: i32, took: Duration) {
        let index = usize::try_from(code).unwrap_or(2).min(CODES.len() - 1);
        self.handled[index].inc();
        if let Some(seconds) = &self.seconds {
            seconds.observe(took.as_secs_f64());
        }
    }
}

/// Everything a member counts.
pub struct Metrics {
    registry: Registry,
    grpc_started: IntCounterVec,
    grpc_handled: IntCounterVec,
    grpc_seconds: Option<HistogramVec>,
    pub client_received_bytes: IntCounter,
    pub client_sent_bytes: IntCounter,
    pub client_requests: IntCounterVec,
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
    pub mvcc_events: IntCounter,
    pub mvcc_keys: IntGauge,
    pub mvcc_revision: IntGauge,
    pub mvcc_compact_revision: IntGauge,
    pub mvcc_hash_rev_seconds: Histogram,
    pub watch_streams: IntGauge,
    pub watchers: IntGauge,
    pub watchers_slow: IntGauge,
    pub leases_granted: IntCounter,
    pub leases_revoked: IntCounter,
    pub leases_renewed: IntCounter,
    pub leases_expired: IntCounter,
    pub has_leader: IntGauge,
    pub is_leader: IntGauge,
    pub is_learner: IntGauge,
    pub leader_changes: IntCounter,
    pub proposals_committed: IntGauge,
    pub proposals_applied: IntGauge,
    pub proposals_pending: IntGauge,
    pub proposals_failed: IntCounter,
    pub slow_applies: IntCounter,
    pub apply_seconds: Histogram,
    pub health_success: IntCounter,
    pub health_failures: IntCounter,
    pub healthcheck: IntGaugeVec,
    pub healthchecks: IntCounterVec,
    pub server_id: IntGaugeVec,
    pub server_version: IntGaugeVec,
    pub cluster_version: IntGaugeVec,
    pub alarms: IntGaugeVec,
    pub fd_used: IntGauge,
    pub fd_limit: IntGauge,
    pub process: Process,
}

/// What the operating system says of this process.
pub struct Process {
    pub resident_bytes: IntGauge,
    pub virtual_bytes: IntGauge,
    pub cpu_seconds: Gauge,
    pub open_fds: IntGauge,
    pub max_fds: IntGauge,
    pub start_seconds: Gauge,
    pub threads: IntGauge,
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
        let buckets = exponential_buckets(start, 2.0, count).expect("bounds are constants");
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }
}

impl Metrics {
    /// A fresh registry; `extensive` adds latency histograms per gRPC method.
    pub fn new(extensive: bool) -> Self {
        let registry = Registry::new();
        let m = Maker(&registry);
        let grpc_labels = ["grpc_type", "grpc_service", "grpc_method"];
        let code_labels = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        Self {
            grpc_started: m.counters(
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                &grpc_labels,
            ),
            grpc_handled: m.counters(
                "grpc_server_handled_total",
                "Total number of RPCs completed on the server, regardless of success or failure.",
                &code_labels,
            ),
            grpc_seconds: extensive.then(|| {
                m.keep(HistogramVec::new(
                    HistogramOpts::new(
                        "grpc_server_handling_seconds",
                        "Response latency (seconds) of RPCs handled by the server.",
                    ),
                    &grpc_labels,
                ))
            }),
            client_received_bytes: m.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes received from clients.",
            ),
            client_sent_bytes: m
                .counter("etcd_network_client_grpc_sent_bytes_total", "Bytes sent to clients."),
            client_requests: m.counters(
                "etcd_server_client_requests_total",
                "Client requests by kind and the API version the client states.",
                &["type", "client_api_version"],
            ),
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
            mvcc_events: m.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers."),
            mvcc_keys: m.gauge("etcd_debugging_mvcc_keys_total", "Live keys."),
            mvcc_revision: m.gauge("etcd_debugging_mvcc_current_revision", "The current revision."),
            mvcc_compact_revision: m
                .gauge("etcd_debugging_mvcc_compact_revision", "The last compaction's revision."),
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
            leases_granted: m.counter("etcd_debugging_lease_granted_total", "Leases granted."),
            leases_revoked: m.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
            leases_renewed: m.counter("etcd_debugging_lease_renewed_total", "Leases renewed."),
            leases_expired: m
                .counter("etcd_debugging_server_lease_expired_total", "Leases expired."),
            has_leader: m.gauge("etcd_server_has_leader", "Whether a leader is known."),
            is_leader: m.gauge("etcd_server_is_leader", "Whether this member leads."),
            is_learner: m.gauge("etcd_server_is_learner", "Whether this member is a learner."),
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
            slow_applies: m
                .counter("etcd_server_slow_apply_total", "Applies slower than the warning."),
            apply_seconds: m.seconds(
                "etcd_server_apply_duration_seconds",
                "How long applying a batch of entries takes.",
                0.0001,
                20,
            ),
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
            alarms: m.gauges(
                "etcd_debugging_server_alarms",
                "Alarms in force.",
                &["server_id", "alarm_type"],
            ),
            fd_used: m.gauge("os_fd_used", "File descriptors in use."),
            fd_limit: m.gauge("os_fd_limit", "The limit on file descriptors."),
            process: Process::new(&m),
            registry,
        }
    }

    /// The counters of a method, all of them present at zero.
    pub fn grpc_method(&self, kind: &str, service: &str, method: &str) -> GrpcMethod {
        let labels = [kind, service, method];
        GrpcMethod {
            started: self.grpc_started.with_label_values(&labels),
            handled: CODES
                .iter()
                .map(|code| self.grpc_handled.with_label_values(&[kind, service, method, code]))
                .collect(),
            seconds: self.grpc_seconds.as_ref().map(|vec| vec.with_label_values(&labels)),
        }
    }

    /// The exposition text.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory cannot fail");
        text
    }
}

impl Process {
    fn new(m: &Maker<'_>) -> Self {
        Self {
            resident_bytes: m.gauge("process_resident_memory_bytes", "Resident memory, in bytes."),
            virtual_bytes: m.gauge("process_virtual_memory_bytes", "Virtual memory, in bytes."),
            cpu_seconds: m.float("process_cpu_seconds_total", "User and system CPU seconds spent."),
            open_fds: m.gauge("process_open_fds", "Open file descriptors."),
            max_fds: m.gauge("process_max_fds", "The limit on open file descriptors."),
            start_seconds: m
                .float("process_start_time_seconds", "Start time, in seconds of Unix time."),
            threads: m.gauge("process_threads", "Threads of the process."),
        }
    }
}
