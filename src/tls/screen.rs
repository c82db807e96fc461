//! What a member's certificate must be besides signed: not revoked, and one of those allowed.
//!
//! The checks stand behind those of rustls and never replace them. They hold for both sides: a
//! member looks at whoever calls it, and at whom it calls.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::TlsError;
use super::leaf::{Leaf, LeafError, serial, significant};
use crate::config::PeerTls;

/// Whom a member talks to, of those who have a good certificate.
#[derive(Debug)]
pub(super) struct Screen {
    allowed: Allowed,
    /// Read in every handshake, as etcd does; without it nobody gets in.
    crl_file: Option<PathBuf>,
}

/// Which names a certificate may have.
#[derive(Debug)]
enum Allowed {
    Any,
    CommonNames(Vec<String>),
    HostNames(Vec<ServerName<'static>>),
}

/// Why a certificate does not do. The first is etcd's wording, which operators search for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("client certificate authentication failed: {0}")]
    NotAllowed(String),
    #[error("transport: certificate serial {0} revoked")]
    Revoked(String),
    #[error("the list of revoked certificates {} cannot be used: {why}", path.display())]
    NoCrl { path: PathBuf, why: String },
    #[error(transparent)]
    Unreadable(#[from] LeafError),
}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Self {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unfit))))
    }
}

impl Screen {
    pub fn new(tls: &PeerTls) -> Result<Self, TlsError> {
        let allowed = match (&*tls.allowed_cn, &*tls.allowed_hostname) {
            ([], []) => Allowed::Any,
            (names, []) => Allowed::CommonNames(names.to_vec()),
            ([], hosts) => {
                let host = |text: &String| {
                    let bad = |_| TlsError::AllowedHostname(text.clone());
                    ServerName::try_from(text.clone()).map_err(bad)
                };
                Allowed::HostNames(hosts.iter().map(host).collect::<Result<_, _>>()?)
            }
            (names, hosts) => {
                let (names, hosts) = (names.join(" "), hosts.join(" "));
                return Err(TlsError::TwoLists { names, hosts });
            }
        };
        let screen = Self { allowed, crl_file: tls.crl_file.clone() };
        // What cannot be read now would let nobody in later.
        screen.check_revoked(&[]).map_err(|unfit| TlsError::Crl(unfit.to_string()))?;
        Ok(screen)
    }

    fn check(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Unfit> {
        let shown: Vec<_> = [leaf].into_iter().chain(chain).collect();
        self.check_revoked(&shown)?;
        self.check_allowed(leaf)
    }

    pub(super) fn check_allowed(&self, certificate: &CertificateDer<'_>) -> Result<(), Unfit> {
        match &self.allowed {
            Allowed::Any => Ok(()),
            Allowed::CommonNames(names) => match Leaf::read(certificate)?.common_name {
                Some(name) if names.contains(&name) => Ok(()),
                Some(name) => Err(Unfit::NotAllowed(format!(
                    "the common name {name:?} is not one of --peer-cert-allowed-cn"
                ))),
                None => Err(Unfit::NotAllowed("it has no common name".to_owned())),
            },
            Allowed::HostNames(hosts) => {
                let is_for = |parsed: &ParsedCertificate<'_>| {
                    hosts.iter().any(|host| verify_server_name(parsed, host).is_ok())
                };
                match ParsedCertificate::try_from(certificate).is_ok_and(|parsed| is_for(&parsed)) {
                    true => Ok(()),
                    false => Err(Unfit::NotAllowed(
                        "it is for none of --peer-cert-allowed-hostname".to_owned(),
                    )),
                }
            }
        }
    }

    /// As etcd does, only serial numbers are compared, whoever issued the list.
    fn check_revoked(&self, certificates: &[&CertificateDer<'_>]) -> Result<(), Unfit> {
        let Some(path) = &self.crl_file else { return Ok(()) };
        let revoked = revoked(path).map_err(|why| Unfit::NoCrl { path: path.clone(), why })?;
        for certificate in certificates {
            let serial = serial(certificate)?;
            if revoked.iter().any(|revoked| revoked == serial) {
                let hex = serial.iter().map(|byte| format!("{byte:02x}")).collect();
                return Err(Unfit::Revoked(hex));
            }
        }
        Ok(())
    }
}

/// The serial numbers in a list of revoked certificates, which is PEM or, as etcd wants it, DER.
fn revoked(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    read_revoked(&bytes)
}

pub(super) fn read_revoked(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let list = match CertificateRevocationListDer::from_pem_slice(bytes) {
        Ok(list) => list.to_vec(),
        Err(_) => bytes.to_vec(),
    };
    let (_, list) =
        CertificateRevocationList::from_der(&list).map_err(|error| error.to_string())?;
    let revoked = list.iter_revoked_certificates();
    Ok(revoked.map(|revoked| significant(revoked.raw_serial()).to_vec()).collect())
}

/// A verifier of rustls with a screen behind it.
#[derive(Debug)]
pub(super) struct Screened<V: ?Sized> {
    pub verifier: Arc<V>,
    pub screen: Arc<Screen>,
}

impl<V: ClientCertVerifier + ?Sized> ClientCertVerifier for Screened<V> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(leaf, chain, now)?;
        self.screen.check(leaf, chain)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }

    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }
}

impl<V: ServerCertVerifier + ?Sized> ServerCertVerifier for Screened<V> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(leaf, chain, name, ocsp, now)?;
        self.screen.check(leaf, chain)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
