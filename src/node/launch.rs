//! Launching: the threads of a node, the channels between them, the handle to all of it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::boot::{self, BootError, Connect, DirectoryLock, Joined, Recovered};
use super::handle::{Handle, Limits, Shared};
use super::ids::Ids;
use super::log::Log;
use super::log_writer::LogWriter;
use super::membership::Membership;
use super::missing::Missing;
use super::progress::Progress;
use super::queues::Queues;
use super::snapshots::{Receiving, Sending};
use super::transport::Transport;
use super::{
    Clock, Node, Stop, applier, checkpointer, compaction, corruption, driver, duties, images,
    watches,
};
use crate::config::Config;
use crate::lease::Deadlines;
use crate::limits;
use crate::machine::{Machine, Settings};
use crate::metrics::Metrics;
use crate::raft::Core;
use crate::storage::layout::Layout;
use crate::storage::state::Place;

/// Both ends of every channel between the threads.
struct Wires {
    driver: (Sender<driver::Input>, Receiver<driver::Input>),
    applier: (Sender<applier::Job>, Receiver<applier::Job>),
    checkpointer: (Sender<checkpointer::Job>, Receiver<checkpointer::Job>),
    watches: (Sender<watches::Input>, Receiver<watches::Input>),
    duties: (Sender<()>, Receiver<()>),
    ready: (watch::Sender<bool>, watch::Receiver<bool>),
    losses: (watch::Sender<u64>, watch::Receiver<u64>),
}

impl Wires {
    fn new() -> Self {
        Self {
            driver: crossbeam_channel::unbounded(),
            applier: crossbeam_channel::unbounded(),
            checkpointer: crossbeam_channel::unbounded(),
            watches: crossbeam_channel::unbounded(),
            duties: crossbeam_channel::unbounded(),
            ready: watch::channel(false),
            losses: watch::channel(0),
        }
    }
}

/// Starts everything over what storage yielded.
pub(super) fn launch(
    config: &Config,
    layout: &Layout,
    place: Place,
    mut recovered: Recovered,
    lock: DirectoryLock,
    (joined, connect): (Option<Joined>, Connect),
) -> Result<Node, BootError> {
    let image = images::read(&place);
    let image_bytes = Arc::new(AtomicU64::new(0));
    let has_image = image.is_some();
    let settings = Settings {
        member_id: recovered.member_id,
        quota_bytes: config.quota_bytes(),
        learners_max: config.max_learners,
    };
    let machine = Machine::open(recovered.engine.clone(), settings, image)?;
    let images = images::Pace::new(has_image, &machine.reader(), image_bytes.clone());
    let core = boot::core(config, &mut recovered, &machine)?;
    let wires = Wires::new();
    let arriving = layout.member.join("arriving.db");
    let receiving = Receiving::new(place.clone(), arriving, wires.driver.0.clone());
    let identity = (recovered.cluster_id, recovered.member_id);
    let handle = handle(config, identity, &wires, &machine, joined, receiving);
    let peers = connect(&handle).map_err(BootError::Peers)?;
    handle.shared.membership.connect(peers.clone());
    let checkpointer = checkpointer::start(checkpointer::Parts {
        engine: recovered.engine,
        generation: place.current()?,
        place,
        reader: handle.shared.reader.clone(),
        jobs: wires.checkpointer.1.clone(),
        applier: wires.applier.0.clone(),
        driver: wires.driver.0.clone(),
        progress: handle.shared.progress.clone(),
        metrics: handle.shared.metrics.clone(),
        images: images::Writer::new(image_bytes),
    });
    let mut log = LogWriter::new(
        recovered.wal,
        wires.driver.0.clone(),
        handle.shared.progress.clone(),
        handle.shared.metrics.clone(),
    );
    log.order();
    let log = Log::new(log, wires.driver.0.clone());
    let mut threads = state_threads(&handle, &wires, config, (machine, images), (core, log, peers));
    threads.push(checkpointer);
    let (corruption, stopped) = crossbeam_channel::bounded(0);
    let intervals = corruption::Intervals {
        compactions: config.compact_hash_check_time,
        rows: config.corrupt_check_time,
    };
    threads.extend(corruption::start(handle.clone(), intervals, stopped));
    let stop = Stop {
        duties: wires.duties.0,
        corruption,
        applier: wires.applier.0,
        checkpointer: wires.checkpointer.0,
        driver: wires.driver.0,
        watches: wires.watches.0,
        threads,
        lock,
    };
    Ok(Node { handle, stop })
}

