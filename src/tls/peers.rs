//! TLS between members, for the one that calls and the one that is called.
//!
//! - Each shows a certificate and verifies the other's against `--peer-trusted-ca-file`, so a
//!   certificate of a member must be good for servers and for clients alike.
//! - Who is called must have the host of its URL in its certificate; who calls, the address it
//!   calls from ([`Peers::check_address`]). Both must pass the `Screen`.
//! - Certificates follow their files, on both sides.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::files::Files;
use super::leaf::{Leaf, LeafError};
use super::names;
use super::resolver::Resolver;
use super::screen::{Screen, Screened};
use super::{TlsError, certificate_of, listener_config, provider, roots, verifier, versions};
use crate::config::PeerTls;

/// What members show each other, and whom they believe.
#[derive(Debug)]
pub struct Peers {
    server: Arc<ServerConfig>,
    /// Without a CA nobody can be called.
    client: Option<Arc<ClientConfig>>,
    checks_addresses: bool,
}

/// Why a caller may not call from where it does.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unplaced {
    #[error(transparent)]
    Unreadable(#[from] LeafError),
    #[error(transparent)]
    Misplaced(#[from] names::Misplaced),
}

impl Peers {
    /// Reads all files once, so that what is wrong with them is said at the start.
    pub fn new(tls: &PeerTls) -> Result<Self, TlsError> {
        let screen = Arc::new(Screen::new(tls)?);
        let provider = provider(&tls.listener);
        let roots = match &tls.listener.trusted_ca_file {
            Some(path) => Some((path, Arc::new(roots(path)?))),
            None if tls.listener.client_cert_auth => return Err(TlsError::NoPeerCa),
            None => None,
        };
        let (mut callers, mut client) = (None, None);
        if let Some((path, roots)) = roots {
            let verifier = verifier(path, roots.clone(), provider.clone())?;
            let screened = Screened { verifier, screen: screen.clone() };
            callers = Some(Arc::new(screened) as Arc<dyn ClientCertVerifier>);
            client = Some(Arc::new(client_config(tls, &provider, roots, screen)?));
        }
        let mut server = listener_config(&tls.listener, &provider, callers)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let checks_addresses = !tls.skip_client_san_verification;
        Ok(Self { server: Arc::new(server), client, checks_addresses })
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// Begins to talk to the member at a host, which must show that it is one.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.client.clone().ok_or_else(|| io::Error::other(TlsError::NoPeerCa))?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }

    /// Whether a member that shows a certificate may call from an address.
    pub(super) async fn check_address(
        &self,
        certificate: &CertificateDer<'_>,
        address: IpAddr,
    ) -> Result<(), Unplaced> {
        if self.checks_addresses {
            names::check(&Leaf::read(certificate)?, address).await?;
        }
        Ok(())
    }
}

fn client_config(
    tls: &PeerTls,
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    screen: Arc<Screen>,
) -> Result<ClientConfig, TlsError> {
    let files = match (&tls.client_cert_file, &tls.client_key_file) {
        (Some(cert), Some(key)) => Files { cert_file: cert.clone(), key_file: key.clone() },
        (None, None) => certificate_of(&tls.listener),
        (cert, key) => {
            let (cert, key) = (cert.clone().unwrap_or_default(), key.clone().unwrap_or_default());
            return Err(TlsError::HalfPeerClient { cert, key });
        }
    };
    let resolver = Arc::new(Resolver::new(files, provider.clone())?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls.listener.versions))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Screened { verifier, screen }))
        .with_client_cert_resolver(resolver);
    config.resumption = Resumption::disabled();
    Ok(config)
}
