//! Why a command line is not taken: the one list of what an operator may be told before a member
//! starts. Words are etcd's where etcd has words for it; scripts and people know them.

use std::io;
use std::path::PathBuf;

use super::duration::DurationError;
use super::flag::ValueError;
use super::url::UrlError;

/// Why there is no [`Config`](super::Config).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("flag provided but not defined: -{0}")]
    UnknownFlag(String),
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    #[error("flag needs an argument: -{0}")]
    NoArgument(&'static str),
    #[error("invalid value {value:?} for flag -{flag}: {why}")]
    BadValue { flag: &'static str, value: String, why: ValueError },
    #[error("invalid boolean value {value:?} for -{flag}: parse error")]
    BadBool { flag: &'static str, value: String },
    #[error("{0:?} is not a valid flag")]
    Stray(String),
    #[error("{0:?} is not valid UTF-8")]
    NotUnicode(String),
    #[error("invalid value {value:?} for {variable}: {why}")]
    BadVariable { variable: String, value: String, why: ValueError },
    #[error("open {path}: {why}")]
    NoFile { path: String, why: String },
    #[error("error converting YAML to JSON: yaml: {0}")]
    FileSyntax(String),
    #[error("{key} in the configuration file is to be {wanted}, not {found}")]
    FileType { key: String, wanted: &'static str, found: String },
    #[error("invalid value {value:?} for {key} in the configuration file: {why}")]
    BadKey { key: String, value: String, why: ValueError },
    /// The same option on the command line and in the environment: neither may win in silence.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag \
         (either unset environment variable or disable flag))"
    )]
    Shadowed { variable: String },
    #[error("{given} is not available in this version of kvorum: {advice}")]
    Later { given: String, advice: &'static str },

    #[error("expected IP in URL for binding ({0})")]
    NotBindable(String),
    #[error(
        "--advertise-client-urls {urls:?} must be in the format \"host:port\", \
         \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host ({url}))"
    )]
    NoClientHost { urls: String, url: String },
    #[error(
        "--initial-advertise-peer-urls {urls:?} must be \"host:port\" \
         (unexpected empty host ({url}))"
    )]
    NoPeerHost { urls: String, url: String },
    #[error("--{0} must name at least one URL")]
    NoUrl(&'static str),
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    NoAdvertise,
    #[error("--{0} must be >0 (set to 0ms)")]
    ZeroTicks(&'static str),
    #[error(
        "--election-timeout[{election}ms] should be at least as 5 times as \
         --heartbeat-interval[{heartbeat}ms]"
    )]
    ShortElection { election: u64, heartbeat: u64 },
    #[error(
        "--election-timeout[{0}ms] is too long, and should be set less than {max}ms",
        max = super::checks::ELECTION_TIMEOUT_MS_MAX
    )]
    LongElection(u64),
    #[error("--{flag} must not be negative (set to {value})")]
    Negative { flag: &'static str, value: String },
    #[error("--{0} must be >0 (set to 0)")]
    Zero(&'static str),
    #[error("--{flag} is at most {max} (set to {value})")]
    TooMany { flag: &'static str, value: u64, max: u64 },
    #[error("--compact-hash-check-time must be >0 (set to 0s)")]
    ZeroHashCheck,
    #[error("undefined auto-compaction-mode")]
    NoCompactionMode,
    #[error("unknown auto-compaction-mode {0:?}")]
    CompactionMode(String),
    #[error("error parsing CompactionRetention: {0}")]
    Retention(DurationError),
    #[error("--auto-compaction-retention is too long (set to {0})")]
    LongRetention(String),
    #[error(
        "--auto-compaction-retention is a number of revisions in revision mode (set to {0}); \
         for a time say --auto-compaction-mode=periodic"
    )]
    RevisionRetention(String),
    #[error("error setting up initial cluster: {0}")]
    InitialCluster(UrlError),
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery-endpoints\" or \"discovery-srv\""
    )]
    SeveralBeginnings,

    #[error(
        "TLS key/cert (--cert-file, --key-file) must be provided for client url {0} with HTTPS \
         scheme"
    )]
    NoCertificate(String),
    #[error(
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
    )]
    NoMetricsCertificate,
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    NoPeerCertificate(String),
    #[error(
        "KeyFile and CertFile must both be present[key: {}, cert: {}]",
        key.display(), cert.display()
    )]
    HalfCertificate { key: PathBuf, cert: PathBuf },
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    TlsVersion(String),
    #[error("min version (TLS1.3) is greater than max version (TLS1.2)")]
    TlsVersionOrder,
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    CiphersOfTls13,
    #[error("unexpected TLS cipher suite {0:?}")]
    CipherSuite(String),
    #[error(
        "none of --cipher-suites is one that kvorum has; name at least one ECDHE suite with \
         AES-GCM or CHACHA20-POLY1305"
    )]
    NoCipherSuite,

    #[error("unknown logger option {0:?}")]
    Logger(String),
    #[error("unrecognized level: {0:?}")]
    LogLevel(String),
    #[error("unknown log format: {0}, supported values json, console")]
    LogFormat(String),
    #[error("multi logoutput for \"default\" is not supported yet")]
    LogOutputs,
    #[error("open sink \"\": open : no such file or directory")]
    EmptyLogOutput,
}

impl Refusal {
    /// A file that cannot be read, in the words of etcd.
    pub fn no_file(path: &str, error: &io::Error) -> Self {
        let text = error.to_string();
        let why = text.split(" (os error").next().unwrap_or_default().to_ascii_lowercase();
        Self::NoFile { path: path.to_owned(), why }
    }

    /// Whether the command line itself could not be read. Then the usage helps, and the exit code
    /// is 2; what was read and is not possible exits with 1.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::UnknownFlag(_)
                | Self::BadSyntax(_)
                | Self::NoArgument(_)
                | Self::BadValue { .. }
                | Self::BadBool { .. }
        )
    }
}
