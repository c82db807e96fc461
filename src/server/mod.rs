//! The assembly of a member: listeners, workers, node, and the order they start and stop in.
//!
//! ```text
//! bind listeners ─▶ open storage ─▶ start node ─▶ lead, publish ─▶ accept ─▶ ready
//! stop accepting ─▶ finish requests ─▶ end streams ─▶ stop node (last checkpoint) ─▶ done
//! ```
//!
//! - Clients never take the last descriptors: the log and the state need files.
//! - Listeners are bound first: a taken port fails the start before storage is touched.
//! - Each worker is a thread with a runtime of its own. An acceptor hands every connection to the
//!   worker with the fewest, and it stays there: a request never changes threads.

mod client;
mod connection;
mod listener;
mod seats;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use tokio::sync::{Semaphore, watch};
use tonic::transport::Channel;

use crate::api::Router;
use crate::config::{Config, Url};
use crate::http::Surface;
use crate::node::{self, Handle, Node};
use crate::tls::{self, TlsError};
use crate::version;

use client::Inside;
use connection::Settings;
use listener::Listener;
use worker::Workers;

/// Why a member does not start. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {url}: {source}")]
    Listen { url: String, source: std::io::Error },
    #[error("{url} asks for TLS, but --cert-file and --key-file are not given")]
    NoCertificate { url: String },
    #[error(
        "this process may open {limit} files, which leaves none for clients; it needs {needed} \
         and more (ulimit -n, or LimitNOFILE= of systemd)"
    )]
    Descriptors { limit: u64, needed: u64 },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Node(#[from] node::BootError),
}

/// A member that has not been started.
pub struct Server;

/// A member at work. Dropping it stops it without waiting; [`Running::shutdown`] waits.
pub struct Running {
    node: Option<Node>,
    inside: Inside,
    client_addresses: Vec<SocketAddr>,
    metrics_addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    acceptor: Option<thread::JoinHandle<()>>,
    workers: Option<Workers>,
}

impl Server {
    /// Starts a member and returns when it serves.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let mut listeners = Vec::new();
        let worker_threads = match config.worker_threads {
            0 => thread::available_parallelism().map_or(1, |cores| cores.get()),
            threads => threads,
        };
        let (seats, own) = (seats::for_clients(worker_threads)?, seats::for_metrics());
        let split = !config.listen_client_http_urls.is_empty();
        let clients = if split { Surface::Grpc } else { Surface::Client };
        let tls = certificates(&config)?;
        let http = &config.listen_client_http_urls;
        bind(&config.listen_client_urls, clients, &tls, &seats, &mut listeners)?;
        bind(http, Surface::Http, &tls, &seats, &mut listeners)?;
        bind(&config.listen_metrics_urls, Surface::Metrics, &tls, &own, &mut listeners)?;
        let addresses = |wanted: fn(Surface) -> bool| -> Vec<SocketAddr> {
            listeners
                .iter()
                .filter(|listener| wanted(listener.surface))
                .filter_map(|listener| listener.address())
                .collect()
        };
        let client_addresses = addresses(|surface| surface != Surface::Metrics);
        let metrics_addresses = addresses(|surface| surface == Surface::Metrics);

        let settings = Settings::new(&config);
        let node = Node::start(config)?;
        let handle = node.handle();
        handle.ready().await?;
        describe(&handle).await;

        let (stop, stopping) = watch::channel(false);
        let router = Router::new(handle.clone(), stopping.clone());
        let inside = Inside {
            router: router.clone(),
            node: handle.clone(),
            settings: settings.clone(),
            stopping: stopping.clone(),
        };
        let workers = Workers::start(
            worker_threads,
            tls.is_some(),
            router,
            handle,
            settings,
            stopping.clone(),
        );
        let acceptor = listener::start(listeners, workers.hands(), stopping);
        Ok(Running {
            node: Some(node),
            inside,
            client_addresses,
            metrics_addresses,
            stop,
            acceptor: Some(acceptor),
            workers: Some(workers),
        })
    }
}

/// Sets the metrics that say who this member is.
async fn describe(node: &Handle) {
    let (metrics, own) = (node.metrics(), format!("{:x}", node.member_id()));
    metrics.server_id.with_label_values(&[&own]).set(1);
    metrics.server_version.with_label_values(&[version::SERVER]).set(1);
    let known = node.inspect(|machine| {
        let ids = machine.members().iter().map(|member| member.id).collect::<Vec<_>>();
        (ids, machine.cluster_version().map(str::to_owned))
    });
    let Ok((ids, agreed)) = known.await else { return };
    for id in ids {
        metrics.known_peers.with_label_values(&[&own, &format!("{id:x}")]).set(1);
    }
    // The label is the minor version, without the patch.
    if let Some((minor, _)) = agreed.as_deref().and_then(|version| version.rsplit_once('.')) {
        metrics.cluster_version.with_label_values(&[minor]).set(1);
    }
}

/// What https listeners show, if there are any.
fn certificates(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
    let urls = [&config.listen_client_urls, &config.listen_client_http_urls];
    let mut urls = urls.into_iter().chain([&config.listen_metrics_urls]).flatten();
    match (urls.find(|url| url.is_tls()), &config.client_tls) {
        (None, _) => Ok(None),
        (Some(_), Some(tls)) => Ok(Some(Arc::new(tls::server_config(tls)?))),
        (Some(url), None) => Err(StartError::NoCertificate { url: url.to_string() }),
    }
}

fn bind(
    urls: &[Url],
    surface: Surface,
    tls: &Option<Arc<rustls::ServerConfig>>,
    seats: &Arc<Semaphore>,
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

impl Running {
    /// Where clients are served, in the order of the configuration; unix sockets are left out.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// Where metrics and health are served apart.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics_addresses
    }

    /// The node behind the listeners.
    pub fn node(&self) -> &Handle {
        &self.inside.node
    }

    /// A channel to this member within the process, for the clients in [`crate::pb`]. It needs no
    /// address and no certificate; its work is done on the caller's runtime.
    pub fn client(&self) -> Channel {
        self.inside.channel()
    }

    /// Stops: no new connections, requests under way finish, streams end, state is checkpointed.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let (acceptor, workers, node) =
            (self.acceptor.take(), self.workers.take(), self.node.take());
        let stopping = tokio::task::spawn_blocking(move || {
            if let Some(acceptor) = acceptor {
                let _ = acceptor.join();
            }
            if let Some(workers) = workers {
                workers.join();
            }
            if let Some(node) = node {
                node.stop();
            }
        });
        let _ = stopping.await;
    }
}
