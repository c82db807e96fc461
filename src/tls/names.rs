//! Whether a member may call from where it does: its address has to be in its certificate.
//!
//! As etcd does it: an IP address in the certificate is compared; a DNS name fits if the address
//! has that name, or the name that address. A certificate without any of both may be used anywhere.
//! So a certificate that was stolen is of use only on its member's host, or to whoever rules DNS.

use std::io;
use std::net::IpAddr;

use tokio::net::lookup_host;
use tokio::task::spawn_blocking;

use super::leaf::Leaf;

/// A certificate that is not for the address it is shown from. The words are Go's and etcd's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misplaced {
    #[error("x509: certificate is valid for {}, not {address}", list(.of))]
    Address { of: Vec<IpAddr>, address: IpAddr },
    #[error("tls: {:?} does not match any of DNSNames {of:?}{}", .address.to_string(), note(.why))]
    Name { of: Vec<String>, address: IpAddr, why: Option<String> },
}

/// Looks for an address among the names of a certificate.
pub(super) async fn check(leaf: &Leaf, address: IpAddr) -> Result<(), Misplaced> {
    let address = address.to_canonical();
    if leaf.addresses.contains(&address) {
        return Ok(());
    }
    if leaf.dns_names.is_empty() {
        return match leaf.addresses.is_empty() {
            true => Ok(()),
            false => Err(Misplaced::Address { of: leaf.addresses.clone(), address }),
        };
    }
    let name = reverse(address).await;
    if name.as_ref().is_ok_and(|name| leaf.dns_names.iter().any(|of| is_called(of, name))) {
        return Ok(());
    }
    let mut why = name.err();
    for name in leaf.dns_names.iter().filter(|name| !name.starts_with("*.")) {
        match lookup_host((&**name, 0)).await {
            Ok(mut found) => {
                if found.any(|found| found.ip().to_canonical() == address) {
                    return Ok(());
                }
            }
            Err(error) => why = Some(error),
        }
    }
    let why = why.map(|error| error.to_string());
    Err(Misplaced::Name { of: leaf.dns_names.clone(), address, why })
}

/// The name that DNS has for an address.
async fn reverse(address: IpAddr) -> io::Result<String> {
    let found = spawn_blocking(move || dns_lookup::lookup_addr(&address)).await;
    found.map_err(io::Error::other)?.map_err(io::Error::from)
}

/// Whether a name of a certificate, perhaps `*.domain`, covers the name of a host. As in etcd, the
/// star stands for any number of labels.
pub(super) fn is_called(of: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let of = of.to_ascii_lowercase();
    match of.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') => host.ends_with(domain),
        Some(_) | None => host == of,
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn note(why: &Option<String>) -> String {
    why.as_ref().map_or_else(String::new, |why| format!(" ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(dns_names: &[&str], addresses: &[&str]) -> Leaf {
        let dns_names = dns_names.iter().map(|&name| name.to_owned()).collect();
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Leaf { dns_names, addresses, ..Leaf::default() }
    }

    async fn refused(leaf: Leaf, address: &str) -> Option<String> {
        let checked = check(&leaf, address.parse().expect("an address")).await;
        checked.err().map(|misplaced| misplaced.to_string())
    }

    #[tokio::test]
    async fn addresses_are_compared() {
        assert_eq!(refused(leaf(&[], &[]), "10.0.0.1").await, None, "for use anywhere");
        let two = || leaf(&[], &["10.0.0.1", "fd00::1"]);
        assert_eq!(refused(two(), "10.0.0.1").await, None);
        assert_eq!(refused(two(), "fd00::1").await, None);
        assert_eq!(refused(two(), "::ffff:10.0.0.1").await, None, "IPv4 in other clothes");
        let words = "x509: certificate is valid for 10.0.0.1, fd00::1, not 10.0.0.2";
        assert_eq!(refused(two(), "10.0.0.2").await.as_deref(), Some(words));
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let named = || leaf(&["localhost"], &["10.0.0.1"]);
        assert_eq!(refused(named(), "127.0.0.1").await, None);
        assert_eq!(refused(named(), "10.0.0.1").await, None);
        let other = leaf(&["no.such.host.invalid", "*.invalid"], &["10.0.0.1"]);
        let words = refused(other, "127.0.0.1").await.expect("it has another name");
        let begins = "tls: \"127.0.0.1\" does not match any of DNSNames [\"no.such.host.invalid\", \
                      \"*.invalid\"]";
        assert!(words.starts_with(begins), "{words}");
    }

    #[test]
    fn stars_cover_domains() {
        let pod = "etcd-0.etcd.default.svc.cluster.local.";
        assert!(is_called("*.etcd.default.svc.cluster.local", pod));
        assert!(is_called("*.Default.svc.cluster.local", pod), "more than one label");
        assert!(is_called("ETCD-0.etcd.default.svc.cluster.local", pod));
        assert!(!is_called("*.other.svc.cluster.local", pod));
        assert!(!is_called("*etcd.default.svc.cluster.local", pod), "no label of its own");
        assert!(!is_called("etcd.default.svc.cluster.local", pod));
        assert!(!is_called("*.a.b", "a.b"));
    }
}
