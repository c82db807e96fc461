//! What was done to the store, in the numbers that etcd has of it: `etcd_mvcc_*_total`.
//!
//! Every member counts what it applies, whoever asked for it, and the reads that it answers. What
//! was refused did nothing and counts for nothing.

use crate::machine::Counts;
use crate::metrics::Metrics;

/// Counts what was done.
pub fn tally(metrics: &Metrics, counts: &Counts) {
    let Counts { ranges, puts, deletes, put_bytes, txns } = *counts;
    for (counter, count) in [
        (&metrics.mvcc_ranges, ranges),
        (&metrics.mvcc_puts, puts),
        (&metrics.mvcc_deletes, deletes),
        (&metrics.mvcc_txns, txns),
    ] {
        if count > 0 {
            counter.inc_by(count);
        }
    }
    if put_bytes > 0 {
        metrics.mvcc_put_bytes.add(put_bytes);
    }
}
