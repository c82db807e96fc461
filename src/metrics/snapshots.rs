//! Whole states of other members, from their first byte to where they take the place of ours.

use prometheus::{Histogram, IntGauge};

use super::Maker;

/// The states that this member takes in.
pub struct Snapshots {
    /// Whether one is taking the place of ours.
    pub applying: IntGauge,
    /// From its first byte to where it lies beside ours, durably.
    pub save_seconds: Histogram,
    /// The part of that after its last byte: the file is read into an engine, which syncs it.
    pub sync_seconds: Histogram,
}

impl Snapshots {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        Self {
            applying: m.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "Whether a snapshot of another member is being applied.",
            ),
            save_seconds: m.seconds(
                "etcd_snap_db_save_total_duration_seconds",
                "How long taking in a snapshot of another member takes.",
                0.1,
                10,
            ),
            sync_seconds: m.seconds(
                "etcd_snap_db_fsync_duration_seconds",
                "How long making a snapshot of another member durable takes.",
                0.001,
                14,
            ),
        }
    }
}
