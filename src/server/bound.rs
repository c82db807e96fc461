//! The addresses of a member, bound before storage is touched: a taken port changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use super::StartError;
use super::listener::Listener;
use super::seats::{self, Seats};
use crate::config::{Config, Url};
use crate::http::Surface;
use crate::peer;
use crate::tls;

/// Everything that listens.
pub(super) struct Bound {
    pub listeners: Vec<Listener>,
    pub peers: Vec<peer::Listener>,
    /// What https listeners show, if there are any.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What members show each other, if they do.
    pub peer_tls: Option<Arc<tls::Peers>>,
}

impl Bound {
    /// Binds what a configuration names.
    pub fn to(config: &Config, worker_threads: usize) -> Result<Self, StartError> {
        let (seats, own) = (seats::for_clients(worker_threads)?, seats::for_metrics());
        let split = !config.listen_client_http_urls.is_empty();
        let clients = if split { Surface::Grpc } else { Surface::Client };
        let tls = certificates(config)?;
        let mut listeners = Vec::new();
        bind(&config.listen_client_urls, clients, &tls, &seats, &mut listeners)?;
        bind(&config.listen_client_http_urls, Surface::Http, &tls, &seats, &mut listeners)?;
        bind(&config.listen_metrics_urls, Surface::Metrics, &tls, &own, &mut listeners)?;
        let peer_tls = match &config.peer_tls {
            Some(tls) => Some(Arc::new(tls::Peers::new(tls)?)),
            None => None,
        };
        let peers = bind_peers(&config.listen_peer_urls, peer_tls.as_ref())?;
        Ok(Self { listeners, peers, tls, peer_tls })
    }

    /// Where surfaces of a kind are served; unix sockets are left out.
    pub fn addresses(&self, wanted: fn(Surface) -> bool) -> Vec<SocketAddr> {
        let wanted = self.listeners.iter().filter(|listener| wanted(listener.surface));
        wanted.filter_map(Listener::address).collect()
    }
}

/// What https listeners show.
fn certificates(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
    let urls = [&config.listen_client_urls, &config.listen_client_http_urls];
    let mut urls = urls.into_iter().chain([&config.listen_metrics_urls]).flatten();
    match (urls.find(|url| url.is_tls()), &config.client_tls) {
        (None, _) => Ok(None),
        (Some(_), Some(tls)) => Ok(Some(Arc::new(tls::server_config(tls)?))),
        (Some(url), None) => Err(StartError::NoCertificate { url: url.to_string() }),
    }
}

/// Lets other members call, who were refused so far.
pub(super) fn listen(peers: &[peer::Listener]) -> Result<(), StartError> {
    peers.iter().try_for_each(|peer| {
        let url = || format!("peer address {}", peer.address());
        peer.listen().map_err(|source| StartError::Listen { url: url(), source })
    })
}

/// Binds what other members call.
fn bind_peers(
    urls: &[Url],
    tls: Option<&Arc<tls::Peers>>,
) -> Result<Vec<peer::Listener>, StartError> {
    let bind = |url: &Url| {
        let listen = |source| StartError::Listen { url: url.to_string(), source };
        peer::Listener::bind(url, tls).map_err(listen)
    };
    urls.iter().map(bind).collect()
}

fn bind(
    urls: &[Url],
    surface: Surface,
    tls: &Option<Arc<rustls::ServerConfig>>,
    seats: &Arc<Seats>,
    listeners: &mut Vec<Listener>,
) -> Result<(), StartError> {
    for url in urls {
        let tls = tls.clone().filter(|_| url.is_tls());
        let bound = Listener::bind(url, surface, tls, seats.clone())
            .map_err(|source| StartError::Listen { url: url.to_string(), source })?;
        listeners.push(bound);
    }
    Ok(())
}
