//! Flags about TLS, web access and users.

use super::flag;
use crate::config::flag::Flag;
use crate::config::flag::Kind::{Bool, Origins, Text, Unsigned, Words};
use crate::config::flag::Status::{Built, Idle, Later};

const OWN_CERTIFICATES: &str = "make certificates and name them with --cert-file and --key-file";
const NO_AUTO: &str = "kvorum makes no certificates of its own";
const NO_SELF_CALLS: &str = "kvorum does not call itself, so it needs no client certificate";
const NO_USERS: &str = "this version of kvorum has no users and no tokens";

pub static SECURITY: [Flag; 25] = [
    flag("cert-file", Text, "", "Certificate shown to clients.", Built),
    flag("key-file", Text, "", "Its key.", Built),
    flag("client-cert-auth", Bool, "false", "Ask clients for certificates.", Built),
    flag("client-cert-file", Text, "", "Certificate for own requests.", Idle(NO_SELF_CALLS)),
    flag("client-key-file", Text, "", "Its key.", Idle(NO_SELF_CALLS)),
    flag(
        "client-crl-file",
        Text,
        "",
        "Client certificates that are revoked.",
        Later("revoke by giving clients certificates of another CA"),
    ),
    flag(
        "client-cert-allowed-hostname",
        Words,
        "",
        "Names of which a client certificate must carry one.",
        Later("let the CA of --trusted-ca-file sign only the clients you allow"),
    ),
    flag("trusted-ca-file", Text, "", "CA that signs client certificates.", Built),
    flag("auto-tls", Bool, "false", "Make a certificate for clients.", Later(OWN_CERTIFICATES)),
    flag("peer-cert-file", Text, "", "Certificate shown to peers.", Built),
    flag("peer-key-file", Text, "", "Its key.", Built),
    flag("peer-client-cert-auth", Bool, "false", "Ask peers for certificates.", Built),
    flag("peer-client-cert-file", Text, "", "Certificate for requests to peers.", Built),
    flag("peer-client-key-file", Text, "", "Its key.", Built),
    flag("peer-trusted-ca-file", Text, "", "CA that signs peer certificates.", Built),
    flag("peer-cert-allowed-cn", Words, "", "Common names peers may have.", Built),
    flag("peer-cert-allowed-hostname", Words, "", "Host names peers may have.", Built),
    flag(
        "peer-auto-tls",
        Bool,
        "false",
        "Make a certificate for peers.",
        Later("make certificates and name them with --peer-cert-file and --peer-key-file"),
    ),
    flag(
        "self-signed-cert-validity",
        Unsigned,
        "1",
        "Years a certificate of --auto-tls is good for.",
        Idle(NO_AUTO),
    ),
    flag("peer-crl-file", Text, "", "Peer certificates that are revoked.", Built),
    flag("cipher-suites", Words, "", "Cipher suites of TLS 1.2, by Go's names.", Built),
    flag("cors", Origins, "*", "Web pages that may call, by origin; * is all.", Built),
    flag(
        "host-whitelist",
        Words,
        "*",
        "Host names that plain-text requests may ask for.",
        Later("serve TLS, or listen only where trusted clients are"),
    ),
    flag("tls-min-version", Text, "TLS1.2", "Oldest TLS version: TLS1.2 or TLS1.3.", Built),
    flag("tls-max-version", Text, "", "Newest TLS version; empty is the newest known.", Built),
];

pub static AUTH: [Flag; 3] = [
    flag(
        "auth-token",
        Text,
        "simple",
        "What kind of tokens users get.",
        Later("this version of kvorum has no users; leave it out"),
    ),
    flag("bcrypt-cost", Unsigned, "10", "Effort put into password hashes.", Idle(NO_USERS)),
    flag("auth-token-ttl", Unsigned, "300", "Seconds a token is good for.", Idle(NO_USERS)),
];
