//! Tests of calls: what ends a stream, and what is counted of its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;

use super::{Answer, Call};
use crate::api::methods::Methods;
use crate::metrics::Metrics;

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A body that never says anything and never ends.
fn silent() -> Body {
    let frames = tokio_stream::pending::<Result<http_body::Frame<bytes::Bytes>, Status>>();
    Body::new(StreamBody::new(frames))
}

fn call(metrics: &Metrics) -> Call {
    Call::begin(Arc::clone(Methods::new(metrics).get(WATCH).expect("a method of the table")))
}

/// The trailers a body ends with.
fn trailers(answer: Answer) -> HeaderMap {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let body = runtime.expect("a runtime").block_on(answer.collect());
    body.expect("a body that ends in order").trailers().cloned().unwrap_or_default()
}

fn handled(metrics: &Metrics, code: &str) -> bool {
    let text = String::from_utf8(metrics.render()).expect("metrics are text");
    let code = format!("grpc_code=\"{code}\",grpc_method=\"Watch\",grpc_service=\"etcdserverpb");
    text.lines().any(|line| line.contains(&code) && line.ends_with(" 1"))
}

#[test]
fn a_deadline_ends_a_stream() {
    let metrics = Metrics::new(false);
    let deadline = Instant::now() + Duration::from_millis(5);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // A timer is set where it is made.
    let answer = {
        let _inside = runtime.enter();
        Answer::new(silent(), call(&metrics), Some(deadline), None, None)
    };
    let body = runtime.block_on(answer.collect()).expect("a body that ends in order");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "4");
    assert!(handled(&metrics, "DeadlineExceeded"));
}

#[test]
fn the_stop_ends_a_stream_that_waits_and_one_that_comes_late() {
    let metrics = Metrics::new(false);
    let (stop, stopping) = watch::channel(false);
    let waits = Answer::new(silent(), call(&metrics), None, Some(stopping.clone()), None);
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        stop.send(true)
    });
    assert_eq!(trailers(waits)["grpc-status"], "14");
    assert!(handled(&metrics, "Unavailable"));
    assert_eq!(stopper.join().expect("the stopper does not panic"), Ok(()));
    let late = Answer::new(silent(), call(&Metrics::new(false)), None, Some(stopping), None);
    assert_eq!(trailers(late)["grpc-message"], "etcdserver:%20server%20stopped");
}

#[test]
fn a_call_that_is_dropped_was_canceled() {
    let metrics = Metrics::new(false);
    drop(Answer::new(silent(), call(&metrics), None, None, None));
    assert!(handled(&metrics, "Canceled"));
    let mut ended = call(&metrics);
    ended.end(0);
    drop(ended);
    assert!(handled(&metrics, "OK") && handled(&metrics, "Canceled"), "an end is counted once");
}

/// A client that asked to be told is told that there is no leader.
#[test]
fn a_lost_leader_ends_a_stream() {
    let metrics = Metrics::new(false);
    let (losses, told) = watch::channel(0);
    let waits = Answer::new(silent(), call(&metrics), None, None, Some(told));
    losses.send_modify(|losses| *losses += 1);
    let trailers = trailers(waits);
    assert_eq!(trailers["grpc-status"], "14");
    assert_eq!(trailers["grpc-message"], "etcdserver:%20no%20leader");
}
