//! Flags about the cluster a member founds or joins.

use super::flag;
use crate::config::flag::Flag;
use crate::config::flag::Kind::{Bool, Choice, Duration, Text, Urls};
use crate::config::flag::Status::{Built, Idle, Later};

const NO_DISCOVERY: &str = "use --initial-cluster, or --discovery-srv to have DNS list the members";
const UNUSED: &str = "kvorum asks no discovery service";

pub static CLUSTERING: [Flag; 10] = [
    flag(
        "initial-advertise-peer-urls",
        Urls,
        "http://localhost:2380",
        "Where the founding members are told to reach this one.",
        Built,
    ),
    flag(
        "initial-cluster",
        Text,
        "default=http://localhost:2380",
        "The founding members as name=url pairs; a member with several URLs has several pairs.",
        Built,
    ),
    flag(
        "initial-cluster-state",
        Choice(&["new", "existing"]),
        "new",
        "Whether to found a cluster or join one. A member that has data ignores it.",
        Built,
    ),
    flag(
        "initial-cluster-token",
        Text,
        "etcd-cluster",
        "A word of the founders that keeps clusters with the same URLs apart.",
        Built,
    ),
    flag(
        "advertise-client-urls",
        Urls,
        "http://localhost:2379",
        "Where clients are told to reach this member.",
        Built,
    ),
    flag(
        "auto-compaction-mode",
        Text,
        "periodic",
        "What --auto-compaction-retention counts: periodic (time) or revision.",
        Built,
    ),
    flag(
        "auto-compaction-retention",
        Text,
        "0",
        "History to keep: hours or a duration such as 30m; revisions in revision mode; 0 is all.",
        Built,
    ),
    flag("strict-reconfig-check", Bool, "true", "Refuse changes that cost quorum.", Built),
    flag("pre-vote", Bool, "true", "Ask before an election, so that none is in vain.", Built),
    flag(
        "v2-deprecation",
        Choice(&["not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
        "write-only",
        "What becomes of etcd's v2 store.",
        Idle("etcd ignores it as well, and kvorum has no v2 store"),
    ),
];

pub static DISCOVERY: [Flag; 18] = [
    flag("discovery", Text, "", "URL of the v2 discovery service.", Later(NO_DISCOVERY)),
    flag("discovery-token", Text, "", "Token of the cluster to discover.", Later(NO_DISCOVERY)),
    flag("discovery-endpoints", Text, "", "Where to discover it.", Later(NO_DISCOVERY)),
    flag("discovery-dial-timeout", Duration, "2s", "Limit on connecting.", Idle(UNUSED)),
    flag("discovery-request-timeout", Duration, "5s", "Limit on a request.", Idle(UNUSED)),
    flag("discovery-keepalive-time", Duration, "2s", "Silence before a ping.", Idle(UNUSED)),
    flag("discovery-keepalive-timeout", Duration, "6s", "Limit on a ping.", Idle(UNUSED)),
    flag("discovery-insecure-transport", Bool, "true", "Discover without TLS.", Idle(UNUSED)),
    flag(
        "discovery-insecure-skip-tls-verify",
        Bool,
        "false",
        "Do not check the service's certificate.",
        Idle(UNUSED),
    ),
    flag("discovery-cert", Text, "", "Certificate to show the service.", Idle(UNUSED)),
    flag("discovery-key", Text, "", "Its key.", Idle(UNUSED)),
    flag("discovery-cacert", Text, "", "CA of the service.", Idle(UNUSED)),
    flag("discovery-user", Text, "", "User at the service.", Idle(UNUSED)),
    flag("discovery-password", Text, "", "Password at the service.", Idle(UNUSED)),
    flag(
        "discovery-fallback",
        Choice(&["exit", "proxy"]),
        "exit",
        "What to do when discovery fails.",
        Later("the v2 proxy is gone from etcd, too; leave it out"),
    ),
    flag("discovery-proxy", Text, "", "Proxy in front of the service.", Later(NO_DISCOVERY)),
    flag("discovery-srv", Text, "", "DNS domain whose SRV records list the members.", Built),
    flag("discovery-srv-name", Text, "", "What tells clusters of that domain apart.", Built),
];
