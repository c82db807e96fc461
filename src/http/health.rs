//! `/health`, `/livez` and `/readyz`: may this member be trusted with requests?
//!
//! `/health` is etcd's old probe: one JSON line. The `z` probes are Kubernetes' kind: a list of
//! named checks, each with a path of its own.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::{Query, no_sniffing, text};
use crate::error::Error;
use crate::node::Handle;
use crate::pb::{AlarmType, RangeRequest};

/// A named condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, node: &Handle) -> Result<(), String> {
        match self {
            Check::DataCorruption => {
                let alarms =
                    node.inspect(|machine| machine.alarms().list(AlarmType::Corrupt as i32));
                let alarms = alarms.await.map_err(|error| error.to_string())?;
                if alarms.is_empty() { Ok(()) } else { Err("alarm activated: CORRUPT".into()) }
            }
            Check::SerializableRead => read(node, true).await.map_err(|error| error.to_string()),
            Check::LinearizableRead => read(node, false).await.map_err(|error| error.to_string()),
            Check::NonLearner if node.is_learner() => Err("not supported for learner".into()),
            Check::NonLearner => Ok(()),
        }
    }
}

const LIVE: [Check; 1] = [Check::SerializableRead];
const READY: [Check; 4] =
    [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

/// Whether a path is `/livez`, `/readyz` or one of their checks.
pub(super) fn is_probe(path: &str) -> bool {
    checks(path).is_some_and(|(_, checks, only)| {
        only.is_none_or(|only| checks.iter().any(|check| check.name() == only))
    })
}

/// A probe's name, its checks, and the one check the path picks.
fn checks(path: &str) -> Option<(&'static str, &'static [Check], Option<&str>)> {
    let (probe, only) = match path.strip_prefix('/')?.split_once('/') {
        Some((probe, only)) => (probe, Some(only)),
        None => (&path[1..], None),
    };
    match probe {
        "livez" => Some(("livez", &LIVE, only)),
        "readyz" => Some(("readyz", &READY, only)),
        _ => None,
    }
}

/// Reads nothing, the way a client would read.
async fn read(node: &Handle, serializable: bool) -> Result<(), Error> {
    if !serializable {
        node.read_barrier().await?;
    }
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        limit: 1,
        keys_only: true,
        serializable,
        ..RangeRequest::default()
    };
    node.metrics().mvcc_ranges.inc();
    node.read(|view| view.range(&request)).map(|_| ())
}

/// Runs the checks of a probe that the request does not exclude.
pub(super) async fn probe(node: &Handle, path: &str, query: &Query) -> Response<Full<Bytes>> {
    let Some((name, all, only)) = checks(path) else {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let excluded: Vec<&str> = query.all("exclude").collect();
    for unknown in excluded.iter().filter(|name| !all.iter().any(|check| check.name() == **name)) {
        tracing::warn!(probe = name, check = unknown, "some health checks cannot be excluded");
    }
    let mut lines = String::new();
    let mut healthy = true;
    for check in all.iter().filter(|check| only.is_none_or(|only| check.name() == only)) {
        if only.is_none() && excluded.contains(&check.name()) {
            continue;
        }
        let result = check.run(node).await;
        note(node, name, check.name(), result.is_ok());
        match result {
            Ok(()) => lines.push_str(&format!("[+]{} ok\n", check.name())),
            Err(reason) => {
                healthy = false;
                lines.push_str(&format!("[-]{} failed: {reason}\n", check.name()));
            }
        }
    }
    if !healthy {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{lines}\n"));
    }
    let lines = if query.has("verbose") { format!("{lines}ok\n") } else { "ok\n".to_owned() };
    let mut response = text(StatusCode::OK, lines);
    no_sniffing(&mut response);
    response
}

fn note(node: &Handle, probe: &str, check: &str, healthy: bool) {
    let metrics = node.metrics();
    metrics.healthcheck.with_label_values(&[probe, check]).set(i64::from(healthy));
    let status = if healthy { "success" } else { "error" };
    metrics.healthchecks.with_label_values(&[probe, check, status]).inc();
}

/// `/health`: alarms first, then a leader, then a read.
pub(super) async fn health(node: &Handle, query: &Query) -> Response<Full<Bytes>> {
    let serializable = query.first("serializable") == Some("true");
    let excluded: Vec<&str> = query.all("exclude").collect();
    let reason = unhealthy(node, serializable, &excluded).await;
    match reason {
        None => {
            node.metrics().health_success.inc();
            text(StatusCode::OK, r#"{"health":"true","reason":""}"#)
        }
        Some(reason) => {
            node.metrics().health_failures.inc();
            let reason = serde_json::to_string(&reason).expect("a string is JSON");
            let body = format!("{{\"health\":\"false\",\"reason\":{reason}}}\n");
            text(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

async fn unhealthy(node: &Handle, serializable: bool, excluded: &[&str]) -> Option<String> {
    let alarms = match node.inspect(|machine| machine.alarms().list(AlarmType::None as i32)).await {
        Ok(alarms) => alarms,
        Err(error) => return Some(format!("RANGE ERROR:{error}")),
    };
    for alarm in alarms {
        let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        if !excluded.contains(&name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !serializable && node.progress().leader == 0 {
        return Some("RAFT NO LEADER".into());
    }
    read(node, serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
}
