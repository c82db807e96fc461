//! The command line: one function per command, and the only place that prints and picks exit codes.
//!
//! Exit codes are etcd's: 0 for done, 1 for a refusal, 2 for a command line that cannot be read.

use std::net::{IpAddr, UdpSocket};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Intent, Outside, Start};
use crate::server::Server;
use crate::{logging, version};

/// `kvorum version`, and `--version`: etcd's first line first, because tools parse it.
pub fn version() -> ExitCode {
    println!("etcd Version: {}", version::SERVER);
    println!("kvorum Version: {}", version::KVORUM);
    println!("OS/Arch: {}/{}", std::env::consts::OS, std::env::consts::ARCH);
    ExitCode::SUCCESS
}

/// `kvorum [flags]`: a member, until it is told to stop.
pub fn run(arguments: &[String]) -> ExitCode {
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let outside =
        Outside { arguments, variables: &variables, default_host: &default_host };
    match config::read(&outside) {
        Ok(Intent::Help) => {
            print!("{}", config::help::text());
            ExitCode::SUCCESS
        }
        Ok(Intent::Version) => version(),
        Ok(Intent::Start(start)) => serve(*start),
        Err(refusal) => {
            eprintln!("{refusal}");
            if refusal.is_usage() {
                eprintln!("{}", config::help::text());
                return ExitCode::from(2);
            }
            ExitCode::FAILURE
        }
    }
}

/// The address this host has towards others; asking the kernel for a route sends nothing.
fn default_host() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let host = socket.local_addr().ok()?.ip();
    (!host.is_unspecified() && !host.is_loopback()).then_some(host)
}

fn serve(start: Start) -> ExitCode {
    if let Err(error) = logging::install(&start.logging) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    for notice in &start.notices {
        notice.log();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async move {
        let running = match Server::start(start.config).await {
            Ok(running) => running,
            Err(error) => {
                tracing::error!(%error, "cannot start");
                return ExitCode::FAILURE;
            }
        };
        for address in running.client_addresses() {
            tracing::info!(%address, "ready to serve client requests");
        }
        if let Err(error) = sd_notify::notify(true, &[sd_notify::NotifyState::Ready]) {
            tracing::warn!(%error, "cannot tell systemd that the member is ready");
        }
        let name = wait_for_signal().await;
        tracing::info!(signal = name, "received signal; shutting down");
        let _ = sd_notify::notify(true, &[sd_notify::NotifyState::Stopping]);
        running.shutdown().await;
        ExitCode::SUCCESS
    })
}

async fn wait_for_signal() -> &'static str {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals' default actions end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "terminated",
        _ = interrupt.recv() => "interrupt",
    }
}

/// `kvorum snapshot restore FILE DIR` and the rest come with the command line's own room.
pub fn snapshot(_: &[String]) -> ExitCode {
    ExitCode::FAILURE
}

pub fn verify(_: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
