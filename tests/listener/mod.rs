//! The client listener from outside: TLS, who is let in, and what becomes of those who are not.
//!
//! - `serving`: certificates, versions and protocols; client certificates; the wrong port.
//! - `rotation`: files replaced under a running member.
//! - `crowds`: silent clients, too many clients, dead clients.
//! - `long`: long answers.
//! - `refusing`: what a member says that does not start, and what its log says of clients.

mod client;
mod crowds;
mod long;
mod pki;
mod refusing;
mod rotation;
mod serving;

use std::net::SocketAddr;
use std::path::Path;

use kvorum::config::{Config, Tls, Url};
use kvorum::{Running, Server};

/// A member in this process, on free ports of loopback.
struct Member {
    running: Option<Running>,
    directory: Option<tempfile::TempDir>,
}

impl Member {
    /// Starts a member whose clients come over TLS if there are certificates.
    async fn start(tls: Option<Tls>, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = config(directory.path(), tls);
        change(&mut config);
        let running = Server::start(config).await.expect("the member starts");
        Self { running: Some(running), directory: Some(directory) }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it has not been stopped")
    }

    fn address(&self) -> SocketAddr {
        self.running().client_addresses()[0]
    }

    async fn stop(mut self) {
        self.running.take().expect("it is stopped once").shutdown().await;
        drop(self.directory.take());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // A test that failed did not stop it. Taking the directory from a member at work would
        // abort this process, and nobody would see why the test failed.
        if let Some(directory) = self.directory.take() {
            let _ = directory.keep();
        }
    }
}

fn config(directory: &Path, tls: Option<Tls>) -> Config {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = Url::parse(&format!("{scheme}://127.0.0.1:0")).expect("a URL");
    Config {
        data_dir: directory.join("data"),
        listen_client_urls: vec![url],
        client_tls: tls,
        worker_threads: 2,
        listen_peer_urls: vec![Url::http("127.0.0.1:0")],
        ..Config::default()
    }
}
