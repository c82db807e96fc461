//! The watch thread: the one owner of the hub, between the applier and the streams.
//!
//! ```text
//! applier ──changes──▶ ┌─────┐ ──deliveries──▶ a queue per stream ──▶ api::watch
//! streams ──requests─▶ │ hub │
//! catch-up ──pages───▶ └─────┘ ──jobs──▶ catch-up thread (reads history)
//! ```
//!
//! Publishing happens here and not on the applier, so a thousand watchers of one key do not stand
//! between a write and its answer. Queues are unbounded channels, but the hub counts what it put in
//! and what was taken, and keeps to its budget; what waits is charged to the client's connection,
//! and a client that does not take its answers is not asked for more requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use flume::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::{Notify, mpsc};

use super::accounts::{Account, Charge};
use super::driver::Next;
use super::progress::Progress;
use super::{Clock, fatal, start_thread};
use crate::error::{Failure, Fault};
use crate::limits;
use crate::marks::{Mark, mark};
use crate::metrics::Metrics;
use crate::mvcc::{Changes, Reader};
use crate::pb::WatchCreateRequest;
use crate::planted::{Mistake, planted};
use crate::watch::{
    Delivery, Hub, Job, Limits, Now, Output, Page, Receipts, StreamId, Taken, Visit,
};

/// Revisions of history read at a time.
const HISTORY_REVISIONS: usize = 1000;
/// How long the thread sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// What the watch thread can be told.
pub(crate) enum Input {
    Changes(Vec<Changes>),
    Compacted(i64),
    Open {
        stream: StreamId,
        queue: Queue,
    },
    Create {
        stream: StreamId,
        request: WatchCreateRequest,
    },
    Cancel {
        stream: StreamId,
        watch_id: i64,
    },
    Progress {
        stream: StreamId,
    },
    /// The stream's edge has taken this much since it was opened.
    Taken {
        stream: StreamId,
        taken: Taken,
    },
    Close {
        stream: StreamId,
    },
    CaughtUp(Page),
    /// The rows are those of a received state now; nobody was told of what led there.
    Restored,
    /// The server stops: every stream ends.
    Stop,
}

impl Input {
    /// The stream whose client asks for something.
    fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Create { stream, .. }
            | Self::Cancel { stream, .. }
            | Self::Progress { stream } => Some(*stream),
            Self::Changes(_)
            | Self::Compacted(_)
            | Self::Open { .. }
            | Self::Taken { .. }
            | Self::Close { .. }
            | Self::CaughtUp(_)
            | Self::Restored
            | Self::Stop => None,
        }
    }
}

/// What the thread is given at its start.
pub(super) struct Parts {
    pub reader: Reader,
    pub inbox: Receiver<Input>,
    pub outbox: Sender<Input>,
    pub limits: Limits,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

/// Starts the watch thread and its catch-up thread. They end on [`Input::Stop`].
pub(super) fn start(parts: Parts) -> Vec<thread::JoinHandle<()>> {
    let (watches, history) = Watches::new(parts);
    let history = thread::Builder::new()
        .name("watch-history".into())
        .spawn(move || history.run())
        .expect("the process may start threads");
    let watch = start_thread("watch", move || run(watches));
    vec![watch, history]
}

fn run(mut watches: Watches) -> Result<(), Fault> {
    let inbox = watches.parts.inbox.clone();
    loop {
        let input = match inbox.recv_timeout(watches.patience()) {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            waited => waited.ok(),
        };
        if watches.turn(input)?.is_stop() {
            return Ok(());
        }
    }
}

fn now(reader: &Reader) -> Now {
    let view = reader.view();
    Now { revision: view.revision(), compact_revision: view.compact_revision() }
}

pub(super) struct Watches {
    parts: Parts,
    hub: Hub,
    queues: HashMap<StreamId, Queue>,
    jobs: Sender<Job>,
}

impl Watches {
    /// The hub, and the reader of history for those who lag.
    ///
    /// Made before anything is applied: what the hub starts from must not be ahead of what it will
    /// be told of.
    pub fn new(parts: Parts) -> (Self, History) {
        let (jobs, queue) = flume::unbounded();
        let (reader, outbox) = (parts.reader.clone(), parts.outbox.clone());
        let hub = Hub::new(now(&parts.reader), parts.limits.clone());
        let watches = Self { parts, hub, queues: HashMap::new(), jobs };
        (watches, History { reader, jobs: queue, outbox })
    }

    #[cfg(debug_assertions)]
    pub fn counts(&self) -> crate::watch::Counts {
        self.hub.counts()
    }

    /// Takes an input, if there is one, and delivers what is due.
    pub fn turn(&mut self, input: Option<Input>) -> Result<Next, Fault> {
        match input {
            Some(Input::Stop) => return Ok(Next::Stop),
            Some(input) => self.take(input)?,
            None => {}
        }
        self.hub.tick(self.parts.clock.now_ms());
        self.deliver();
        Ok(Next::GoOn)
    }

