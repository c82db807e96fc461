//! From [`Values`] to [`Config`]: every flag is read here once, by the group it belongs to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::flag::Flag;
use super::gates;
use super::notice::Notice;
use super::refusal::Refusal;
use super::url::{Url, print_list};
use super::values::Values;
use super::{
    ClusterState, Config, Discovery, StorageEngine, certificates, duration, initial_cluster,
    retention, table,
};

/// Bytes of the largest request an operator may allow: beyond it nothing fits in memory twice.
const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// What is to be known of this host besides flags and environment.
pub type DefaultHost<'a> = &'a dyn Fn() -> Option<IpAddr>;

/// The configuration these values describe, not checked as a whole yet.
pub fn config(
    values: &Values,
    default_host: DefaultHost<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Config, Refusal> {
    let mut config = Config::default();
    member(values, &mut config);
    addresses(values, default_host, &mut config, notices)?;
    raft(values, &mut config)?;
    limits(values, &mut config)?;
    compaction(values, &mut config)?;
    observing(values, &mut config, notices)?;
    tls(values, &mut config, notices)?;
    let listens = values.is_given("listen-client-urls") && !values.is_in_file("listen-client-urls");
    if listens && !values.is_given("advertise-client-urls") {
        return Err(Refusal::NoAdvertise);
    }
    Ok(config)
}

fn member(values: &Values, config: &mut Config) {
    config.name = values.text("name").to_owned();
    config.data_dir = PathBuf::from(values.text("data-dir"));
    let wal_dir = values.text("wal-dir");
    config.wal_dir = (!wal_dir.is_empty()).then(|| PathBuf::from(wal_dir));
    config.storage_engine = match values.text("storage-engine") {
        "sled" => StorageEngine::Sled,
        _ => StorageEngine::Redb,
    };
    config.worker_threads = size(values, "worker-threads");
    config.unsafe_no_fsync = values.bool("unsafe-no-fsync");
    config.enable_grpc_gateway = values.bool("enable-grpc-gateway");
}

fn addresses(
    values: &Values,
    default_host: DefaultHost<'_>,
    config: &mut Config,
    notices: &mut Vec<Notice>,
) -> Result<(), Refusal> {
    config.listen_client_urls = values.urls("listen-client-urls");
    config.listen_client_http_urls = values.urls("listen-client-http-urls");
    config.listen_metrics_urls = values.urls("listen-metrics-urls");
    config.listen_peer_urls = values.urls("listen-peer-urls");
    let mut advertised = |flag: &'static str, listen: &[Url]| {
        let urls = values.urls(flag);
        let is_default = table::find(flag)
            .is_some_and(|flag: &Flag| print_list(&urls).join(",") == flag.default);
        match listen.first().filter(|url| is_default && is_every_address(url)) {
            Some(url) => on_this_host(urls, url, default_host, notices),
            None => print_list(&urls),
        }
    };
    config.advertise_client_urls = advertised("advertise-client-urls", &config.listen_client_urls);
    config.initial_advertise_peer_urls =
        advertised("initial-advertise-peer-urls", &config.listen_peer_urls);
    founders(values, config, notices)?;
    config.initial_cluster_state = match values.text("initial-cluster-state") {
        "existing" => ClusterState::Existing,
        _ => ClusterState::New,
    };
    config.initial_cluster_token = values.text("initial-cluster-token").to_owned();
    Ok(())
}

/// Who founds the cluster, or where that is to be found.
fn founders(
    values: &Values,
    config: &mut Config,
    notices: &mut Vec<Notice>,
) -> Result<(), Refusal> {
    let domain = values.text("discovery-srv").to_owned();
    let service_name = values.text("discovery-srv-name").to_owned();
    let is_said = values.is_given("initial-cluster");
    if !domain.is_empty() {
        if is_said {
            return Err(Refusal::SeveralBeginnings);
        }
        config.initial_cluster = Vec::new();
        config.discovery = Some(Discovery { domain, service_name, servers: Vec::new() });
        return Ok(());
    }
    if !service_name.is_empty() {
        let given = format!("--discovery-srv-name={service_name}");
        notices.push(Notice::NoEffect { given, reason: "it belongs to --discovery-srv" });
    }
    config.initial_cluster = if is_said {
        let text = values.text("initial-cluster");
        let pairs = initial_cluster::parse(text).map_err(Refusal::InitialCluster)?;
        let repeated = initial_cluster::repeated(&pairs).into_iter();
        notices.extend(repeated.map(|(name, urls)| Notice::NameRepeated { name, urls }));
        pairs
    } else {
        initial_cluster::of_one(&config.name, &config.initial_advertise_peer_urls)
    };
    Ok(())
}

