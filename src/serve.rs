//! The life of a member's process: start, ready, signal, orderly end.
//!
//! - The signals are caught before the start, so that none is lost; one that comes before the
//!   member is ready ends the process at once, and the next start recovers.
//! - The end is etcd's: the process dies by the signal that asked for it, so that its parent sees
//!   what happened; as process 1, which signals do not kill, it exits with 0.
//! - A second signal does not wait for the orderly end. Signals that come together are one:
//!   `timeout` and others send theirs to the process and to its group.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use kvorum::config::{Config, Notice, Start, Url};
use kvorum::logging::{self, Level};
use kvorum::{Running, Server, node, version};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The longest between signals that somebody sent once.
const TOGETHER_MAX: Duration = Duration::from_millis(500);

/// Runs a member until a signal ends it.
pub fn run(start: Start, arguments: &[String]) -> ExitCode {
    let Start { config, logging, notices } = start;
    if let Err(error) = logging::install(&logging) {
        return fail("failed to verify flags", &error);
    }
    let log = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log(panic);
        node::note_panic();
    }));
    logging::write(Level::Info, "Running: ", &[("args", json!(arguments))]);
    notices.iter().for_each(Notice::log);
    log_start(&config);
    raise_descriptor_limit();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail("cannot start the runtime", &error),
    };
    match runtime.block_on(serve(config)) {
        Ok(Some(signal)) => die_by(signal),
        Ok(None) => ExitCode::SUCCESS,
        Err(exit) => exit,
    }
}

fn log_start(config: &Config) {
    let mut fields: Vec<(&str, Value)> =
        vec![("etcd-version", json!(version::SERVER)), ("kvorum-version", json!(version::KVORUM))];
    fields.extend(config.fields());
    logging::write(Level::Info, "starting a kvorum member", &fields);
}

/// Allows this process the descriptors that its parent allows it to ask for, as Go programs do:
/// the usual limit of 1024 is one for programs that call `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, limit = limit.current, "cannot raise the limit of open files");
    }
}

#[track_caller]
fn fail(message: &str, error: &dyn std::error::Error) -> ExitCode {
    logging::write(Level::Fatal, message, &[("error", json!(error.to_string()))]);
    ExitCode::FAILURE
}

/// Serves until a signal came and the member stopped; which one it was, if it was one.
async fn serve(config: Config) -> Result<Option<i32>, ExitCode> {
    let mut signals = Signals::catch().map_err(|error| fail("cannot catch signals", &error))?;
    let listeners = listeners(&config);
    let running = tokio::select! {
        started = Server::start(config) => {
            started.map_err(|error| fail("cannot start the member", &error))?
        }
        signal = signals.next() => return Ok(Some(signal)),
    };
    log_ready(&running, &listeners);
    notify_init();
    let signal = tokio::select! {
        signal = signals.next() => {
            info!(signal = name(signal), "received signal; shutting down");
            Some(signal)
        }
        () = running.removed() => {
            tracing::error!(
                "this member was removed from its cluster and stops; to bring it back, remove its \
                 data directory and add it as a new member"
            );
            None
        }
    };
    notify_stopping();
    tokio::select! {
        () = running.shutdown() => info!("the member has stopped"),
        signal = signals.again() => {
            info!(signal = name(signal), "received another signal; stopping at once");
            return Ok(Some(signal));
        }
    }
    Ok(signal)
}

/// The client listeners in the order a running member lists them, and what they serve.
fn listeners(config: &Config) -> Vec<(Url, &'static str)> {
    let split = !config.listen_client_http_urls.is_empty();
    let traffic = if split { "grpc" } else { "grpc+http" };
    let clients = config.listen_client_urls.iter().map(|url| (url.clone(), traffic));
    let http = config.listen_client_http_urls.iter().map(|url| (url.clone(), "http"));
    clients.chain(http).collect()
}

/// The lines that tell everybody who waits for a member that it is there.
fn log_ready(running: &Running, listeners: &[(Url, &'static str)]) {
    let mut bound = running.client_addresses().iter();
    for (url, traffic) in listeners {
        let address = match bound.as_slice().first() {
            Some(address) if !url.is_unix() => {
                bound.next();
                address.to_string()
            }
            Some(_) | None => url.address.clone(),
        };
        info!(traffic, address, "ready to serve client requests");
        if url.is_tls() {
            info!(traffic, address, "serving client traffic securely");
        } else {
            info!(
                traffic,
                address, "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
    }
}

/// Tells systemd that the member goes, if it asked to be told.
fn notify_stopping() {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        // It learns from the end of the process anyway.
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
    }
}

/// Tells systemd, if it asked to be told.
fn notify_init() {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    match sd_notify::notify(false, &[sd_notify::NotifyState::Ready]) {
        Ok(()) => info!("successfully notified init daemon"),
        Err(error) => tracing::error!(%error, "failed to notify systemd for readiness"),
    }
}

/// The signals that end a member.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The first signal that does not belong to the last one.
    async fn again(&mut self) -> i32 {
        let together = tokio::time::sleep(TOGETHER_MAX);
        tokio::pin!(together);
        loop {
            tokio::select! {
                () = &mut together => return self.next().await,
                _ = self.next() => {}
            }
        }
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SIGTERM,
            _ = self.interrupt.recv() => SIGINT,
        }
    }
}

fn name(signal: i32) -> &'static str {
    if signal == SIGINT { "interrupt" } else { "terminated" }
}

fn die_by(signal: i32) -> ExitCode {
    if std::process::id() == 1 {
        return ExitCode::SUCCESS;
    }
    // Returns only if the signal has no default action, and these two have.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    ExitCode::FAILURE
}