    /// How long nothing is due.
    pub fn patience(&self) -> Duration {
        let now = self.parts.clock.now_ms();
        self.hub
            .next_tick_ms()
            .map_or(IDLE, |due| Duration::from_millis(due.saturating_sub(now)).min(IDLE))
    }

    fn take(&mut self, input: Input) -> Result<(), Fault> {
        if let Some(queue) = input.stream().and_then(|stream| self.queues.get(&stream)) {
            queue.pressure.heard();
        }
        match input {
            Input::Changes(batch) => return self.publish(batch),
            Input::Compacted(revision) => self.hub.compacted(revision),
            Input::Open { stream, queue } => {
                if self.queues.is_empty() {
                    // Nobody told the hub of changes while there was nobody to tell them to.
                    self.hub.restored(now(&self.parts.reader));
                }
                self.queues.insert(stream, queue);
                self.hub.open(stream, self.parts.clock.now_ms());
            }
            Input::Create { stream, request } => {
                self.hub.create(stream, &request, now(&self.parts.reader));
            }
            Input::Cancel { stream, watch_id } => self.hub.cancel(stream, watch_id),
            Input::Progress { stream } => {
                let ahead = i64::from(planted(Mistake::ProgressAhead));
                let revision = self.parts.reader.revision();
                self.hub.progress_request(stream, revision);
                if ahead > 0
                    && let Some(queue) = self.queues.get(&stream)
                {
                    let body = crate::watch::Body::Progress;
                    let (watch_id, revision) = (-1, revision + ahead);
                    queue.send(Delivery { watch_id, revision, bytes: 0, body });
                }
            }
            Input::Taken { stream, taken } => self.hub.room(stream, taken),
            Input::Close { stream } => {
                self.queues.remove(&stream);
                self.hub.close(stream);
            }
            Input::CaughtUp(page) => self.hub.caught_up(page),
            Input::Restored => {
                if self.hub.counts().watchers > 0 {
                    mark(Mark::InstalledUnderWatches);
                }
                self.hub.restored(now(&self.parts.reader));
            }
            Input::Stop => unreachable!("a turn ends on stop"),
        }
        self.count();
        Ok(())
    }

    fn publish(&mut self, batch: Vec<Changes>) -> Result<(), Fault> {
        if self.queues.is_empty() {
            return Ok(());
        }
        let reader = self.parts.reader.clone();
        for changes in batch {
            if changes.revision <= self.hub.revision() {
                // A stream was opened between their publication and their arrival here.
                continue;
            }
            let mut lookup = |change: &crate::mvcc::Change| previous(&reader, change);
            self.hub.publish(changes, &mut lookup)?;
        }
        Ok(())
    }

    fn deliver(&mut self) {
        for output in self.hub.work() {
            match output {
                Output::Send { stream, delivery } => {
                    if let Some(queue) = self.queues.get(&stream) {
                        queue.send(delivery);
                    }
                }
                Output::CatchUp(job) => {
                    let _ = self.jobs.send(job);
                }
            }
        }
    }

    fn count(&self) {
        let counts = self.hub.counts();
        self.parts.metrics.watch_streams.set(counts.streams as i64);
        self.parts.metrics.watchers.set(counts.watchers as i64);
        self.parts.metrics.watchers_slow.set(counts.slow as i64);
    }
}

/// The row a change replaced; absent when compaction was quicker.
fn previous(reader: &Reader, change: &crate::mvcc::Change) -> Result<Option<bytes::Bytes>, Fault> {
    match reader.previous(&change.key, change.revision.main) {
        Ok(row) => Ok(row),
        Err(Failure::Refused(_)) => Ok(None),
        Err(Failure::Fault(fault)) => Err(fault),
    }
}

/// Reads history for lagging watchers, one job after the other.
pub(super) struct History {
    reader: Reader,
    jobs: Receiver<Job>,
    outbox: Sender<Input>,
}

impl History {
    fn run(self) {
        while let Ok(job) = self.jobs.recv() {
            self.turn(&job).unwrap_or_else(|fault| fatal(&fault));
        }
    }

    fn turn(&self, job: &Job) -> Result<(), Fault> {
        mark(Mark::WatchFedFromHistory);
        let page = page(&self.reader, job)?;
        let _ = self.outbox.send(Input::CaughtUp(page));
        Ok(())
    }

