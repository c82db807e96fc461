//! Flags about what the outside sees of a member: metrics, log, traces.

use super::flag;
use crate::config::flag::Flag;
use crate::config::flag::Kind::{Bool, Duration, Signed, Text, Urls, Words};
use crate::config::flag::Status::{Built, Idle, Later};

const NO_TRACING: &str = "kvorum exports no traces";
const ROTATION: &str = "let logrotate or the supervisor rotate the log";

pub static MONITORING: [Flag; 3] = [
    flag(
        "enable-pprof",
        Bool,
        "false",
        "Serve Go profiles.",
        Idle("kvorum is no Go program; profile it with perf"),
    ),
    flag("metrics", Text, "basic", "basic, or extensive with times per method.", Built),
    flag("listen-metrics-urls", Urls, "", "Where metrics and health are served alone.", Built),
];

pub static LOGGING: [Flag; 7] = [
    flag("logger", Text, "zap", "The shape of the log; only zap.", Built),
    flag("log-outputs", Words, "default", "default, stdout, stderr, or files.", Built),
    flag("log-level", Text, "info", "debug, info, warn, error, panic or fatal.", Built),
    flag("log-format", Text, "json", "json or console.", Built),
    flag("enable-log-rotation", Bool, "false", "Rotate a log file.", Later(ROTATION)),
    flag(
        "log-rotation-config-json",
        Text,
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "How to rotate it.",
        Idle("kvorum rotates no log"),
    ),
    flag("warning-unary-request-duration", Duration, "300ms", "Slower requests are logged.", Built),
];

pub static TRACING: [Flag; 5] = [
    flag(
        "enable-distributed-tracing",
        Bool,
        "false",
        "Export traces.",
        Later("kvorum exports no traces yet; its metrics and log have the times"),
    ),
    flag("distributed-tracing-address", Text, "localhost:4317", "Where to.", Idle(NO_TRACING)),
    flag("distributed-tracing-service-name", Text, "etcd", "As what.", Idle(NO_TRACING)),
    flag("distributed-tracing-instance-id", Text, "", "As whom.", Idle(NO_TRACING)),
    flag(
        "distributed-tracing-sampling-rate",
        Signed,
        "0",
        "How many of a million.",
        Idle(NO_TRACING),
    ),
];