fn is_every_address(url: &Url) -> bool {
    !url.is_unix() && url.host().parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// `localhost` is no place to send others to when the listener takes everybody.
fn on_this_host(
    urls: Vec<Url>,
    listener: &Url,
    default_host: DefaultHost<'_>,
    notices: &mut Vec<Notice>,
) -> Vec<String> {
    let Some(host) = default_host() else { return print_list(&urls) };
    let notice = Notice::DefaultHost(host.to_string());
    if !notices.contains(&notice) {
        notices.push(notice);
    }
    let host = match host {
        IpAddr::V4(host) => host.to_string(),
        IpAddr::V6(host) => format!("[{host}]"),
    };
    vec![format!("http://{host}:{}", listener.port())]
}

fn raft(values: &Values, config: &mut Config) -> Result<(), Refusal> {
    config.heartbeat_interval = Duration::from_millis(values.unsigned("heartbeat-interval"));
    config.election_timeout = Duration::from_millis(values.unsigned("election-timeout"));
    config.initial_election_tick_advance = values.bool("initial-election-tick-advance");
    config.snapshot_count = or_default(values.unsigned("snapshot-count"), config.snapshot_count);
    let catchup = values.unsigned("snapshot-catchup-entries");
    config.snapshot_catchup_entries = or_default(catchup, config.snapshot_catchup_entries);
    config.strict_reconfig_check = values.bool("strict-reconfig-check");
    config.pre_vote = values.bool("pre-vote");
    config.initial_corrupt_check =
        gates::is_on(values.text("feature-gates"), "InitialCorruptCheck");
    config.stop_serving_on_defrag =
        gates::is_on(values.text("feature-gates"), "StopGRPCServiceOnDefrag");
    config.force_new_cluster = values.bool("force-new-cluster");
    config.auto_replace = values.bool("auto-replace");
    config.max_learners = natural(values, "max-learners")?;
    let hash_check = values.nanos("compact-hash-check-time");
    if hash_check <= 0 {
        return Err(Refusal::ZeroHashCheck);
    }
    config.compact_hash_check_time = Some(Duration::from_nanos(hash_check.unsigned_abs()));
    let corrupt_check = u64::try_from(values.nanos("corrupt-check-time")).unwrap_or(0);
    config.corrupt_check_time =
        Some(Duration::from_nanos(corrupt_check)).filter(|interval| !interval.is_zero());
    Ok(())
}

fn limits(values: &Values, config: &mut Config) -> Result<(), Refusal> {
    config.quota_backend_bytes = values.signed("quota-backend-bytes");
    config.max_txn_ops = size(values, "max-txn-ops");
    let bytes = values.unsigned("max-request-bytes");
    if bytes > REQUEST_BYTES_MAX {
        let (flag, max) = ("max-request-bytes", REQUEST_BYTES_MAX);
        return Err(Refusal::TooMany { flag, value: bytes, max });
    }
    config.max_request_bytes = size(values, "max-request-bytes");
    let streams = u32::try_from(values.unsigned("max-concurrent-streams")).unwrap_or(u32::MAX);
    config.max_concurrent_streams = or_default(streams, u32::MAX);
    config.grpc_keepalive_interval = time(values, "grpc-keepalive-interval")?;
    config.grpc_keepalive_timeout = time(values, "grpc-keepalive-timeout")?;
    Ok(())
}

fn compaction(values: &Values, config: &mut Config) -> Result<(), Refusal> {
    config.auto_compaction = retention::parse(
        values.text("auto-compaction-mode"),
        values.text("auto-compaction-retention"),
    )?;
    let rows = natural(values, "compaction-batch-limit")?;
    config.compaction_batch_limit = or_default(rows, config.compaction_batch_limit);
    let sleep = time(values, "compaction-sleep-interval")?;
    config.compaction_sleep_interval = or_default(sleep, config.compaction_sleep_interval);
    let progress = time(values, "watch-progress-notify-interval")?;
    config.watch_progress_notify_interval =
        or_default(progress, config.watch_progress_notify_interval);
    Ok(())
}

fn observing(
    values: &Values,
    config: &mut Config,
    notices: &mut Vec<Notice>,
) -> Result<(), Refusal> {
    config.metrics_extensive = match values.text("metrics") {
        "basic" => false,
        "extensive" => true,
        other => {
            let given = format!("--metrics={other}");
            let reason = "only basic and extensive are known, and basic is used";
            notices.push(Notice::NoEffect { given, reason });
            false
        }
    };
    config.cors = values.origins("cors");
    config.warning_apply_duration = time(values, "warning-apply-duration")?;
    config.warning_unary_request_duration = time(values, "warning-unary-request-duration")?;
    Ok(())
}

fn tls(values: &Values, config: &mut Config, notices: &mut Vec<Notice>) -> Result<(), Refusal> {
    let common = certificates::common(values, notices)?;
    let given = ["cert-file", "key-file"].iter().any(|name| !values.text(name).is_empty());
    let auth = values.bool("client-cert-auth");
    for url in config.listen_client_urls.iter().chain(&config.listen_client_http_urls) {
        if !url.is_tls() && given {
            notices.push(Notice::PlainUrl(url.to_string()));
        }
        if !url.is_tls() && auth {
            notices.push(Notice::PlainUrlNoClientCerts(url.to_string()));
        }
    }
    let client = [&config.listen_client_urls, &config.listen_client_http_urls]
        .into_iter()
        .chain([&config.listen_metrics_urls]);
    if client.flatten().any(Url::is_tls) {
        config.client_tls = certificates::client(values, &common)?;
    }
    config.peer_tls = certificates::peer(values, &common)?;
    Ok(())
}

/// A number of things in memory.
fn size(values: &Values, name: &str) -> usize {
    usize::try_from(values.unsigned(name)).unwrap_or(usize::MAX)
}

/// A signed flag that may not be negative.
fn natural(values: &Values, flag: &'static str) -> Result<usize, Refusal> {
    let negative = || Refusal::Negative { flag, value: values.text(flag).to_owned() };
    usize::try_from(values.signed(flag)).map_err(|_| negative())
}

/// A time that may not be negative.
fn time(values: &Values, flag: &'static str) -> Result<Duration, Refusal> {
    let nanos = values.nanos(flag);
    if nanos < 0 {
        return Err(Refusal::Negative { flag, value: values.text(flag).to_owned() });
    }
    Ok(duration::from_nanos(nanos))
}

/// etcd reads zero as "you decide" in many places.
fn or_default<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}
