//! `/metrics`: gauges that mirror state are read now, then everything is printed.

use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use prometheus::Counter;
use tokio::sync::Mutex;

use super::respond;
use crate::metrics::Process;
use crate::node::Handle;
use crate::pb::AlarmType;

/// What a scrape waits for a member that is busy; then the alarms are those of the last scrape.
const ALARMS_WAIT_MAX: Duration = Duration::from_millis(500);
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// What scrapes are answered with: all who ask while one text is made share the next. A crowd costs
/// two of them, not one for each, and what it does not read is in memory once.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    /// How often was asked.
    asked: AtomicU64,
    /// The newest text, and how many had asked when it was begun.
    newest: Mutex<(u64, Arc<Text>)>,
}

#[derive(Debug, Default)]
struct Text {
    plain: Bytes,
    zipped: OnceLock<Bytes>,
}

impl Scrapes {
    /// A text that shows what was true when it was asked for, or later.
    async fn text(&self, node: &Handle) -> Arc<Text> {
        let turn = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut newest = self.newest.lock().await;
        if newest.0 < turn {
            let asked = self.asked.load(Ordering::Relaxed);
            node.refresh_metrics();
            refresh_alarms(node).await;
            refresh_process(&node.metrics().process);
            let plain = node.metrics().render().into();
            *newest = (asked, Arc::new(Text { plain, zipped: OnceLock::new() }));
        }
        newest.1.clone()
    }
}

/// The exposition text of a member, zipped if the client takes that.
pub(super) async fn metrics(
    node: &Handle,
    scrapes: &Scrapes,
    request: &HeaderMap,
) -> Response<Full<Bytes>> {
    let text = scrapes.text(node).await;
    let accepted = request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let mut encodings = accepted.unwrap_or_default().split(',').map(str::trim);
    if encodings.any(|encoding| encoding == "gzip" || encoding.starts_with("gzip;q=1")) {
        let zipped = text.zipped.get_or_init(|| zip(&text.plain).into()).clone();
        let mut response = respond(StatusCode::OK, CONTENT_TYPE, zipped);
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
        return response;
    }
    respond(StatusCode::OK, CONTENT_TYPE, text.plain.clone())
}

fn zip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let zipped = encoder.write_all(text).and_then(|()| encoder.finish());
    zipped.expect("writing to memory cannot fail")
}

/// Which alarms are in force, at zero those that are not.
async fn refresh_alarms(node: &Handle) {
    let asked = node.inspect(|machine| machine.alarms().list(AlarmType::None as i32));
    let Ok(Ok(alarms)) = tokio::time::timeout(ALARMS_WAIT_MAX, asked).await else { return };
    let gauges = &node.metrics().alarms;
    gauges.reset();
    let own = format!("{:x}", node.member_id());
    for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
        gauges.with_label_values(&[&own, kind.as_str_name()]).set(0);
    }
    for alarm in alarms {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        gauges.with_label_values(&[&format!("{:x}", alarm.member_id), kind]).set(1);
    }
}

/// Reads what the kernel says of this process; a reading that fails keeps the last value.
fn refresh_process(process: &Process) {
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    if let Some(fields) = stat_fields() {
        let number = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        if let (Some(user), Some(system)) = (number(11), number(12)) {
            raise(&process.cpu_seconds, (user + system) / ticks_per_second);
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
    if let Some((received, sent)) = network_bytes() {
        raise(&process.network_received_bytes, received);
        raise(&process.network_sent_bytes, sent);
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        let fds = fds.count() as i64;
        process.open_fds.set(fds);
        process.fd_used.set(fds);
    }
    let limit = |of| rustix::process::getrlimit(of).current.unwrap_or(u64::MAX);
    let fds_max = limit(rustix::process::Resource::Nofile).min(i64::MAX as u64) as i64;
    process.max_fds.set(fds_max);
    process.fd_limit.set(fds_max);
    process.virtual_bytes_max.set(limit(rustix::process::Resource::As) as f64);
}

/// Sets a counter that somebody else counts.
fn raise(counter: &Counter, to: f64) {
    counter.inc_by((to - counter.get()).max(0.0));
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

/// Bytes received and sent over IP: a line of names, then a line of numbers.
fn network_bytes() -> Option<(f64, f64)> {
    let netstat = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let number = |wanted: &str| {
        let mut pairs = names.split(' ').zip(numbers.split(' '));
        pairs.find(|(name, _)| *name == wanted)?.1.parse::<f64>().ok()
    };
    Some((number("InOctets")?, number("OutOctets")?))
}
