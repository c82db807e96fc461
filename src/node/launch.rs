//! Launching: the parts of a node, the channels between them, the handle to all of it; and the
//! threads they take their turns on.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use flume::{Receiver, Sender};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::arrivals::Arrivals;
use super::boot::{self, BootError, Connect, DirectoryLock, Joined, Recovered};
use super::forgotten::Promises;
use super::handle::{Handle, Limits, Shared};
use super::ids::Ids;
use super::log::Log;
use super::log_writer::LogWriter;
use super::means::Means;
use super::membership::Membership;
use super::missing::Missing;
use super::progress::Progress;
use super::queues::Queues;
use super::replace::Replacements;
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

/// The sending end of every channel between the parts.
pub(super) struct Wires {
    pub driver: Sender<driver::Input>,
    pub applier: Sender<applier::Job>,
    pub checkpointer: Sender<checkpointer::Job>,
    pub watches: Sender<watches::Input>,
    pub duties: mpsc::UnboundedSender<()>,
}

/// The receiving ends, each to be taken once.
struct Ends {
    driver: Receiver<driver::Input>,
    applier: Receiver<applier::Job>,
    checkpointer: Receiver<checkpointer::Job>,
    watches: Receiver<watches::Input>,
    duties: mpsc::UnboundedReceiver<()>,
}

/// A node put together, not yet at work.
pub(super) struct Assembly {
    pub handle: Handle,
    pub wires: Wires,
    pub driver: driver::Parts,
    pub applier: applier::Parts,
    pub checkpointer: checkpointer::Parts,
    pub watches: watches::Parts,
    pub duties: duties::Parts,
    pub wake: mpsc::UnboundedReceiver<()>,
    pub intervals: corruption::Intervals,
}

/// Ends of channels that edges wait at.
struct Edges {
    losses: watch::Receiver<u64>,
    ready: watch::Receiver<bool>,
    joined: Option<Joined>,
    receiving: Receiving,
}

fn wires() -> (Wires, Ends) {
    let (driver, inputs) = flume::unbounded();
    let (applier, entries) = flume::unbounded();
    let (checkpointer, checkpoints) = flume::unbounded();
    let (watches, changes) = flume::unbounded();
    let (duties, wake) = mpsc::unbounded_channel();
    let wires = Wires { driver, applier, checkpointer, watches, duties };
    let ends = Ends {
        driver: inputs,
        applier: entries,
        checkpointer: checkpoints,
        watches: changes,
        duties: wake,
    };
    (wires, ends)
}

/// Puts a node together over what storage yielded.
pub(super) fn assemble(
    config: &Config,
    layout: &Layout,
    means: &Means,
    place: Place,
    mut recovered: Recovered,
    (joined, connect): (Option<Joined>, Connect),
) -> Result<Assembly, BootError> {
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
    let core = boot::core(config, means.seed, &mut recovered, &machine)?;
    let (wires, ends) = wires();
    let (losing, losses) = watch::channel(0);
    let (readying, ready) = watch::channel(false);
    let arriving = layout.member.join("arriving.db");
    let errands = &means.errands;
    let metrics = Arc::new(Metrics::new(config.metrics_extensive));
    let wire = wires.driver.clone();
    let receiving = Receiving::new(place.clone(), arriving, wire, metrics, errands.clone());
    let edges = Edges { losses, ready, joined, receiving };
    let identity = (recovered.cluster_id, recovered.member_id);
    let handle = handle(config, means, identity, &wires, &machine, edges);
    let peers = connect(&handle).map_err(BootError::Peers)?;
    handle.shared.membership.connect(peers.clone());
    let shared = &handle.shared;
    let checkpointer = checkpointer::Parts {
        engine: recovered.engine,
        generation: place.current()?,
        place,
        reader: shared.reader.clone(),
        jobs: ends.checkpointer,
        applier: wires.applier.clone(),
        driver: wires.driver.clone(),
        progress: shared.progress.clone(),
        metrics: shared.metrics.clone(),
        images: images::Writer::new(image_bytes, errands.clone()),
    };
    let mut log = LogWriter::new(
        recovered.wal,
        wires.driver.clone(),
        shared.progress.clone(),
        shared.metrics.clone(),
        errands.clone(),
    );
    log.order();
    let log = Log::new(log, wires.driver.clone(), errands.clone());
    let missing = Missing::new(config.election_timeout, losing);
    Ok(Assembly {
        driver: driver(&handle, &wires, config, (core, log, peers, missing), ends.driver),
        applier: applier(&handle, &wires, config, (machine, images, means.room), ends.applier),
        checkpointer,
        watches: watches::Parts {
            reader: shared.reader.clone(),
            inbox: ends.watches,
            outbox: wires.watches.clone(),
            limits: shared.limits.watch.clone(),
            clock: shared.clock,
            metrics: shared.metrics.clone(),
        },
        duties: duties::Parts {
            node: handle.clone(),
            compaction: config.auto_compaction,
            lease_extension: config.election_timeout,
            name: config.name.clone(),
            client_urls: config.advertise_client_urls.clone(),
            ready: readying,
        },
        wake: ends.duties,
        intervals: corruption::Intervals {
            compactions: config.compact_hash_check_time,
            rows: config.corrupt_check_time,
        },
        wires,
        handle,
    })
}

