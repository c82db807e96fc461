//! The server under the script: a child process, real etcd or kvorum, started with etcd's flags.
//!
//! Both are driven from outside, over loopback, and know nothing of each other; so one way of
//! starting serves both. Every target has its own directory and ports, and dies with its owner.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::http;
use super::port::Port;

/// How often a start is tried: a port found free may be taken by the time it is listened on.
const STARTS_MAX: usize = 5;
const READY_TIME_MAX: Duration = Duration::from_secs(30);

/// A running server.
pub struct Target {
    program: PathBuf,
    flags: Vec<String>,
    directory: tempfile::TempDir,
    client_port: Port,
    peer_port: Port,
    metrics_port: Port,
    child: Child,
}

/// Which server to run the scripts against.
pub fn program() -> PathBuf {
    let named = std::env::var_os("RECORD_FROM").or_else(|| std::env::var_os("REPLAY_ON"));
    named.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_kvorum")), PathBuf::from)
}

/// Whether that is another server than kvorum.
pub fn is_foreign() -> bool {
    recording() || std::env::var_os("REPLAY_ON").is_some()
}

/// Whether answers are written down instead of compared.
pub fn recording() -> bool {
    std::env::var_os("RECORD_FROM").is_some()
}

impl Target {
    /// Starts a server with a fresh store and waits until it answers.
    pub fn start(program: &Path, flags: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut last = None;
        for _ in 0..STARTS_MAX {
            let directory = tempfile::tempdir()?;
            let (client_port, peer_port) = (Port::hold()?, Port::hold()?);
            let metrics_port = Port::hold()?;
            let metrics = format!("127.0.0.1:{}", metrics_port.number);
            let flags: Vec<String> =
                flags.iter().map(|flag| flag.replace("METRICS", &metrics)).collect();
            let ports = (client_port.number, peer_port.number);
            let child = spawn(program, &flags, directory.path(), ports)?;
            let program = program.to_owned();
            let mut target =
                Self { program, flags, directory, client_port, peer_port, metrics_port, child };
            match target.wait_until_ready() {
                Ok(()) => return Ok(target),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a start was tried"))
    }

    /// Ends the process, by SIGTERM or SIGKILL, and starts it again over the same directory.
    pub fn restart(&mut self, signal: Signal) -> Result<(), Box<dyn Error>> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).ok_or("the child has no pid")?;
        kill_process(pid, signal)?;
        self.child.wait()?;
        let ports = (self.client_port.number, self.peer_port.number);
        self.child = spawn(&self.program, &self.flags, self.directory.path(), ports)?;
        self.wait_until_ready()
    }

    /// The address clients use.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port.number)
    }

    /// Names the addresses by what they are for, since the ports differ every time.
    pub fn mask(&self, text: &str) -> String {
        let text = text.replace(&self.address(), "CLIENT").replace(&self.peer_address(), "PEER");
        text.replace(&self.metrics_address(), "METRICS")
    }

    /// The address METRICS stands for in the flags.
    pub fn metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.metrics_port.number)
    }

    /// The address other members would use.
    pub fn peer_address(&self) -> String {
        format!("127.0.0.1:{}", self.peer_port.number)
    }

    fn wait_until_ready(&mut self) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + READY_TIME_MAX;
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it ended at once, {status}: {}", self.log()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("it is not ready in time: {}", self.log()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ready is: healthy but for alarms, and agreed with itself on the cluster's version.
    fn is_ready(&self) -> bool {
        let body = |path: &str| {
            let reply = http::request(&self.address(), "GET", path, b"").ok()?;
            (reply.status == 200).then_some(reply.body)
        };
        body("/health?exclude=NOSPACE&exclude=CORRUPT").is_some_and(|body| body.contains("true"))
            && body("/version").is_some_and(|body| !body.contains("not_decided"))
    }

    /// The end of what the server wrote about itself.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may be dead already, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    program: &Path,
    flags: &[String],
    directory: &Path,
    (client_port, peer_port): (u16, u16),
) -> Result<Child, Box<dyn Error>> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    let (client, peer) =
        (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
    let child = Command::new(program)
        .arg("--name=default")
        .arg(format!("--data-dir={}", directory.join("data").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .arg("--log-level=error")
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    child.map_err(|error| format!("cannot start {}: {error}", program.display()).into())
}
