//! Certificates of members, made while the tests run.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::config::{PeerTls, Tls};

/// Someone who signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a certificate says. By default it is good for a member on loopback.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub common_name: &'static str,
    pub names: &'static [&'static str],
    pub serial: u64,
    pub for_clients: bool,
    pub expired: bool,
}

impl Default for Wish {
    fn default() -> Self {
        let (common_name, names) = ("member", &["127.0.0.1"][..]);
        Self { common_name, names, serial: 1, for_clients: true, expired: false }
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(super) struct Pair {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub fn sign(&self, wish: Wish) -> Pair {
        let names: Vec<String> = wish.names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, wish.common_name);
        params.serial_number = Some(SerialNumber::from(wish.serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if wish.for_clients {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if wish.expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// A list of revoked certificates, with one in it.
    pub fn revoke(&self, serial: u64) -> Vec<u8> {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2030, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).expect("a list").der().to_vec()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.0.pem().as_bytes());
        roots.add(certificate.expect("a certificate")).expect("an authority");
        roots
    }

    /// What a caller needs that believes this authority, and shows what it has.
    pub fn caller(&self, shows: Option<&Pair>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("the provider has some")
            .with_root_certificates(self.roots());
        Arc::new(match shows {
            None => builder.with_no_client_auth(),
            Some(Pair { cert, key }) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![cert], key).expect("a pair")
            }
        })
    }
}

/// The files of one member.
pub(super) struct Folder {
    folder: TempDir,
    pub tls: PeerTls,
}

impl Folder {
    /// With a certificate for either side, and a CA both trust.
    pub fn new(authority: &Authority, pair: &Pair) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ca.crt"), authority.0.pem()).expect("a writable folder");
        let listener = Tls {
            cert_file: path("member.crt"),
            key_file: path("member.key"),
            trusted_ca_file: Some(path("ca.crt")),
            client_cert_auth: true,
            ..Tls::default()
        };
        let new = Self { folder, tls: PeerTls { listener, ..PeerTls::default() } };
        new.show(pair);
        new
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Rotates the certificate.
    pub fn show(&self, pair: &Pair) {
        fs::write(&self.tls.listener.cert_file, &pair.cert).expect("a writable folder");
        fs::write(&self.tls.listener.key_file, &pair.key).expect("a writable folder");
    }

    /// Has a certificate of its own for calls, which can be rotated apart.
    pub fn call_with(&mut self, pair: &Pair) {
        let (cert, key) = (self.path("caller.crt"), self.path("caller.key"));
        fs::write(&cert, &pair.cert).expect("a writable folder");
        fs::write(&key, &pair.key).expect("a writable folder");
        (self.tls.client_cert_file, self.tls.client_key_file) = (Some(cert), Some(key));
    }
}