/// Starts the threads.
pub(super) fn launch(assembly: Assembly, lock: DirectoryLock) -> Node {
    let Assembly { handle, wires, intervals, .. } = assembly;
    let errands = &handle.shared.errands;
    // First, so that the hub starts from a state that nothing has been applied to yet.
    let mut threads = watches::start(assembly.watches);
    threads.push(applier::start(assembly.applier));
    threads.push(driver::start(assembly.driver));
    threads.push(checkpointer::start(assembly.checkpointer));
    let (corruption, stopped) = mpsc::channel(1);
    let on_duty = errands.send("duties", duties::run(assembly.duties, assembly.wake));
    let watch = corruption::run(handle.clone(), intervals, stopped);
    let watching = errands.send("corruption-watch", watch);
    let errands =
        [on_duty, watching].map(|begun| begun.expect("the process may start threads")).into();
    let stop = Stop {
        duties: wires.duties,
        corruption,
        applier: wires.applier,
        checkpointer: wires.checkpointer,
        driver: wires.driver,
        watches: wires.watches,
        threads,
        errands,
        lock,
    };
    Node { handle, stop }
}

fn handle(
    config: &Config,
    means: &Means,
    (cluster_id, member_id): (u64, u64),
    wires: &Wires,
    machine: &Machine,
    edges: Edges,
) -> Handle {
    let known = match edges.joined {
        // Until the leader has told more.
        Some(joined) if machine.applied().index == 0 => Arc::new(joined.members),
        Some(_) | None => machine.members().clone(),
    };
    let shared = Shared {
        cluster_id,
        member_id,
        limits: request_limits(config),
        ids: Ids::new(member_id, means.wall_ms, means.seed),
        streams: AtomicU64::new(1),
        clock: Clock::start(),
        errands: means.errands.clone(),
        progress: Arc::new(Progress::at(machine.applied().index)),
        reader: machine.reader(),
        membership: Membership::new(member_id, known, machine.cluster_version()),
        metrics: edges.receiving.metrics.clone(),
        receiving: edges.receiving,
        sending: Sending {
            reader: machine.reader(),
            applier: wires.applier.clone(),
            driver: wires.driver.clone(),
            errands: means.errands.clone(),
        },
        peer_urls: config.initial_advertise_peer_urls.clone(),
        promises: Promises::default(),
        replacements: Replacements::default(),
        deadlines: Arc::new(Mutex::new(Deadlines::default())),
        driver: wires.driver.clone(),
        queues: Queues::default(),
        readers: Arrivals::default(),
        applier: wires.applier.clone(),
        checkpointer: wires.checkpointer.clone(),
        watches: wires.watches.clone(),
        losses: edges.losses,
        ready: edges.ready,
    };
    Handle { shared: Arc::new(shared) }
}

/// What owns the state machine.
fn applier(
    handle: &Handle,
    wires: &Wires,
    config: &Config,
    (machine, images, room): (Machine, images::Pace, applier::Room),
    jobs: Receiver<applier::Job>,
) -> applier::Parts {
    let shared = &handle.shared;
    applier::Parts {
        machine,
        reader: shared.reader.clone(),
        membership: shared.membership.clone(),
        jobs,
        driver: wires.driver.clone(),
        checkpointer: wires.checkpointer.clone(),
        watches: wires.watches.clone(),
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
        room,
        errands: shared.errands.clone(),
    }
}

/// What owns the raft core.
fn driver(
    handle: &Handle,
    wires: &Wires,
    config: &Config,
    (core, log, peers, missing): (Core, Log, Arc<dyn Transport>, Missing),
    inbox: Receiver<driver::Input>,
) -> driver::Parts {
    let shared = &handle.shared;
    driver::Parts {
        core,
        member_id: shared.member_id,
        tick: config.heartbeat_interval,
        patience: config.request_timeout(),
        // Without PreVote a leader that stands still for a moment would lose its term by it.
        stands_at_start: config.initial_election_tick_advance && config.pre_vote,
        missing,
        catchup_entries: config.snapshot_catchup_entries,
        inbox,
        queues: shared.queues.clone(),
        readers: shared.readers.clone(),
        log,
        peers,
        snapshots: shared.sending.clone(),
        deadlines: shared.deadlines.clone(),
        duties: wires.duties.clone(),
        clock: shared.clock,
        applier: wires.applier.clone(),
        progress: shared.progress.clone(),
        metrics: shared.metrics.clone(),
    }
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
        auto_replace: config.auto_replace,
        watch: crate::watch::Limits {
            fragment_bytes: config.max_request_bytes + limits::GRPC_OVERHEAD_BYTES,
            progress_interval_ms: config.watch_progress_notify_interval.as_millis() as u64,
            ..crate::watch::Limits::default()
        },
    }
}
