//! What an operator should know about a configuration that was taken. Collected while it is read,
//! logged once the log is there.

use tracing::{info, warn};

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A value was given that changes nothing.
    NoEffect {
        given: String,
        reason: &'static str,
    },
    /// An older name was used; the newer one has its value now.
    Renamed {
        given: String,
        successor: String,
    },
    /// An older name was used beside the newer one, which counts.
    Superseded {
        given: String,
        successor: &'static str,
    },
    /// A variable looks like etcd's and is not. Its value may be a secret and stays out of the log.
    UnknownVariable(String),
    /// A variable for a flag that only the command line has.
    SpecialVariable(String),
    /// A configuration file was read, and nothing else.
    File(String),
    /// A key of that file that is none there.
    UnknownKey(String),
    DefaultDataDir(String),
    /// Default advertise URLs, which name localhost, got this host's address instead.
    DefaultHost(String),
    /// Certificates are configured, and this URL does not use them.
    PlainUrl(String),
    /// Client certificates are asked for, and this URL cannot.
    PlainUrlNoClientCerts(String),
    /// A name stands several times in `--initial-cluster`, which is one member with several URLs.
    NameRepeated {
        name: String,
        urls: String,
    },
    /// `--log-outputs=systemd/journal`.
    Journal,
    CipherSuiteUnavailable(String),
}

impl Notice {
    /// Writes the remark to the log.
    pub fn log(&self) {
        match self {
            Self::NoEffect { given, reason } => {
                warn!(given, reason, "this setting has no effect in kvorum");
            }
            Self::Renamed { given, successor } => {
                warn!(given, successor, "this flag has a new name");
            }
            Self::Superseded { given, successor } => {
                warn!(given, successor, "this flag is ignored: the new name is given, too");
            }
            Self::UnknownVariable(variable) => {
                warn!(environment_variable = variable, "unrecognized environment variable");
            }
            Self::SpecialVariable(key) => warn!(key, "cannot set special environment variable"),
            Self::File(path) => info!(
                path,
                "loaded server configuration, other configuration command line flags and \
                 environment variables will be ignored if provided"
            ),
            Self::UnknownKey(key) => {
                warn!(key, "this key of the configuration file is not known there, and ignored");
            }
            Self::DefaultDataDir(data_dir) => {
                warn!(data_dir, "'data-dir' was empty; using default");
            }
            Self::DefaultHost(host) => info!(host, "detected default host for advertise"),
            Self::PlainUrl(client_url) => warn!(
                client_url,
                "scheme is http or unix while key and cert files are present; ignoring key and \
                 cert files"
            ),
            Self::PlainUrlNoClientCerts(client_url) => warn!(
                client_url,
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert \
                 auth for this URL"
            ),
            Self::NameRepeated { name, urls } => warn!(
                name,
                urls,
                "this name stands several times in --initial-cluster: that is one member with \
                 several URLs; if they are several members, give each a name of its own"
            ),
            Self::Journal => warn!("the log goes to stderr, which systemd puts in its journal"),
            Self::CipherSuiteUnavailable(cipher_suite) => {
                warn!(cipher_suite, "this cipher suite is not offered: TLS here has only AEAD");
            }
        }
    }
}
