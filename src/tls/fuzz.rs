//! The body of the fuzz target `certificates`.

use rustls_pki_types::CertificateDer;

use super::files::{Contents, Files};
use super::leaf::{Leaf, serial, significant};
use super::screen::{Screen, read_revoked};
use super::{files, names};
use crate::config::{PeerTls, Tls, TlsVersions};

/// Reads `bytes` after the first, which says as what: a certificate, a list of revoked ones, or
/// the files that an operator names. Whatever they are, this returns.
pub fn fuzz_certificates(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => check_certificate(&CertificateDer::from(bytes.to_vec())),
        1 => {
            let revoked = read_revoked(bytes).unwrap_or_default();
            assert!(revoked.iter().all(|number| significant(number) == &number[..]));
        }
        2 => {
            let found = files::parse_certificates("ca".as_ref(), bytes).unwrap_or_default();
            found.iter().for_each(check_certificate);
        }
        _ => {
            let files = Files { cert_file: "cert".into(), key_file: "key".into() };
            // Operators put both into one file.
            let contents = Contents { cert: bytes.to_vec(), key: bytes.to_vec() };
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            if let Ok(certified) = files.parse(&contents, &provider) {
                assert!(!certified.cert.is_empty());
            }
        }
    }
}

/// Reads what a certificate says of its bearer, and holds that against lists of those allowed.
fn check_certificate(certificate: &CertificateDer<'_>) {
    if let Ok(number) = serial(certificate) {
        assert_eq!(significant(number), number, "leading zeros are gone");
    }
    let leaf = Leaf::read(certificate);
    let own_name = leaf.as_ref().ok().and_then(|leaf| leaf.common_name.clone());
    let (names, hosts) = (vec![own_name.clone().unwrap_or_default()], vec!["a.example".to_owned()]);
    let by_name = screen(names, Vec::new()).check_allowed(certificate);
    assert_eq!(by_name.is_ok(), own_name.is_some(), "its own name is the one that is allowed");
    let _ = screen(Vec::new(), hosts).check_allowed(certificate);
    let Ok(leaf) = leaf else { return };
    for name in &leaf.dns_names {
        let is_plain = !name.starts_with('*') && !name.ends_with('.');
        assert!(!is_plain || names::is_called(name, name), "{name:?} is its own name");
    }
}

fn screen(allowed_cn: Vec<String>, allowed_hostname: Vec<String>) -> Screen {
    let listener = Tls {
        cert_file: "cert".into(),
        key_file: "key".into(),
        trusted_ca_file: None,
        client_cert_auth: false,
        cipher_suites: Vec::new(),
        versions: TlsVersions::Both,
    };
    let tls = PeerTls {
        listener,
        client_cert_file: None,
        client_key_file: None,
        allowed_cn,
        allowed_hostname,
        crl_file: None,
        skip_client_san_verification: false,
    };
    Screen::new(&tls).expect("one list, of names")
}
