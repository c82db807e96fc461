//! What is counted of gRPC: calls by method and code, messages, latencies, versions of clients.
//!
//! A [`GrpcMethod`] is made once, at the start, with all its series at zero; a call then adds to
//! numbers it holds. A unary call has one request and one answer, so its messages are not counted
//! again: they follow from the calls when somebody scrapes ([`Grpc::settle`]).

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};

use super::Maker;

/// The names of gRPC codes by number, as go-grpc-prometheus spells them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The `grpc_type` of methods with one request and one answer.
const UNARY: &str = "unary";

/// Methods whose latency `etcd_server_request_duration_seconds` shows, and under which type.
const REQUESTS: [(&str, &str); 7] = [
    ("Range", "Range"),
    ("Put", "Put"),
    ("DeleteRange", "DeleteRange"),
    ("Txn", "Txn"),
    ("Compact", "Compaction"),
    ("LeaseGrant", "LeaseGrant"),
    ("LeaseRevoke", "LeaseRevoke"),
];

/// The counters of one gRPC method, found once.
pub struct GrpcMethod {
    started: IntCounter,
    handled: Vec<IntCounter>,
    messages: Messages,
    /// With `--metrics=extensive`.
    seconds: Option<Histogram>,
    /// Failures, successes.
    request_seconds: Option<[Histogram; 2]>,
    /// As above, of ranges alone and in finer steps.
    range_seconds: Option<[Histogram; 2]>,
}

/// The messages of one method, both ways.
#[derive(Clone)]
pub struct Messages {
    pub received: IntCounter,
    pub sent: IntCounter,
}

impl GrpcMethod {
    /// A call began.
    pub fn start(&self) {
        self.started.inc();
    }

    /// A call ended with this gRPC code.
    pub fn finish(&self, code: i32, took: Duration) {
        let index = usize::try_from(code).unwrap_or(2).min(CODES.len() - 1);
        self.handled[index].inc();
        let took = took.as_secs_f64();
        if let Some(seconds) = &self.seconds {
            seconds.observe(took);
        }
        if let Some(seconds) = &self.request_seconds {
            seconds[usize::from(code == 0)].observe(took);
        }
        if let Some(seconds) = &self.range_seconds {
            seconds[usize::from(code == 0)].observe(took);
        }
    }

    /// For streams, whose messages are counted one by one.
    pub fn messages(&self) -> &Messages {
        &self.messages
    }
}

/// The series of all methods.
pub(super) struct Grpc {
    started: IntCounterVec,
    handled: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    seconds: Option<HistogramVec>,
    request_seconds: HistogramVec,
    range_seconds: HistogramVec,
    unary: Mutex<Vec<Unary>>,
}

/// A unary method: what its messages are told by.
struct Unary {
    started: IntCounter,
    answered: IntCounter,
    messages: Messages,
}

impl Grpc {
    pub fn new(m: &Maker<'_>, extensive: bool) -> Self {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let coded = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        Self {
            started: m.counters("grpc_server_started_total", "Calls begun.", &labels),
            handled: m.counters("grpc_server_handled_total", "Calls ended, by code.", &coded),
            received: m.counters(
                "grpc_server_msg_received_total",
                "Messages received from clients.",
                &labels,
            ),
            sent: m.counters("grpc_server_msg_sent_total", "Messages sent to clients.", &labels),
            seconds: extensive.then(|| {
                m.keep(HistogramVec::new(
                    HistogramOpts::new("grpc_server_handling_seconds", "How long calls take."),
                    &labels,
                ))
            }),
            request_seconds: m.histograms(
                "etcd_server_request_duration_seconds",
                "How long requests take, by what they ask for.",
                &["type", "success"],
                (0.001, 14),
            ),
            range_seconds: m.histograms(
                "etcd_server_range_duration_seconds",
                "How long ranges take.",
                &["success"],
                (0.0001, 20),
            ),
            unary: Mutex::default(),
        }
    }

    /// The counters of a method, all of them present at zero.
    pub fn method(&self, kind: &str, service: &str, method: &str) -> GrpcMethod {
        let labels = [kind, service, method];
        let started = self.started.with_label_values(&labels);
        let with_code =
            |code| self.handled.with_label_values(&[kind, service, method, CODES[code]]);
        let handled: Vec<IntCounter> = (0..CODES.len()).map(with_code).collect();
        let messages = Messages {
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
        };
        if kind == UNARY {
            let (started, answered) = (started.clone(), handled[0].clone());
            self.unary.lock().push(Unary { started, answered, messages: messages.clone() });
        }
        let request = REQUESTS.iter().find(|(name, _)| *name == method);
        let request_seconds = request.map(|(_, of)| {
            ["false", "true"].map(|success| self.request_seconds.with_label_values(&[of, success]))
        });
        let range_seconds = (method == "Range").then(|| {
            ["false", "true"].map(|success| self.range_seconds.with_label_values(&[success]))
        });
        let seconds = self.seconds.as_ref().map(|vec| vec.with_label_values(&labels));
        GrpcMethod { started, handled, messages, seconds, request_seconds, range_seconds }
    }

    /// Brings the messages of unary methods up to date.
    pub fn settle(&self) {
        for Unary { started, answered, messages } in self.unary.lock().iter() {
            raise(&messages.received, started.get());
            raise(&messages.sent, answered.get());
        }
    }
}

fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

/// API versions of clients that have a series of their own. Others share the last one: a label must
/// not be whatever a client sends.
const VERSIONS: [&str; 5] = ["3.7", "3.6", "3.5", "3.8", "unknown"];

/// Calls by the API version their clients state.
pub struct Calls {
    by_version: IntCounterVec,
    /// Streams, unary calls; made when first needed.
    series: [[OnceLock<IntCounter>; 2]; VERSIONS.len()],
}

impl Calls {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        let by_version = m.counters(
            "etcd_server_client_requests_total",
            "Calls by kind and by the API version their clients state.",
            &["type", "client_api_version"],
        );
        Self { by_version, series: Default::default() }
    }

    /// A call of a client of this version.
    pub fn count(&self, is_unary: bool, version: &str) {
        let known = VERSIONS.iter().position(|known| *known == version);
        let at = known.unwrap_or(VERSIONS.len() - 1);
        let series = self.series[at][usize::from(is_unary)].get_or_init(|| {
            let kind = if is_unary { UNARY } else { "stream" };
            self.by_version.with_label_values(&[kind, VERSIONS[at]])
        });
        series.inc();
    }
}
