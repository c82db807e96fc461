//! `/metrics`: gauges that mirror state are read now, then everything is printed.

use std::fs;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::respond;
use crate::metrics::Process;
use crate::node::Handle;

/// The exposition text of a member.
pub(super) async fn metrics(node: &Handle, _: &HeaderMap) -> Response<Full<Bytes>> {
    node.refresh_metrics();
    refresh_process(&node.metrics().process);
    let metrics = node.metrics();
    metrics.fd_used.set(metrics.process.open_fds.get());
    metrics.fd_limit.set(metrics.process.max_fds.get());
    respond(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        metrics.render(),
    )
}

/// Reads what the kernel says of this process; a reading that fails keeps the last value.
fn refresh_process(process: &Process) {
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    if let Some(fields) = stat_fields() {
        let number = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        if let (Some(user), Some(system)) = (number(11), number(12)) {
            process.cpu_seconds.set((user + system) / ticks_per_second);
        }
        if let (Some(threads), Some(virtual_bytes)) = (number(17), number(20)) {
            process.threads.set(threads as i64);
            process.virtual_bytes.set(virtual_bytes as i64);
        }
        if let (Some(pages), page_bytes) = (number(21), rustix::param::page_size()) {
            process.resident_bytes.set(pages as i64 * page_bytes as i64);
        }
        if let (Some(start), Some(boot)) = (number(19), boot_seconds()) {
            process.start_seconds.set(boot + start / ticks_per_second);
        }
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        process.open_fds.set(fds.count() as i64);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    process.max_fds.set(limit.current.unwrap_or(u64::MAX).min(i64::MAX as u64) as i64);
}

/// The fields of `/proc/self/stat` behind the command's name, which may hold spaces.
fn stat_fields() -> Option<Vec<String>> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}
