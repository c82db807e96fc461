//! Names of older etcds that manifests still carry. etcd 3.7 does not start with most of them; here
//! they lead to what they became, or are taken when they ask for nothing.

use super::flag;
use crate::config::flag::Flag;
use crate::config::flag::Kind::{Bool, Dropped, Duration, Signed, Text, Unsigned};
use crate::config::flag::Status::{self, Gate, Idle, Later, Renamed};

const GONE: Status = Idle("etcd ignores it as well");
const NO_V2: Status = Later("the v2 API is gone from etcd, too; use the v3 API");
const NO_PROXY: Status = Later("the v2 proxy is gone from etcd, too; leave it out");
const UNUSED: Status = Idle("the v2 proxy it belongs to is gone");

pub static LEGACY: [Flag; 46] = [
    flag("cluster-active-size", Dropped, "", "", GONE),
    flag("cluster-remove-delay", Dropped, "", "", GONE),
    flag("cluster-sync-interval", Dropped, "", "", GONE),
    flag("config", Dropped, "", "", GONE),
    flag("force", Dropped, "", "", GONE),
    flag("max-result-buffer", Dropped, "", "", GONE),
    flag("max-retry-attempts", Dropped, "", "", GONE),
    flag("peer-heartbeat-interval", Dropped, "", "", GONE),
    flag("peer-election-timeout", Dropped, "", "", GONE),
    flag("retry-interval", Dropped, "", "", GONE),
    flag("snapshot", Dropped, "", "", GONE),
    flag("v", Dropped, "", "", GONE),
    flag("vv", Dropped, "", "", GONE),
    flag("test.coverprofile", Dropped, "", "", GONE),
    flag("test.outputdir", Dropped, "", "", GONE),
    flag("enable-v2", Bool, "false", "", NO_V2),
    flag("experimental-enable-v2v3", Text, "", "", NO_V2),
    flag("proxy", Text, "off", "", NO_PROXY),
    flag("proxy-failure-wait", Unsigned, "5000", "", UNUSED),
    flag("proxy-refresh-interval", Unsigned, "30000", "", UNUSED),
    flag("proxy-dial-timeout", Unsigned, "1000", "", UNUSED),
    flag("proxy-write-timeout", Unsigned, "5000", "", UNUSED),
    flag("proxy-read-timeout", Unsigned, "0", "", UNUSED),
    flag("experimental-initial-corrupt-check", Bool, "false", "", Gate("InitialCorruptCheck")),
    flag("experimental-compact-hash-check-enabled", Bool, "false", "", Gate("CompactHashCheck")),
    flag("experimental-enable-lease-checkpoint", Bool, "false", "", Gate("LeaseCheckpoint")),
    flag(
        "experimental-enable-lease-checkpoint-persist",
        Bool,
        "false",
        "",
        Gate("LeaseCheckpointPersist"),
    ),
    flag(
        "experimental-txn-mode-write-with-shared-buffer",
        Bool,
        "true",
        "",
        Gate("TxnModeWriteWithSharedBuffer"),
    ),
    flag(
        "experimental-stop-grpc-service-on-defrag",
        Bool,
        "false",
        "",
        Gate("StopGRPCServiceOnDefrag"),
    ),
    renamed("experimental-watch-progress-notify-interval", Duration),
    renamed("experimental-compact-hash-check-time", Duration),
    renamed("experimental-corrupt-check-time", Duration),
    renamed("experimental-compaction-batch-limit", Signed),
    renamed("experimental-compaction-sleep-interval", Duration),
    renamed("experimental-downgrade-check-time", Duration),
    renamed("experimental-warning-apply-duration", Duration),
    renamed("experimental-warning-unary-request-duration", Duration),
    renamed("experimental-memory-mlock", Bool),
    renamed("experimental-bootstrap-defrag-threshold-megabytes", Unsigned),
    renamed("experimental-peer-skip-client-san-verification", Bool),
    renamed("experimental-snapshot-catchup-entries", Unsigned),
    renamed("experimental-enable-distributed-tracing", Bool),
    renamed("experimental-distributed-tracing-address", Text),
    renamed("experimental-distributed-tracing-service-name", Text),
    renamed("experimental-distributed-tracing-instance-id", Text),
    renamed("experimental-distributed-tracing-sampling-rate", Signed),
];

/// A flag that lost the prefix `experimental-` and nothing else.
const fn renamed(name: &'static str, kind: crate::config::flag::Kind) -> Flag {
    let (_, successor) = name.split_at("experimental-".len());
    flag(name, kind, "", "", Renamed(successor))
}
