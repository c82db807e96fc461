//! What a certificate says of its bearer. It is read after its signature was verified.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// The names in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaf {
    pub common_name: Option<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// A certificate that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tls: a certificate cannot be read: {0}")]
pub(super) struct LeafError(String);

impl Leaf {
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, LeafError> {
        let parsed = parse(certificate)?;
        // Of several the last one counts, as in Go.
        let common_name = parsed.subject().iter_common_name().last();
        let common_name = common_name.and_then(|name| name.as_str().ok()).map(str::to_owned);
        let mut leaf = Self { common_name, ..Self::default() };
        let names = parsed.subject_alternative_name();
        let names = names.map_err(|error| LeafError(error.to_string()))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => leaf.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => leaf.addresses.push(address(bytes)?),
                GeneralName::Invalid(..) => return Err(LeafError("a name that is none".into())),
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::URI(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
        Ok(leaf)
    }
}

/// The number its issuer gave it, without leading zeros.
pub(super) fn serial<'a>(certificate: &'a CertificateDer<'_>) -> Result<&'a [u8], LeafError> {
    Ok(significant(parse(certificate)?.raw_serial()))
}

/// A number without leading zeros.
pub(super) fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, LeafError> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|error| LeafError(error.to_string()))
}

fn address(bytes: &[u8]) -> Result<IpAddr, LeafError> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    let address = address.map_err(|_| LeafError("an address that is none".into()))?;
    Ok(address.to_canonical())
}
