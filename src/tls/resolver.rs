//! The certificate of the moment: read again in every handshake, replaced when it is whole.
//!
//! A rotation is rarely one step: two files change one after the other, and each may be half
//! written when somebody looks. So what the files hold is compared with what is in use, not the
//! time they were changed, and until certificate and key make a pair the ones before stay in use.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::files::{Contents, Files};

/// How often the log is reminded of files that stay unusable.
const REMINDER: Duration = Duration::from_secs(600);

/// Shows the certificate that the files hold now.
pub(super) struct Resolver {
    files: Files,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

/// What is in use.
struct Current {
    contents: Contents,
    key: Arc<CertifiedKey>,
    /// What is wrong with the files, and when the log was told.
    complaint: Option<(TlsError, Instant)>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Resolver {
    pub fn new(files: Files, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let contents = files.read()?;
        let key = Arc::new(files.parse(&contents, &provider)?);
        let current = Mutex::new(Current { contents, key, complaint: None });
        Ok(Self { files, provider, current })
    }

    /// The certificate to show now.
    pub fn current(&self) -> Arc<CertifiedKey> {
        let read = self.files.read();
        let mut current = self.current.lock();
        let loaded = match read {
            Ok(contents) if contents == current.contents => {
                current.complaint = None;
                return current.key.clone();
            }
            Ok(contents) => self.files.parse(&contents, &self.provider).map(|key| (contents, key)),
            Err(error) => Err(error),
        };
        match loaded {
            Ok((contents, key)) => {
                let cert_file = self.files.cert_file.display();
                tracing::info!(%cert_file, "a new certificate is in use");
                *current = Current { contents, key: Arc::new(key), complaint: None };
            }
            Err(error) => current.complain(error),
        }
        current.key.clone()
    }
}

impl Current {
    fn complain(&mut self, error: TlsError) {
        let now = Instant::now();
        if let Some((told, when)) = &self.complaint
            && *told == error
            && now.duration_since(*when) < REMINDER
        {
            return;
        }
        tracing::warn!(%error, "cannot load the new certificate; the one before stays in use");
        self.complaint = Some((error, now));
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
