//! Certificate and key files: what is read from them, and what is said when it cannot be used.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// Where a certificate and its key are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// What the two files hold.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    pub cert: Vec<u8>,
    pub key: Vec<u8>,
}

impl Files {
    pub fn read(&self) -> Result<Contents, TlsError> {
        let cert = read("certificate", &self.cert_file)?;
        let key = read("key", &self.key_file)?;
        Ok(Contents { cert, key })
    }

    /// The certificate and key in `contents`, which belong to each other.
    pub fn parse(
        &self,
        contents: &Contents,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, TlsError> {
        let chain = parse_certificates(&self.cert_file, &contents.cert)?;
        let key = parse_key(&self.key_file, &contents.key)?;
        let key = provider.key_provider.load_private_key(key).map_err(|error| TlsError::Key {
            path: self.key_file.clone(),
            why: error.to_string(),
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
            Err(Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                cert_file: self.cert_file.clone(),
                key_file: self.key_file.clone(),
            }),
            Err(error) => {
                let (path, why) = (self.cert_file.clone(), error.to_string());
                Err(TlsError::Certificate { path, why })
            }
        }
    }
}

/// The certificates in a file, at least one.
pub(super) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    parse_certificates(path, &read(what, path)?)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::read(what, path, &error))
}

pub(super) fn parse_certificates(
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Certificate { path: path.to_owned(), why: explain(&error) })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn parse_key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    // PKCS#8 says so in the name of the block, the older forms in a header inside it.
    if ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| text.windows(mark.len()).any(|window| window == mark.as_bytes()))
    {
        return Err(TlsError::EncryptedKey(path.to_owned()));
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(text);
    match keys.next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(TlsError::Key { path: path.to_owned(), why: explain(&error) }),
        None => Err(TlsError::NoKey(path.to_owned())),
    }
}

/// The words of the PEM reader, but for those that show bytes as numbers.
fn explain(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "the file ends inside a PEM block, as if it were half written".to_owned()
        }
        pem::Error::IllegalSectionStart { .. } => "a line begins a PEM block wrongly".to_owned(),
        error => error.to_string(),
    }
}
