//! The `kvorum` binary.

use kvorum::config::{Config, Url};

fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut config = Config::default();
    for arg in std::env::args().skip(1) {
        let (name, value) = arg.trim_start_matches('-').split_once('=').unwrap_or((&arg, ""));
        let strip = |v: &str| Url::http(v.trim_start_matches("http://"));
        match name {
            "name" => config.name = value.into(),
            "data-dir" => config.data_dir = value.into(),
            "listen-client-urls" => config.listen_client_urls = value.split(',').map(strip).collect(),
            "advertise-client-urls" => config.advertise_client_urls = value.split(',').map(str::to_owned).collect(),
            "initial-advertise-peer-urls" => config.initial_advertise_peer_urls = vec![value.into()],
            "initial-cluster" => config.initial_cluster = value.split(',').map(|x| { let (a, b) = x.split_once('=').unwrap(); (a.into(), b.into()) }).collect(),
            "initial-cluster-token" => config.initial_cluster_token = value.into(),
            "max-txn-ops" => config.max_txn_ops = value.parse().unwrap(),
            "max-request-bytes" => config.max_request_bytes = value.parse().unwrap(),
            "quota-backend-bytes" => config.quota_backend_bytes = value.parse().unwrap(),
            "storage-engine" => if value == "sled" { config.storage_engine = kvorum::config::StorageEngine::Sled },
            "watch-progress-notify-interval" => config.watch_progress_notify_interval = std::time::Duration::from_millis(value.trim_end_matches("ms").parse().unwrap_or(1000)),
            other => eprintln!("ignored {other}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let running = match kvorum::Server::start(config).await {
            Ok(running) => running,
            Err(error) => { eprintln!("{error}"); std::process::exit(1) }
        };
        tracing::info!("ready to serve client requests");
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        tokio::select! { _ = term.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
        running.shutdown().await;
    });
}