fn handle(
    config: &Config,
    (cluster_id, member_id): (u64, u64),
    wires: &Wires,
    machine: &Machine,
    joined: Option<Joined>,
    receiving: Receiving,
) -> Handle {
    let known = match joined {
        // Until the leader has told more.
        Some(joined) if machine.applied().index == 0 => Arc::new(joined.members),
        Some(_) | None => machine.members().clone(),
    };
    let shared = Shared {
        cluster_id,
        member_id,
        limits: request_limits(config),
        ids: Ids::new(member_id),
        streams: AtomicU64::new(1),
        clock: Clock::start(),
        progress: Arc::new(Progress::at(machine.applied().index)),
        reader: machine.reader(),
        membership: Membership::new(member_id, known, machine.cluster_version()),
        receiving,
        sending: Sending {
            reader: machine.reader(),
            applier: wires.applier.0.clone(),
            driver: wires.driver.0.clone(),
        },
        peer_urls: config.initial_advertise_peer_urls.clone(),
        deadlines: Arc::new(Mutex::new(Deadlines::default())),
        metrics: Arc::new(Metrics::new(config.metrics_extensive)),
        driver: wires.driver.0.clone(),
        queues: Queues::default(),
        applier: wires.applier.0.clone(),
        checkpointer: wires.checkpointer.0.clone(),
        watches: wires.watches.0.clone(),
        losses: wires.losses.1.clone(),
        ready: wires.ready.1.clone(),
    };
    Handle { shared: Arc::new(shared) }
}

/// The threads that own state, and the one that watches the clock.
fn state_threads(
    handle: &Handle,
    wires: &Wires,
    config: &Config,
    (machine, images): (Machine, images::Pace),
    (core, log, peers): (Core, Log, Arc<dyn Transport>),
) -> Vec<JoinHandle<()>> {
    let shared = &handle.shared;
    // First, so that the hub starts from a state that nothing has been applied to yet.
    let mut threads = watches::start(watches::Parts {
        reader: shared.reader.clone(),
        inbox: wires.watches.1.clone(),
        outbox: wires.watches.0.clone(),
        limits: shared.limits.watch.clone(),
        clock: shared.clock,
        metrics: shared.metrics.clone(),
    });
    let applier = applier::start(applier::Parts {
        machine,
        reader: shared.reader.clone(),
        membership: shared.membership.clone(),
        jobs: wires.applier.1.clone(),
        driver: wires.driver.0.clone(),
        checkpointer: wires.checkpointer.0.clone(),
        watches: wires.watches.0.clone(),
        deadlines: shared.deadlines.clone(),
        progress: shared.progress.clone(),
        metrics: shared.metrics.clone(),
        warning: config.warning_apply_duration,
        clock: shared.clock,
        pace: compaction::Pace {
            rows_per_step: config.compaction_batch_limit,
            pause: config.compaction_sleep_interval,
        },
        images,
    });
    let driver = driver(handle, wires, config, (core, log, peers));
    let duties = duties::start(duties::Parts {
        node: handle.clone(),
        compaction: config.auto_compaction,
        lease_extension: config.election_timeout,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.clone(),
        wake: wires.duties.1.clone(),
        ready: wires.ready.0.clone(),
    });
    threads.extend([applier, driver, duties]);
    threads
}

/// The thread that owns the raft core.
fn driver(
    handle: &Handle,
    wires: &Wires,
    config: &Config,
    (core, log, peers): (Core, Log, Arc<dyn Transport>),
) -> JoinHandle<()> {
    let shared = &handle.shared;
    driver::start(driver::Parts {
        core,
        member_id: shared.member_id,
        tick: config.heartbeat_interval,
        missing: Missing::new(config.election_timeout, wires.losses.0.clone()),
        catchup_entries: config.snapshot_catchup_entries,
        inbox: wires.driver.1.clone(),
        queues: shared.queues.clone(),
        log,
        peers,
        snapshots: shared.sending.clone(),
        deadlines: shared.deadlines.clone(),
        duties: wires.duties.0.clone(),
        clock: shared.clock,
        applier: wires.applier.0.clone(),
        progress: shared.progress.clone(),
        metrics: shared.metrics.clone(),
    })
}

fn request_limits(config: &Config) -> Limits {
    Limits {
        request_bytes_max: config.max_request_bytes,
        txn_ops_max: config.max_txn_ops,
        min_lease_ttl: config.min_lease_ttl(),
        quota_bytes: config.quota_bytes(),
        quota_shown: config.quota_bytes().unwrap_or(config.quota_backend_bytes),
        request_timeout: config.request_timeout(),
        election_timeout: config.election_timeout,
        unary_warning: config.warning_unary_request_duration,
        strict_reconfig: config.strict_reconfig_check,
        watch: crate::watch::Limits {
            fragment_bytes: config.max_request_bytes + limits::GRPC_OVERHEAD_BYTES,
            progress_interval_ms: config.watch_progress_notify_interval.as_millis() as u64,
            ..crate::watch::Limits::default()
        },
    }
}