    /// Takes a turn if there is a job; whether there was.
    #[cfg(debug_assertions)]
    pub fn turn_if_asked(&self) -> Result<bool, Fault> {
        match self.jobs.try_recv() {
            Ok(job) => self.turn(&job).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    #[cfg(debug_assertions)]
    pub fn is_asked(&self) -> bool {
        !self.jobs.is_empty()
    }
}

fn page(reader: &Reader, job: &Job) -> Result<Page, Fault> {
    let view = reader.view();
    let mut writer = job.page();
    let mut fault = None;
    let (mut stopped, mut from) = (false, Some(job.from));
    while let Some(next) = from.filter(|_| !stopped) {
        let read = view.history(next, view.revision(), HISTORY_REVISIONS, &mut |change| {
            stopped = stopped || fault.is_some();
            if stopped {
                return;
            }
            match writer.visit(change.revision.main, &change.key, change.kind) {
                Visit::Skip => {}
                Visit::Stop => stopped = true,
                Visit::Take => {
                    fault = writer.take(change, &mut |change| previous(reader, change)).err();
                }
            }
        });
        from = match read {
            Ok(more) => more,
            Err(Failure::Refused(_)) => return Ok(writer.compacted(reader.compact_revision())),
            Err(Failure::Fault(fault)) => return Err(fault),
        };
        if let Some(fault) = fault {
            return Err(fault);
        }
    }
    Ok(writer.finish(view.revision()))
}

/// The hub's end of a stream's queue.
pub(crate) struct Queue {
    deliveries: mpsc::UnboundedSender<(Delivery, Charge)>,
    account: Account,
    pressure: Arc<Pressure>,
}

impl Queue {
    fn send(&self, delivery: Delivery) {
        let charge = self.account.charge(delivery.bytes);
        self.pressure.waits();
        // A closed queue belongs to a stream whose Close is on its way.
        let _ = self.deliveries.send((delivery, charge));
    }
}

/// How many requests of a stream wait for the hub, and deliveries for its client. Who makes
/// requests and does not read the answers is not listened to for a while.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    waiting: AtomicUsize,
    eased: Notify,
}

impl Pressure {
    fn waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// The hub has heard a request, or the client was sent a delivery.
    fn heard(&self) {
        if self.waiting.fetch_sub(1, Ordering::Relaxed) == limits::WATCH_STREAM_WAITING_MAX {
            self.eased.notify_one();
        }
    }

    /// Waits until there is room for another request.
    async fn room(&self) {
        while self.waiting.load(Ordering::Relaxed) >= limits::WATCH_STREAM_WAITING_MAX {
            self.eased.notified().await;
        }
    }
}

/// One watch stream, as its edge holds it. Dropping it closes the stream.
///
/// It is counted from before its opening is sent until after its closing is: the applier leaves
/// changes out only while the count is zero, and what it published before that shows in the state
/// a first stream starts from.
pub(crate) struct Stream {
    id: StreamId,
    inbox: Sender<Input>,
    progress: Arc<Progress>,
    queue: mpsc::UnboundedReceiver<(Delivery, Charge)>,
    receipts: Receipts,
    pressure: Arc<Pressure>,
}

/// The requesting half of a [`Stream`].
#[derive(Clone)]
pub(crate) struct Requests {
    id: StreamId,
    inbox: Sender<Input>,
    pressure: Arc<Pressure>,
}

impl Stream {
    pub(super) fn open(
        ids: &AtomicU64,
        inbox: Sender<Input>,
        progress: Arc<Progress>,
        limits: &Limits,
        account: Account,
    ) -> Self {
        let id = StreamId(ids.fetch_add(1, Ordering::Relaxed));
        let (deliveries, receiver) = mpsc::unbounded_channel();
        progress.streams.fetch_add(1, Ordering::SeqCst);
        let pressure = Arc::<Pressure>::default();
        let queue = Queue { deliveries, account, pressure: pressure.clone() };
        let _ = inbox.send(Input::Open { stream: id, queue });
        Self { id, inbox, progress, queue: receiver, receipts: Receipts::new(limits), pressure }
    }

    /// The half that takes requests.
    pub fn requests(&self) -> Requests {
        Requests { id: self.id, inbox: self.inbox.clone(), pressure: self.pressure.clone() }
    }

    /// The next response; `None` when the server stops.
    pub fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Delivery>> {
        let Some((delivery, _)) = std::task::ready!(self.queue.poll_recv(context)) else {
            return std::task::Poll::Ready(None);
        };
        self.pressure.heard();
        if let Some(taken) = self.receipts.take(&delivery) {
            let _ = self.inbox.send(Input::Taken { stream: self.id, taken });
        }
        std::task::Poll::Ready(Some(delivery))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.inbox.send(Input::Close { stream: self.id });
        self.progress.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Requests {
    /// Waits until the stream's client may ask for more.
    pub async fn room(&self) {
        self.pressure.room().await;
    }

    fn ask(&self, input: Input) {
        self.pressure.waits();
        let _ = self.inbox.send(input);
    }

    pub fn create(&self, request: WatchCreateRequest) {
        self.ask(Input::Create { stream: self.id, request });
    }

    pub fn cancel(&self, watch_id: i64) {
        self.ask(Input::Cancel { stream: self.id, watch_id });
    }

    pub fn progress(&self) {
        self.ask(Input::Progress { stream: self.id });
    }
}
