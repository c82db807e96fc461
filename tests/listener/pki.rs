//! Certificates: the fixtures, and authorities that make others while the tests run.

use std::path::{Path, PathBuf};

use kvorum::config::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// A file of the fixtures, which its README explains.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/listener/fixtures").join(name)
}

pub fn fixture_text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).expect("a fixture")
}

/// The settings of a listener that shows a certificate of the fixtures.
pub fn fixture_tls(name: &str) -> Tls {
    let cert_file = fixture(&format!("{name}.crt"));
    let key_file = fixture(&format!("{name}.key"));
    Tls { cert_file, key_file, ..Tls::default() }
}

/// The same, and clients must show a certificate of the fixtures' CA.
pub fn fixture_tls_with_clients(name: &str) -> Tls {
    let trusted_ca_file = Some(fixture("ca.crt"));
    Tls { trusted_ca_file, client_cert_auth: true, ..fixture_tls(name) }
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Identity {
    pub fn fixture(name: &str) -> Self {
        let cert = fixture_text(&format!("{name}.crt"));
        Self { cert, key: fixture_text(&format!("{name}.key")) }
    }

    /// The certificate as [`hex`].
    pub fn hex(&self) -> String {
        hex(&CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate"))
    }

    /// Writes the pair over the files of a listener.
    pub fn write(&self, tls: &Tls) {
        std::fs::write(&tls.cert_file, &self.cert).expect("a writable directory");
        std::fs::write(&tls.key_file, &self.key).expect("a writable directory");
    }
}

/// A certificate in a form that can be compared and shown.
pub fn hex(der: &[u8]) -> String {
    der.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Someone who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// How a certificate deviates from one that is good for anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    Expired,
    NotYetValid,
    ForServersOnly,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The authority's own certificate and key, as nobody should use them.
    pub fn own(&self) -> Identity {
        Identity { cert: self.pem(), key: self.0.key().serialize_pem() }
    }

    /// A certificate for servers and clients on loopback.
    pub fn sign(&self, name: &str, flaw: Flaw) -> Identity {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        match flaw {
            Flaw::None => {}
            Flaw::Expired => params.not_after = rcgen::date_time_ymd(2020, 1, 1),
            Flaw::NotYetValid => params.not_before = rcgen::date_time_ymd(3000, 1, 1),
            Flaw::ForServersOnly => {}
        }
        if flaw != Flaw::ForServersOnly {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }
}
