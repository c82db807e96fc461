//! What passes between this member and each of the others.
//!
//! The series of a member are found once, when it is added, and all of them are there at zero; they
//! disappear when it is removed. Whoever still holds one then adds to a number that nobody sees.

use std::time::Instant;

use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Maker;

/// The series of all other members. Labels are their ids, in hexadecimal.
pub struct Peers {
    known: IntGaugeVec,
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_failures: IntCounterVec,
    received_failures: IntCounterVec,
    round_trip_seconds: HistogramVec,
    sends: TransferVecs,
    receives: TransferVecs,
}

/// Snapshots that go one way.
struct TransferVecs {
    inflight: IntGaugeVec,
    succeeded: IntCounterVec,
    failed: IntCounterVec,
    seconds: HistogramVec,
}

/// The series of one other member.
#[derive(Debug)]
pub struct Peer {
    /// Whether both of its streams are up.
    pub active: IntGauge,
    /// How often they were, and then were not.
    pub disconnected: IntCounter,
    pub sent_bytes: IntCounter,
    pub received_bytes: IntCounter,
    pub sent_failures: IntCounter,
    pub received_failures: IntCounter,
    pub round_trip_seconds: Histogram,
    pub sends: Transfers,
    pub receives: Transfers,
}

/// The snapshots to one member, or from it.
#[derive(Clone, Debug)]
pub struct Transfers {
    inflight: IntGauge,
    succeeded: IntCounter,
    failed: IntCounter,
    seconds: Histogram,
}

/// A snapshot under way. It has failed unless it is said to have arrived.
pub struct Transfer {
    series: Transfers,
    began: Instant,
    arrived: bool,
}

impl Transfers {
    /// A snapshot is on its way.
    pub fn begin(&self) -> Transfer {
        self.inflight.inc();
        Transfer { series: self.clone(), began: Instant::now(), arrived: false }
    }
}

impl Transfer {
    /// It was taken over.
    pub fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.series.inflight.dec();
        if self.arrived {
            self.series.succeeded.inc();
            self.series.seconds.observe(self.began.elapsed().as_secs_f64());
        } else {
            self.series.failed.inc();
        }
    }
}

impl Peers {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        let both = ["Local", "Remote"];
        Self {
            known: m.gauges(
                "etcd_network_known_peers",
                "Members this member knows, itself among them.",
                &both,
            ),
            active: m.gauges(
                "etcd_network_active_peers",
                "Whether both streams from a member are up.",
                &both,
            ),
            disconnected: m.counters(
                "etcd_network_disconnected_peers_total",
                "How often a member that was active no longer was.",
                &both,
            ),
            sent_bytes: m.counters(
                "etcd_network_peer_sent_bytes_total",
                "Bytes of messages and snapshots sent to a member.",
                &["To"],
            ),
            received_bytes: m.counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes of messages and snapshots received from a member.",
                &["From"],
            ),
            sent_failures: m.counters(
                "etcd_network_peer_sent_failures_total",
                "Messages and snapshots to a member that were lost, and streams that broke.",
                &["To"],
            ),
            received_failures: m.counters(
                "etcd_network_peer_received_failures_total",
                "Messages from a member that found no room.",
                &["From"],
            ),
            round_trip_seconds: m.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "How long a member takes to answer a probe, smoothed.",
                &["To"],
                (0.0001, 16),
            ),
            sends: TransferVecs::new(m, "send", "To"),
            receives: TransferVecs::new(m, "receive", "From"),
        }
    }

    /// This member knows one, which may be itself.
    pub fn know(&self, local: u64, id: u64) {
        self.known.with_label_values(&[format!("{local:x}"), format!("{id:x}")]).set(1);
    }

    /// The series of another member.
    pub fn of(&self, local: u64, id: u64) -> Peer {
        let one = [&*format!("{id:x}")];
        let both = [&*format!("{local:x}"), one[0]];
        Peer {
            active: self.active.with_label_values(&both),
            disconnected: self.disconnected.with_label_values(&both),
            sent_bytes: self.sent_bytes.with_label_values(&one),
            received_bytes: self.received_bytes.with_label_values(&one),
            sent_failures: self.sent_failures.with_label_values(&one),
            received_failures: self.received_failures.with_label_values(&one),
            round_trip_seconds: self.round_trip_seconds.with_label_values(&one),
            sends: self.sends.of(&one),
            receives: self.receives.of(&one),
        }
    }

    /// Removes the series of another member.
    pub fn forget(&self, local: u64, id: u64) {
        let one = [&*format!("{id:x}")];
        let both = [&*format!("{local:x}"), one[0]];
        remove(&self.known, &both);
        remove(&self.active, &both);
        remove(&self.disconnected, &both);
        remove(&self.sent_bytes, &one);
        remove(&self.received_bytes, &one);
        remove(&self.sent_failures, &one);
        remove(&self.received_failures, &one);
        remove(&self.round_trip_seconds, &one);
        self.sends.forget(&one);
        self.receives.forget(&one);
    }
}

impl TransferVecs {
    fn new(m: &Maker<'_>, way: &str, label: &str) -> Self {
        let name = |rest: &str| format!("etcd_network_snapshot_{way}_{rest}");
        let labels = [label];
        Self {
            inflight: m.gauges(&name("inflights_total"), "Snapshots under way.", &labels),
            succeeded: m.counters(&name("success"), "Snapshots that were taken over.", &labels),
            failed: m.counters(&name("failures"), "Snapshots that were not.", &labels),
            seconds: m.histograms(
                &name("total_duration_seconds"),
                "How long snapshots that were taken over took.",
                &labels,
                (0.1, 10),
            ),
        }
    }

    fn of(&self, labels: &[&str]) -> Transfers {
        Transfers {
            inflight: self.inflight.with_label_values(labels),
            succeeded: self.succeeded.with_label_values(labels),
            failed: self.failed.with_label_values(labels),
            seconds: self.seconds.with_label_values(labels),
        }
    }

    fn forget(&self, labels: &[&str]) {
        remove(&self.inflight, labels);
        remove(&self.succeeded, labels);
        remove(&self.failed, labels);
        remove(&self.seconds, labels);
    }
}

/// Removes a series. A member that was never talked to has none.
fn remove<B: MetricVecBuilder>(series: &MetricVec<B>, labels: &[&str]) {
    let _ = series.remove_label_values(labels);
}
