//! One gRPC call under way: counted whatever its end, and ended when its time is up.
//!
//! A streamed answer is watched on its way out ([`Answer`]): its own end is counted; its client's
//! deadline ends it; and if it would go on for ever, so does the stop of the server, because a
//! server cannot wait for what never ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::watch;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::methods::Method;
use super::status::status;
use crate::error::Error;

#[cfg(test)]
mod tests;

const CANCELED: i32 = 1;

/// A call from its start to its end. Dropped without an end, its client has hung up.
pub struct Call {
    method: Arc<Method>,
    pub started: Instant,
    ended: bool,
}

impl Call {
    /// A call begins.
    pub fn begin(method: Arc<Method>) -> Self {
        method.counters.start();
        Self { method, started: Instant::now(), ended: false }
    }

    /// The path of what is called.
    pub fn path(&self) -> &str {
        &self.method.path
    }

    /// The call is over with this gRPC code; what is told later does not count.
    pub fn end(&mut self, code: i32) {
        if !std::mem::replace(&mut self.ended, true) {
            self.method.counters.finish(code, self.started.elapsed());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(CANCELED);
    }
}

/// The code of a response or of trailers.
pub fn grpc_code(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What a client is told whose time is up.
pub fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// A streamed answer.
pub struct Answer {
    body: Body,
    call: Call,
    deadline: Option<Pin<Box<Sleep>>>,
    stop: Option<Event<bool>>,
    /// That there has been no leader for long, for a client that asked to be told.
    loss: Option<Event<u64>>,
    /// Who is told of the deadline and of the events. As long as that does not change, none of them
    /// has to be asked again: they are looked at only when the stream itself has nothing.
    told: Option<Waker>,
}

/// Something that may happen, to be seen and to be woken by.
struct Event<T> {
    seen: watch::Receiver<T>,
    wakes: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<T: Send + Sync + 'static> Event<T> {
    /// The next change of a value, or that nobody is left to change it.
    fn new(mut value: watch::Receiver<T>) -> Self {
        let seen = value.clone();
        let wakes = Box::pin(async move {
            let _ = value.changed().await;
        });
        Self { seen, wakes }
    }

    fn has_come(&self) -> bool {
        self.seen.has_changed().unwrap_or(true)
    }

    /// Whether it has come; if not, the task is woken by it.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        self.wakes.as_mut().poll(context).is_ready()
    }
}

impl Answer {
    /// Watches a body that answers `call` and ends when `deadline` has come, the server stops, or
    /// leaders are lost.
    pub fn new(
        body: Body,
        call: Call,
        deadline: Option<Instant>,
        stopping: Option<watch::Receiver<bool>>,
        losses: Option<watch::Receiver<u64>>,
    ) -> Self {
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        let (stop, loss) = (stopping.map(Event::new), losses.map(Event::new));
        Self { body, call, deadline, stop, loss, told: None }
    }

    /// Why the stream ends before its own end, if it does.
    fn cut(&self) -> Option<Status> {
        if self.stop.as_ref().is_some_and(Event::has_come) {
            return Some(status(&Error::Stopped));
        }
        if self.loss.as_ref().is_some_and(Event::has_come) {
            return Some(status(&Error::NoLeader));
        }
        let is_late = self.deadline.as_ref().is_some_and(|deadline| deadline.is_elapsed());
        is_late.then(deadline_exceeded)
    }

    /// Makes sure that this task is woken when the stream has to end.
    fn wait(&mut self, context: &mut Context<'_>) {
        if self.told.as_ref().is_some_and(|told| told.will_wake(context.waker())) {
            return;
        }
        self.told = Some(context.waker().clone());
        // What is ready by now wakes nobody any more, so the task is woken for it here.
        let stops = self.stop.as_mut().is_some_and(|stop| stop.poll(context));
        let lost = self.loss.as_mut().is_some_and(|loss| loss.poll(context));
        let is_late = self
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(context).is_ready());
        if stops || lost || is_late {
            context.waker().wake_by_ref();
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.call.ended {
            return Poll::Ready(None);
        }
        if let Some(status) = self.cut() {
            self.call.end(status.code() as i32);
            let mut trailers = HeaderMap::new();
            let made = status.add_header(&mut trailers);
            return Poll::Ready(Some(made.map(|()| Frame::trailers(trailers))));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            self.wait(context);
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.end(grpc_code(trailers).unwrap_or(0));
                }
            }
            Some(Err(status)) => self.call.end(status.code() as i32),
            None => self.call.end(0),
        }
        Poll::Ready(frame)
    }
}
