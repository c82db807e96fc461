//! Flags about the member itself: where it lives, what it listens on, what it allows.

use super::flag;
use crate::config::flag::Flag;
use crate::config::flag::Kind::{
    Bool, Choice, Duration, Gates, Signed, Text, Unsigned, Unsigned32, Urls,
};
use crate::config::flag::Status::{Built, Idle};

const BBOLT: &str = "it tunes etcd's bbolt, which kvorum does not use";

const FIVE: &str = "a peer that is silent, or takes nothing, is given up after 5 s";

pub static MEMBER: [Flag; 31] = [
    flag("name", Text, "default", "The member's name, for people.", Built),
    flag("data-dir", Text, "", "Where all state lives. Empty means <name>.etcd.", Built),
    flag("wal-dir", Text, "", "Another directory for the write-ahead log alone.", Built),
    flag(
        "snapshot-count",
        Unsigned,
        "10000",
        "Entries applied between log compactions.",
        Idle("the log is compacted whenever the state has reached the disk"),
    ),
    flag(
        "snapshot-catchup-entries",
        Unsigned,
        "5000",
        "Log entries kept behind a log compaction for members that lag.",
        Built,
    ),
    flag("heartbeat-interval", Unsigned, "100", "Milliseconds between heartbeats.", Built),
    flag(
        "election-timeout",
        Unsigned,
        "1000",
        "Milliseconds without a leader before an election; five heartbeats at least.",
        Built,
    ),
    flag(
        "initial-election-tick-advance",
        Bool,
        "true",
        "Shorten the wait for the first election after a start.",
        Built,
    ),
    flag(
        "listen-peer-urls",
        Urls,
        "http://localhost:2380",
        "Where other members reach this one.",
        Built,
    ),
    flag(
        "listen-client-urls",
        Urls,
        "http://localhost:2379",
        "Where clients are served: gRPC, and HTTP unless --listen-client-http-urls is given.",
        Built,
    ),
    flag(
        "listen-client-http-urls",
        Urls,
        "",
        "Where clients are served HTTP alone; the client URLs then serve gRPC alone.",
        Built,
    ),
    flag(
        "max-snapshots",
        Unsigned,
        "5",
        "Snapshot files to keep.",
        Idle("kvorum writes no snapshot files of its own"),
    ),
    flag(
        "max-wals",
        Unsigned,
        "5",
        "Log files to keep.",
        Idle("kvorum keeps the log files it needs and no others"),
    ),
    flag(
        "memory-mlock",
        Bool,
        "false",
        "Lock memory against swapping.",
        Idle("kvorum does not lock memory; switch swap off instead"),
    ),
    flag(
        "quota-backend-bytes",
        Signed,
        "0",
        "Bytes of data before writes are refused; 0 is 2 GiB, negative is no limit.",
        Built,
    ),
    flag("backend-bbolt-freelist-type", Text, "map", "How bbolt keeps free pages.", Idle(BBOLT)),
    flag("backend-batch-interval", Duration, "0", "When bbolt commits.", Idle(BBOLT)),
    flag("backend-batch-limit", Signed, "0", "After what bbolt commits.", Idle(BBOLT)),
    flag("max-txn-ops", Unsigned, "128", "Operations allowed in one transaction.", Built),
    flag("max-request-bytes", Unsigned, "1572864", "Bytes allowed in one request.", Built),
    flag(
        "max-concurrent-streams",
        Unsigned32,
        "4294967295",
        "Requests a connection may have open at once.",
        Built,
    ),
    flag(
        "grpc-keepalive-min-time",
        Duration,
        "5s",
        "The shortest time clients leave between pings.",
        Idle("kvorum answers pings however often they come"),
    ),
    flag(
        "grpc-keepalive-interval",
        Duration,
        "2h",
        "Silence after which the server pings a client; 0 is never.",
        Built,
    ),
    flag(
        "grpc-keepalive-timeout",
        Duration,
        "20s",
        "How long such a ping may stay unanswered.",
        Built,
    ),
    flag(
        "socket-reuse-port",
        Bool,
        "false",
        "Let several processes listen on one port.",
        Idle("kvorum shares its ports with nobody"),
    ),
    flag(
        "socket-reuse-address",
        Bool,
        "false",
        "Take over an address that lingers in TIME_WAIT.",
        Idle("kvorum always does"),
    ),
    flag(
        "enable-grpc-gateway",
        Bool,
        "true",
        "Serve the JSON gateway under /v3/.",
        Idle("this version has no JSON gateway"),
    ),
    flag("raft-read-timeout", Duration, "5s", "Limit on reads from a peer.", Idle(FIVE)),
    flag("raft-write-timeout", Duration, "5s", "Limit on writes to a peer.", Idle(FIVE)),
    flag("feature-gates", Gates, "", "Gate=true|false pairs, by etcd's names.", Built),
    flag(
        "config-file",
        Text,
        "",
        "A file of settings in YAML; flags and variables are ignored then.",
        Built,
    ),
];

pub static OWN: [Flag; 3] = [
    flag(
        "auto-replace",
        Bool,
        "false",
        "A member whose log or vote is lost is replaced as a learner with a new id, by itself.",
        Built,
    ),
    flag("storage-engine", Choice(&["redb", "sled"]), "redb", "What holds the state.", Built),
    flag("worker-threads", Unsigned, "0", "Threads that serve; 0 is one per core.", Built),
];

pub static FEATURES: [Flag; 10] = [
    flag(
        "corrupt-check-time",
        Duration,
        "0s",
        "How often the leader compares all rows of all members; 0 is never.",
        Built,
    ),
    flag(
        "compact-hash-check-time",
        Duration,
        "1m",
        "How often the leader compares hashes of compactions.",
        Built,
    ),
    flag(
        "compaction-batch-limit",
        Signed,
        "0",
        "Revisions a compaction removes before it lets others work; 0 is 1000.",
        Built,
    ),
    flag("compaction-sleep-interval", Duration, "0", "How long it then rests; 0 is 10ms.", Built),
    flag(
        "peer-skip-client-san-verification",
        Bool,
        "false",
        "Do not compare a peer's certificate with its address.",
        Built,
    ),
    flag(
        "watch-progress-notify-interval",
        Duration,
        "0",
        "How often a silent watch is told where it is; 0 is 10m.",
        Built,
    ),
    flag("warning-apply-duration", Duration, "100ms", "Slower applies are logged.", Built),
    flag(
        "bootstrap-defrag-threshold-megabytes",
        Unsigned,
        "0",
        "Defragment at the start if that frees so much.",
        Idle("kvorum reuses free space; `etcdctl defrag` returns it to the disk"),
    ),
    flag("max-learners", Signed, "1", "Learners allowed in the cluster.", Built),
    flag(
        "downgrade-check-time",
        Duration,
        "5s",
        "How often a downgrade is looked after.",
        Idle("kvorum has no downgrades"),
    ),
];

pub static UNSAFE: [Flag; 2] = [
    flag(
        "force-new-cluster",
        Bool,
        "false",
        "Turn this member's data into a cluster of one.",
        Built,
    ),
    flag(
        "unsafe-no-fsync",
        Bool,
        "false",
        "Do not wait for the disk. What was acknowledged is lost with the power.",
        Built,
    ),
];
