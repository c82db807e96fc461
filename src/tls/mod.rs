//! TLS: certificates that follow their files, client certificates, and the door of a listener.
//!
//! - Certificate and key are looked at in every handshake, so rotation needs no restart. What
//!   cannot be used is logged, and the certificate loaded before stays; connections that stand go
//!   on.
//! - The CA file is read once, as etcd does.
//! - A client certificate is required as soon as a CA is configured, as etcd does.
//! - Sessions are not resumed: a client's certificate is checked in every handshake, and a
//!   connection costs no memory after it is gone. Clients of etcd keep connections, not sessions.
//!
//! The provider is aws-lc-rs because it knows P-521, which etcd's own `--auto-tls` makes.

mod door;
mod files;
mod fuzz;
mod leaf;
mod names;
mod peers;
mod refusals;
mod resolver;
mod screen;

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};

pub use door::{Caller, Door, First};
pub use fuzz::fuzz_certificates;
pub use peers::Peers;
pub use refusals::Endpoint;

use crate::config::{Tls, TlsVersions};
use files::Files;
use resolver::Resolver;

/// Why a listener's TLS cannot be set up; the text tells the operator which file and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the {what} file {}: {why}", path.display())]
    Read { what: &'static str, path: PathBuf, why: String },
    #[error(
        "{} holds no certificate: it needs PEM blocks that begin with -----BEGIN CERTIFICATE-----",
        .0.display()
    )]
    NoCertificate(PathBuf),
    #[error("the certificate in {} cannot be used: {why}", path.display())]
    Certificate { path: PathBuf, why: String },
    #[error(
        "{} holds no private key: it needs a PEM block that begins with -----BEGIN PRIVATE \
         KEY-----, -----BEGIN EC PRIVATE KEY----- or -----BEGIN RSA PRIVATE KEY-----",
        .0.display()
    )]
    NoKey(PathBuf),
    #[error(
        "the private key in {path} is encrypted, and nobody is there to type its passphrase; \
         write one without: openssl pkey -in {path} -out FILE", path = .0.display()
    )]
    EncryptedKey(PathBuf),
    #[error("the private key in {} cannot be used: {why}", path.display())]
    Key { path: PathBuf, why: String },
    #[error(
        "the private key in {} does not match the public key of the first certificate in {}",
        key_file.display(), cert_file.display()
    )]
    Mismatch { cert_file: PathBuf, key_file: PathBuf },
    #[error(
        "--client-cert-auth without --trusted-ca-file would let in the clients of every CA this \
         machine trusts; name the CA that signs your clients' certificates"
    )]
    NoCa,
    #[error(
        "without --peer-trusted-ca-file no certificate of another member can be verified; name the \
         CA that signs them"
    )]
    NoPeerCa,
    #[error(
        "--peer-client-cert-file and --peer-client-key-file must both be present or both absent \
         [key: {}, cert: {}]",
        key.display(), cert.display()
    )]
    HalfPeerClient { cert: PathBuf, key: PathBuf },
    #[error(
        "--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive \
         (cns=[{names}], hostnames=[{hosts}])"
    )]
    TwoLists { names: String, hosts: String },
    #[error("--peer-cert-allowed-hostname: {0:?} is neither a host name nor an address")]
    AllowedHostname(String),
    #[error("{0}")]
    Crl(String),
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    fn read(what: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Read { what, path: path.to_owned(), why: error.to_string() }
    }
}

/// The rustls configuration of a listener for clients.
pub fn server_config(tls: &Tls) -> Result<ServerConfig, TlsError> {
    let provider = provider(tls);
    let clients = match &tls.trusted_ca_file {
        Some(path) => Some(verifier(path, Arc::new(roots(path)?), provider.clone())?),
        None if tls.client_cert_auth => return Err(TlsError::NoCa),
        None => None,
    };
    let mut config = listener_config(tls, &provider, clients)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What every listener has.
fn listener_config(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
    callers: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, TlsError> {
    let resolver = Arc::new(Resolver::new(certificate_of(tls), provider.clone())?);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls.versions))?;
    let builder = match callers {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Gathers the randomness of this thread. The provider measures the jitter of the processor for it,
/// a tenth of a second long, which the first client and all others of its thread would wait for.
pub fn warm_up() {
    // A failure would come again in the handshake that needs it, and is told there.
    let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0]);
}

/// The cryptography that the configuration leaves.
fn provider(tls: &Tls) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !tls.cipher_suites.is_empty() {
        // Suites of TLS 1.3 cannot be chosen, so they stay.
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            suite.tls13().is_some() || tls.cipher_suites.contains(&name)
        });
    }
    Arc::new(provider)
}

fn certificate_of(tls: &Tls) -> Files {
    Files { cert_file: tls.cert_file.clone(), key_file: tls.key_file.clone() }
}

/// The authorities in a file.
fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates("CA", path)? {
        roots.add(certificate).map_err(|error| bad_ca(path, &error))?;
    }
    Ok(roots)
}

/// Requires certificates that these authorities signed.
fn verifier(
    path: &Path,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    verifier.map_err(|error| bad_ca(path, &error))
}

fn bad_ca(path: &Path, why: &dyn Display) -> TlsError {
    TlsError::Certificate { path: path.to_owned(), why: why.to_string() }
}

fn versions(versions: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    match versions {
        TlsVersions::Both => vec![&TLS13, &TLS12],
        TlsVersions::Only12 => vec![&TLS12],
        TlsVersions::Only13 => vec![&TLS13],
    }
}
