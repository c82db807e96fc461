//! The checks of a whole [`Config`], one small function each, in etcd's order.
//!
//! They hold for a configuration from flags and for one a program filled in alike.

use super::Config;
use super::refusal::Refusal;
use super::url::{Url, print_list};

/// The longest election timeout: beyond it etcd takes the setting for a mistake.
pub const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
/// More threads than any machine of today has cores.
const WORKER_THREADS_MAX: u64 = 4096;

type Check = fn(&Config) -> Result<(), Refusal>;

impl Config {
    /// Refuses what cannot work together.
    pub fn check(&self) -> Result<(), Refusal> {
        let checks: [Check; 8] = [
            bindable,
            reachable,
            listening,
            ticks,
            election,
            sizes,
            client_certificates,
            peer_certificates,
        ];
        checks.iter().try_for_each(|check| check(self))
    }
}

/// Names are for advertising: binding to what DNS says today would surprise tomorrow.
fn bindable(config: &Config) -> Result<(), Refusal> {
    let urls = [
        &config.listen_peer_urls,
        &config.listen_client_urls,
        &config.listen_client_http_urls,
        &config.listen_metrics_urls,
    ];
    match urls.into_iter().flatten().find(|url| !url.is_bindable()) {
        Some(url) => Err(Refusal::NotBindable(url.to_string())),
        None => Ok(()),
    }
}

/// An address without a host tells nobody where to go.
fn reachable(config: &Config) -> Result<(), Refusal> {
    let no_host = |urls: &[String]| {
        let is_no_host = |url: Url| !url.is_unix() && url.host().is_empty();
        let mut urls = urls.iter();
        urls.find(|url| Url::parse(url).is_ok_and(is_no_host)).cloned()
    };
    if let Some(url) = no_host(&config.initial_advertise_peer_urls) {
        let urls = config.initial_advertise_peer_urls.join(",");
        return Err(Refusal::NoPeerHost { urls, url });
    }
    if let Some(url) = no_host(&config.advertise_client_urls) {
        let urls = config.advertise_client_urls.join(",");
        return Err(Refusal::NoClientHost { urls, url });
    }
    Ok(())
}

fn listening(config: &Config) -> Result<(), Refusal> {
    if config.listen_client_urls.is_empty() {
        return Err(Refusal::NoUrl("listen-client-urls"));
    }
    if config.initial_advertise_peer_urls.is_empty() {
        return Err(Refusal::NoUrl("initial-advertise-peer-urls"));
    }
    Ok(())
}

fn ticks(config: &Config) -> Result<(), Refusal> {
    if config.heartbeat_interval.is_zero() {
        return Err(Refusal::ZeroTicks("heartbeat-interval"));
    }
    if config.election_timeout.is_zero() {
        return Err(Refusal::ZeroTicks("election-timeout"));
    }
    Ok(())
}

fn election(config: &Config) -> Result<(), Refusal> {
    let millis =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (heartbeat, election) =
        (millis(config.heartbeat_interval), millis(config.election_timeout));
    if heartbeat.saturating_mul(5) > election {
        return Err(Refusal::ShortElection { election, heartbeat });
    }
    if election > ELECTION_TIMEOUT_MS_MAX {
        return Err(Refusal::LongElection(election));
    }
    Ok(())
}

fn sizes(config: &Config) -> Result<(), Refusal> {
    if config.max_request_bytes == 0 {
        // etcd starts and never gets ready: not even its own requests fit.
        return Err(Refusal::Zero("max-request-bytes"));
    }
    let threads = config.worker_threads as u64;
    if threads > WORKER_THREADS_MAX {
        let (flag, max) = ("worker-threads", WORKER_THREADS_MAX);
        return Err(Refusal::TooMany { flag, value: threads, max });
    }
    Ok(())
}

fn client_certificates(config: &Config) -> Result<(), Refusal> {
    if config.client_tls.is_some() {
        return Ok(());
    }
    let is_tls = |url: &&Url| url.is_tls();
    let mut urls = config.listen_client_urls.iter().chain(&config.listen_client_http_urls);
    if let Some(url) = urls.find(is_tls) {
        return Err(Refusal::NoCertificate(url.to_string()));
    }
    match config.listen_metrics_urls.iter().find(is_tls) {
        Some(_) => Err(Refusal::NoMetricsCertificate),
        None => Ok(()),
    }
}

fn peer_certificates(config: &Config) -> Result<(), Refusal> {
    let tls: Vec<Url> =
        config.listen_peer_urls.iter().filter(|url| url.is_tls()).cloned().collect();
    if tls.is_empty() || config.peer_tls.is_some() {
        return Ok(());
    }
    Err(Refusal::NoPeerCertificate(print_list(&tls).join(",")))
}
