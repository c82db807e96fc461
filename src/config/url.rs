//! Listen and advertise addresses, in the one form etcd takes: `scheme://host:port`.
//!
//! - Lists are comma-separated, trimmed, sorted and without repetitions, as etcd keeps them: member
//!   ids are hashes over them.
//! - A unix address is whatever follows `unix://`, so a path or a `host:port` that names a file.
//! - A query, a fragment or a user in a URL is refused; etcd drops them in silence.

use std::fmt;
use std::net::IpAddr;

/// A listen address as etcd writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub scheme: Scheme,
    /// `host:port`, or a path for unix sockets.
    pub address: String,
}

/// How a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

/// Why a text is not such a URL. The words are those operators know from etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
    #[error("URL must be scheme://host:port and nothing more: {0}")]
    Extra(String),
    #[error("parse {url:?}: first path segment in URL cannot contain colon")]
    Colon { url: String },
    #[error("parse {url:?}: missing protocol scheme")]
    NoScheme { url: String },
    #[error("parse {url:?}: invalid port {port:?} after host")]
    Port { url: String, port: String },
    #[error("parse {url:?}: invalid character {character:?} in host name")]
    Character { url: String, character: char },
}

impl Url {
    /// A plain address.
    pub fn http(address: &str) -> Self {
        Self { scheme: Scheme::Http, address: address.to_owned() }
    }

    /// Whether connections are encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// Whether the address is a file and not a host.
    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
    }

    /// One URL, surrounding blanks allowed.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let Some((scheme, rest)) = split_scheme(text)? else {
            return Err(match text.split('/').next() {
                Some(segment) if segment.contains(':') => UrlError::Colon { url: text.into() },
                Some(_) | None => UrlError::Scheme(text.into()),
            });
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(UrlError::Scheme(text.into())),
        };
        let Some(address) = rest.strip_prefix("//") else {
            return Err(UrlError::HostPort(text.into()));
        };
        let url = Self { scheme, address: address.to_owned() };
        if url.is_unix() {
            if address.is_empty() { Err(UrlError::HostPort(text.into())) } else { Ok(url) }
        } else {
            check_host_port(text, address)?;
            Ok(url)
        }
    }

    /// A comma-separated list, sorted and without repetitions.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        let mut urls = text.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by_cached_key(ToString::to_string);
        urls.dedup();
        Ok(urls)
    }

    /// The host of an address that is not a file, without the brackets of IPv6.
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port of an address that is not a file.
    pub fn port(&self) -> &str {
        self.address.rsplit_once(':').map_or("", |(_, port)| port)
    }

    /// Whether a listener can be bound to it: a file, an IP address, or `localhost`.
    pub fn is_bindable(&self) -> bool {
        self.is_unix() || self.host() == "localhost" || self.host().parse::<IpAddr>().is_ok()
    }
}

/// The scheme and what follows its colon; nothing if the text does not begin like a scheme.
fn split_scheme(text: &str) -> Result<Option<(&str, &str)>, UrlError> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let Some(end) = text.find(|c: char| !is_part(c)) else { return Ok(None) };
    if end == 0 && text.starts_with(':') {
        return Err(UrlError::NoScheme { url: text.into() });
    }
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let found = starts_well && text[end..].starts_with(':');
    Ok(found.then(|| (&text[..end], &text[end + 1..])))
}

fn check_host_port(text: &str, address: &str) -> Result<(), UrlError> {
    if address.contains(['?', '#', '@', '%']) {
        return Err(UrlError::Extra(text.into()));
    }
    let (address, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port),
        None => address.split_at(address.find(':').unwrap_or(address.len())),
    };
    let port_is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(port_is_number) {
        return Err(UrlError::Port { url: text.into(), port: port.into() });
    }
    let is_odd = |c: &char| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}".contains(*c);
    if let Some(character) = host.chars().find(is_odd) {
        return Err(UrlError::Character { url: text.into(), character });
    }
    if port.is_empty() {
        return Err(UrlError::HostPort(text.into()));
    }
    if path.is_empty() { Ok(()) } else { Err(UrlError::Path(text.into())) }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// The URLs in their one spelling.
pub fn print_list(urls: &[Url]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}
