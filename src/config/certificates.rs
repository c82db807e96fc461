//! The TLS settings of both kinds of listener, from flags to [`Tls`] and [`PeerTls`].
//!
//! Files are not opened here: `tls` does, and says which one is wrong.

use std::path::PathBuf;

use super::notice::Notice;
use super::refusal::Refusal;
use super::values::Values;

/// Certificates of one kind of listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Clients must show a certificate that this CA signed.
    pub trusted_ca_file: Option<PathBuf>,
    pub client_cert_auth: bool,
    pub versions: TlsVersions,
    /// The suites of TLS 1.2 that may be used, by their IANA names; empty is all there are.
    pub cipher_suites: Vec<String>,
}

/// What members show each other, and whom they let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTls {
    pub listener: Tls,
    /// Shown when this member calls a peer, if it is not the listener's.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub crl_file: Option<PathBuf>,
    /// A peer's certificate must have one of these common names; empty is any.
    pub allowed_cn: Vec<String>,
    /// A peer's certificate must have one of these host names; empty is any.
    pub allowed_hostname: Vec<String>,
    pub skip_client_san_verification: bool,
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    #[default]
    Both,
    Only12,
    Only13,
}

/// The suites of TLS 1.2 that kvorum has. All are ECDHE with AEAD.
const SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// What etcd knows besides: the suites of TLS 1.3, which cannot be chosen, and older ones.
const OTHER_SUITES: [&str; 19] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// What client and peer listeners have in common.
pub struct Common {
    versions: TlsVersions,
    cipher_suites: Vec<String>,
}

/// Reads the settings that hold for every listener.
pub fn common(values: &Values, notices: &mut Vec<Notice>) -> Result<Common, Refusal> {
    let versions = versions(values.text("tls-min-version"), values.text("tls-max-version"))?;
    let asked = values.words("cipher-suites");
    if versions == TlsVersions::Only13 && !asked.is_empty() {
        return Err(Refusal::CiphersOfTls13);
    }
    let cipher_suites = cipher_suites(&asked, notices)?;
    Ok(Common { versions, cipher_suites })
}

fn versions(min: &str, max: &str) -> Result<TlsVersions, Refusal> {
    let is_13 = |text: &str, empty: bool| match text {
        "" => Ok(empty),
        "TLS1.2" => Ok(false),
        "TLS1.3" => Ok(true),
        other => Err(Refusal::TlsVersion(other.to_owned())),
    };
    match (is_13(min, false)?, is_13(max, true)?) {
        (false, true) => Ok(TlsVersions::Both),
        (false, false) => Ok(TlsVersions::Only12),
        (true, true) => Ok(TlsVersions::Only13),
        (true, false) => Err(Refusal::TlsVersionOrder),
    }
}

fn cipher_suites(asked: &[String], notices: &mut Vec<Notice>) -> Result<Vec<String>, Refusal> {
    let mut suites = Vec::new();
    for name in asked {
        // Two suites have a shorter name in Go, and etcd takes both.
        let full = match &**name {
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
                &format!("{name}_SHA256")
            }
            _ => name,
        };
        if SUITES.contains(&&**full) {
            suites.push(full.clone());
        } else if OTHER_SUITES.contains(&&**name) {
            notices.push(Notice::CipherSuiteUnavailable(name.clone()));
        } else {
            return Err(Refusal::CipherSuite(name.clone()));
        }
    }
    if suites.is_empty() && !asked.is_empty() {
        return Err(Refusal::NoCipherSuite);
    }
    Ok(suites)
}

/// The certificates of the client listeners, if there are any.
pub fn client(values: &Values, common: &Common) -> Result<Option<Tls>, Refusal> {
    listener(values, common, ["cert-file", "key-file", "trusted-ca-file", "client-cert-auth"])
}

/// The certificates of the peer listeners, if there are any.
pub fn peer(values: &Values, common: &Common) -> Result<Option<PeerTls>, Refusal> {
    let names =
        ["peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-auth"];
    let Some(listener) = listener(values, common, names)? else { return Ok(None) };
    Ok(Some(PeerTls {
        listener,
        client_cert_file: path(values, "peer-client-cert-file"),
        client_key_file: path(values, "peer-client-key-file"),
        crl_file: path(values, "peer-crl-file"),
        allowed_cn: values.words("peer-cert-allowed-cn"),
        allowed_hostname: values.words("peer-cert-allowed-hostname"),
        skip_client_san_verification: values.bool("peer-skip-client-san-verification"),
    }))
}

fn listener(
    values: &Values,
    common: &Common,
    [cert, key, ca, auth]: [&str; 4],
) -> Result<Option<Tls>, Refusal> {
    let (cert, key) = (path(values, cert), path(values, key));
    let (cert_file, key_file) = match (cert, key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (cert, key) => {
            return Err(Refusal::HalfCertificate {
                key: key.unwrap_or_default(),
                cert: cert.unwrap_or_default(),
            });
        }
    };
    Ok(Some(Tls {
        cert_file,
        key_file,
        trusted_ca_file: path(values, ca),
        client_cert_auth: values.bool(auth),
        versions: common.versions,
        cipher_suites: common.cipher_suites.clone(),
    }))
}

fn path(values: &Values, name: &str) -> Option<PathBuf> {
    Some(values.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
}
