//! TLS on a listener: certificates that follow their files, client certificates, a deadline.
//!
//! - Certificate and key are read again when their files change, so rotation needs no restart. A
//!   broken file fails the handshakes that meet it and is logged; connections that stand go on.
//! - The CA file is read once, as etcd does.
//! - A client certificate is required as soon as a CA is configured.
//!
//! The provider is aws-lc-rs because it knows P-521, which etcd's own `--auto-tls` makes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Tls, TlsVersions};

/// Why a listener's TLS cannot be set up; the text tells the operator which file and why.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no usable certificate: {why}", path.display())]
    Certificate { path: PathBuf, why: String },
    #[error("{} holds no usable private key: {why}", path.display())]
    Key { path: PathBuf, why: String },
    #[error("--client-cert-auth needs --trusted-ca-file to check client certificates against")]
    NoCa,
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The rustls configuration of a listener.
pub fn server_config(tls: &Tls) -> Result<ServerConfig, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    if !tls.cipher_suites.is_empty() {
        // Suites of TLS 1.3 cannot be chosen, so they stay.
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            suite.tls13().is_some() || tls.cipher_suites.contains(&name)
        });
    }
    let provider = Arc::new(provider);
    let resolver = Arc::new(Resolver::new(tls, provider.clone())?);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls.versions))?;
    let builder = match &tls.trusted_ca_file {
        None if tls.client_cert_auth => return Err(TlsError::NoCa),
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| TlsError::Certificate {
                    path: path.clone(),
                    why: error.to_string(),
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| TlsError::Certificate {
                    path: path.clone(),
                    why: error.to_string(),
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn versions(versions: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    match versions {
        TlsVersions::Both => vec![&TLS13, &TLS12],
        TlsVersions::Only12 => vec![&TLS12],
        TlsVersions::Only13 => vec![&TLS13],
    }
}

/// Serves the certificate that the files hold now.
#[derive(Debug)]
struct Resolver {
    cert_file: PathBuf,
    key_file: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Mutex<(Stamp, Arc<CertifiedKey>)>,
}

/// When the two files last changed.
type Stamp = (Option<SystemTime>, Option<SystemTime>);

impl Resolver {
    fn new(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let stamp = stamp(&tls.cert_file, &tls.key_file);
        let key = load(&tls.cert_file, &tls.key_file, &provider)?;
        Ok(Self {
            cert_file: tls.cert_file.clone(),
            key_file: tls.key_file.clone(),
            provider,
            current: Mutex::new((stamp, Arc::new(key))),
        })
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let stamp = stamp(&self.cert_file, &self.key_file);
        let mut current = self.current.lock();
        if current.0 != stamp {
            match load(&self.cert_file, &self.key_file, &self.provider) {
                Ok(key) => *current = (stamp, Arc::new(key)),
                Err(error) => {
                    tracing::warn!(%error, "cannot reload the certificate; handshake refused");
                    return None;
                }
            }
        }
        Some(current.1.clone())
    }
}

fn stamp(cert_file: &Path, key_file: &Path) -> Stamp {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    (modified(cert_file), modified(key_file))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |why: String| TlsError::Certificate { path: path.to_owned(), why };
    let text = fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad("no PEM block of type CERTIFICATE".into()));
    }
    Ok(certificates)
}

fn load(
    cert_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let bad = |why: String| TlsError::Key { path: key_file.to_owned(), why };
    let chain = certificates(cert_file)?;
    let text = fs::read(key_file)
        .map_err(|source| TlsError::Read { path: key_file.to_owned(), source })?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| bad(error.to_string()))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| bad(error.to_string()))
}
