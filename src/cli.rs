//! The command line: what to do, and the one place where errors are printed and exit codes chosen.
//!
//! | exit code | when |
//! |---|---|
//! | 0 | done; or stopped by a signal as process 1 |
//! | 1 | it cannot be done: the last line says why |
//! | 2 | the command line cannot be read: the usage follows |
//! | by signal | a member stopped by SIGTERM or SIGINT, after an orderly end, as etcd does |
//!
//! A member's errors are lines of the log, as etcd's are. A tool's error is `Error: ...` on stderr,
//! as etcdutl's is.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::ExitCode;

use kvorum::config::tool::{self, Restore, Status, Tool, Usage, Verify, WriteOut};
use kvorum::config::{self, Intent, Outside, Refusal, help};
use kvorum::logging::{self, Format, Level};
use kvorum::tool::{restore, snapshot, verify};
use kvorum::version;

use crate::serve;

const FAILURE: ExitCode = ExitCode::FAILURE;
const USAGE: u8 = 2;

/// Does what the process was started for.
pub fn run() -> ExitCode {
    let arguments: Vec<String> = match std::env::args_os().skip(1).map(unicode).collect() {
        Ok(arguments) => arguments,
        Err(refusal) => return refuse(&refusal),
    };
    match arguments.first().map(String::as_str) {
        Some(proxy @ ("gateway" | "grpc-proxy")) => refuse(&Refusal::Later {
            given: format!("kvorum {proxy}"),
            advice: "use etcd's own, which keeps no data and serves any etcd",
        }),
        Some("help") if arguments.len() == 1 => show(&help::text()),
        Some(word) if tool::is_tool(word) => match tool::parse(&arguments) {
            Ok(tool) => use_tool(&tool),
            Err(usage) => show_usage(&usage),
        },
        Some(_) | None => member(&arguments),
    }
}

fn unicode(text: OsString) -> Result<String, Refusal> {
    text.into_string().map_err(|text| Refusal::NotUnicode(text.to_string_lossy().into_owned()))
}

fn member(arguments: &[String]) -> ExitCode {
    // A variable of other programs may hold anything; it is looked at only if it is text.
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let outside = Outside {
        arguments,
        variables: &variables,
        default_host: &default_host,
        read_file: &|path| std::fs::read_to_string(path),
    };
    match config::read(&outside) {
        Ok(Intent::Help) => show(&help::text()),
        Ok(Intent::Version) => show(&version_text()),
        Ok(Intent::Start(start)) => serve::run(*start, arguments),
        Err(refusal) => refuse(&refusal),
    }
}

/// The address this host has towards the rest of the world. Nothing is sent to find it out.
fn default_host() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address of RFC 5737, which is nobody's: only the route to it is looked up.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

fn refuse(refusal: &Refusal) -> ExitCode {
    if refusal.is_usage() {
        let _ = write!(io::stderr(), "{refusal}\n{}", help::USAGE);
        return ExitCode::from(USAGE);
    }
    match refusal {
        Refusal::Shadowed { variable } => {
            let fields = [("environment-variable", variable.as_str().into())];
            logging::write(Level::Fatal, &refusal.to_string(), &fields);
        }
        other => {
            let fields = [("error", other.to_string().into())];
            logging::write(Level::Fatal, "failed to verify flags", &fields);
        }
    }
    FAILURE
}

/// Four lines; programs that ask an etcd for its version read the first.
fn version_text() -> String {
    let sha = option_env!("KVORUM_GIT_SHA").unwrap_or("unknown");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {}\nkvorum Version: {}\nGit SHA: {sha}\nOS/Arch: {}/{arch}\n",
        version::SERVER,
        version::KVORUM,
        std::env::consts::OS
    )
}

fn show(text: &str) -> ExitCode {
    // A reader that went away, such as `head`, has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn show_usage(usage: &Usage) -> ExitCode {
    if usage.is_help {
        return show(&usage.text);
    }
    let _ = io::stderr().write_all(usage.text.as_bytes());
    ExitCode::from(USAGE)
}

fn use_tool(tool: &Tool) -> ExitCode {
    let log = logging::Options { format: Format::Console, ..logging::Options::default() };
    let done = logging::install(&log).map_err(anyhow::Error::from).and_then(|()| match tool {
        Tool::Version => Ok(version_text()),
        Tool::Snapshot(tool::Snapshot::Status(status)) => snapshot_status(status),
        Tool::Snapshot(tool::Snapshot::Restore(restore)) => snapshot_restore(restore),
        Tool::Verify(Verify { data_dir, wal_dir }) => {
            verify::verify(data_dir, wal_dir.as_deref()).map(|verified| verified.to_string())
        }
    });
    match done {
        Ok(text) => show(&text),
        Err(error) => {
            let _ = writeln!(io::stderr(), "Error: {error:#}");
            if let Some(advice) = kvorum::tool::advice(&error) {
                let _ = writeln!(io::stderr(), "{advice}");
            }
            FAILURE
        }
    }
}

fn snapshot_status(status: &Status) -> anyhow::Result<String> {
    let format = match status.write_out {
        WriteOut::Simple => snapshot::Format::Simple,
        WriteOut::Json => snapshot::Format::Json,
        WriteOut::Table => snapshot::Format::Table,
        WriteOut::Fields => snapshot::Format::Fields,
    };
    Ok(snapshot::status(&status.file)?.print(format))
}

fn snapshot_restore(asked: &Restore) -> anyhow::Result<String> {
    let options = restore::Options {
        skip_hash_check: asked.skip_hash_check,
        bump_revision: asked.bump_revision,
        mark_compacted: asked.mark_compacted,
    };
    let config = asked.config()?;
    let path = asked.file.display().to_string();
    let data_dir = config.data_dir().display().to_string();
    tracing::info!(path, data_dir, "restoring snapshot");
    let restored = restore::restore(&asked.file, options, &config)?;
    let (member_id, cluster_id) = (restored.member_id, restored.cluster_id);
    tracing::info!(
        path,
        data_dir,
        rows = restored.rows,
        member_id = format!("{member_id:x}"),
        cluster_id = format!("{cluster_id:x}"),
        "restored snapshot"
    );
    Ok(String::new())
}
