//! A server under load: started by the loader with etcd's flags, or given by address and pid.
//!
//! A started server has free loopback ports and a directory of its own, on the disk that is
//! given, and both end with this value. Server and directory last for a row; the next row begins
//! with an empty store. It may be a cluster: then it is its leader, and has the others.

use std::fs::{self, File};
use std::mem;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use super::data;
use super::grpc::Client;
use super::process::{self, Memory, Usage};

const READY_TIME_MAX: Duration = Duration::from_secs(120);
const END_TIME_MAX: Duration = Duration::from_secs(120);
/// How often a starting server is asked: what a restart takes is known this exactly.
const ASK_AGAIN: Duration = Duration::from_millis(2);
/// How often a start is tried: a port found free may be taken by the time it is listened on.
const STARTS_MAX: usize = 3;
/// Store sizes of the rows fit, also while etcd keeps a second copy.
const QUOTA_BYTES: u64 = 32 << 30;

/// How a target is given on the command line.
#[derive(Clone, Debug)]
pub enum Target {
    /// A program, and flags in addition to those that every server gets.
    Program { name: String, program: PathBuf, flags: Vec<String> },
    /// A server that runs already.
    Running { name: String, address: SocketAddr, pid: u32 },
}

/// Which members of a cluster clients go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum At {
    Leader,
    Followers,
    /// The leader first, then the others, by turns.
    All,
}

/// A server that answers.
pub struct Server {
    /// If it is a cluster, the leader's.
    pub address: SocketAddr,
    pid: u32,
    child: Option<Managed>,
    /// The other members.
    others: Vec<Server>,
}

struct Managed {
    launch: Launch,
    process: Child,
}

/// How a process is started, and started again.
struct Launch {
    program: PathBuf,
    flags: Vec<String>,
    place: Place,
    /// Names and peer addresses of all members.
    cluster: String,
}

/// What a member has for itself.
struct Place {
    name: String,
    directory: PathBuf,
    address: SocketAddr,
    peer_port: u16,
}

impl At {
    pub fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Followers => "followers",
            Self::All => "all",
        }
    }
}

impl Target {
    /// Reads `name=/path/to/program,--flag,--flag`.
    pub fn program(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("it is given as name=program")?;
        let mut words = command.split(',');
        let program = PathBuf::from(words.next().unwrap_or_default());
        if !program.is_file() {
            return Err(format!("there is no program {}", program.display()));
        }
        let flags = words.map(str::to_owned).collect();
        Ok(Self::Program { name: name.to_owned(), program, flags })
    }

    /// Reads `name=http://127.0.0.1:2379,pid`.
    pub fn running(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, rest)| {
            let (url, pid) = rest.rsplit_once(',')?;
            let host = url.trim_start_matches("http://").trim_end_matches('/');
            Some((name, host.to_socket_addrs().ok()?.next()?, pid.parse().ok()?))
        });
        let (name, address, pid) = parts.ok_or("it is given as name=url,pid")?;
        Ok(Self::Running { name: name.to_owned(), address, pid })
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Program { name, .. } | Self::Running { name, .. } => name,
        }
    }

    /// Makes it a server that answers, with its files somewhere below `directory`. One that runs
    /// is what it is.
    pub fn start(&self, directory: &Path, members: usize) -> Result<Server> {
        match self {
            Self::Running { address, pid, .. } => {
                let (address, pid) = (*address, *pid);
                let mut server = Server { address, pid, child: None, others: Vec::new() };
                server.wait_until_ready()?;
                Ok(server)
            }
            Self::Program { name, program, flags } => {
                let mut last = None;
                for number in 0..STARTS_MAX {
                    let own = format!("{name}-{}-{number}", std::process::id());
                    match Server::start(program, flags, &directory.join(own), members) {
                        Ok(server) => return Ok(server),
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.expect("a start was tried"))
            }
        }
    }
}

impl Server {
    fn start(program: &Path, flags: &[String], directory: &Path, members: usize) -> Result<Self> {
        let places = Place::find(directory, members)?;
        let peer = |place: &Place| format!("{}=http://127.0.0.1:{}", place.name, place.peer_port);
        let cluster = places.iter().map(peer).collect::<Vec<_>>().join(",");
        let mut all = Vec::new();
        for place in places {
            fs::create_dir_all(&place.directory).context("cannot make the server's directory")?;
            let (program, flags) = (program.to_owned(), flags.to_vec());
            let launch = Launch { program, flags, place, cluster: cluster.clone() };
            let process = launch.spawn()?;
            let (address, pid) = (launch.place.address, process.id());
            let child = Some(Managed { launch, process });
            all.push(Self { address, pid, child, others: Vec::new() });
        }
        all.iter_mut().try_for_each(Self::wait_until_ready)?;
        let others = all.split_off(1);
        let mut server = Self { others, ..all.pop().context("a cluster has members")? };
        server.put_leader_first()?;
        Ok(server)
    }

    /// Makes it the leader of its cluster: another may have been elected, or is just now.
    pub fn put_leader_first(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIME_MAX;
        while !self.others.is_empty() && !self.client()?.leads()? {
            let leads = |other: &Self| other.client()?.leads();
            let found: Vec<bool> = self.others.iter().map(leads).collect::<Result<_>>()?;
            if let Some(number) = found.iter().position(|leads| *leads) {
                let mut leader = self.others.swap_remove(number);
                mem::swap(&mut self.address, &mut leader.address);
                mem::swap(&mut self.pid, &mut leader.pid);
                mem::swap(&mut self.child, &mut leader.child);
                self.others.push(leader);
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "nobody leads");
            thread::sleep(ASK_AGAIN);
        }
        Ok(())
    }

    /// Where clients go.
    pub fn addresses(&self, at: At) -> Vec<SocketAddr> {
        let others = self.others.iter().map(|other| other.address);
        match at {
            At::Leader => vec![self.address],
            At::Followers if self.others.is_empty() => vec![self.address],
            At::Followers => others.collect(),
            At::All => [self.address].into_iter().chain(others).collect(),
        }
    }

    /// Ends the process by a signal, and starts it again: how long the start took.
    ///
    /// It is over when a linearizable read has been answered.
    pub fn restart(&mut self, signal: Signal) -> Result<Duration> {
        ensure!(self.others.is_empty(), "this row restarts its server, and that is a cluster");
        let child = self.child.as_mut().context("this row needs a server it may restart")?;
        end(&mut child.process, signal)?;
        let start = Instant::now();
        child.process = child.launch.spawn()?;
        self.pid = child.process.id();
        self.wait_until_ready()?;
        Ok(start.elapsed())
    }

    /// Whether it was started here, and may be restarted.
    pub fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    /// What the kernel counted for it, all members together.
    pub fn usage(&self) -> Result<Usage> {
        let own = Usage::of(self.pid)?;
        self.others.iter().try_fold(own, |sum, other| Ok(sum.plus(Usage::of(other.pid)?)))
    }

    /// Resident bytes of each member, the leader's first.
    pub fn residents(&self) -> Result<Vec<f64>> {
        let pids = [self.pid].into_iter().chain(self.others.iter().map(|other| other.pid));
        pids.map(|pid| Ok(process::memory(pid)?.resident)).collect()
    }

    pub fn memory(&self) -> Result<Memory> {
        process::memory(self.pid)
    }

    pub fn forget_peak(&self) -> Result<()> {
        process::forget_peak(self.pid)
    }

    /// Bytes of its files.
    pub fn disk_bytes(&self) -> Option<f64> {
        let child = self.child.as_ref()?;
        Some(files_bytes(&child.launch.place.directory))
    }

    pub fn client(&self) -> Result<Client> {
        Client::new(self.address)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let client = self.client()?;
        let deadline = Instant::now() + READY_TIME_MAX;
        loop {
            let Err(error) = client.get(data::PREFIX.into(), 0) else { return Ok(()) };
            if let Some(child) = &mut self.child
                && let Some(status) = child.process.try_wait()?
            {
                bail!("it ended at once, {status}: {}", child.log());
            }
            if Instant::now() > deadline {
                return Err(error.context("the server is not ready in time"));
            }
            thread::sleep(ASK_AGAIN);
        }
    }
}

impl Managed {
    /// The end of what the server wrote about itself.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.launch.place.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // Whatever of it is gone already need not be ended or removed.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.launch.place.directory);
    }
}

fn end(process: &mut Child, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(process.id())?).context("a child has a pid")?;
    kill_process(pid, signal)?;
    let deadline = Instant::now() + END_TIME_MAX;
    while process.try_wait()?.is_none() {
        if Instant::now() > deadline {
            bail!("the server does not end");
        }
        thread::sleep(ASK_AGAIN);
    }
    Ok(())
}

impl Place {
    /// Free ports, and directories that begin with a path.
    fn find(directory: &Path, members: usize) -> Result<Vec<Self>> {
        // All are taken before the first is let go, so that they differ.
        let mut taken = Vec::new();
        let mut places = Vec::new();
        for number in 0..members {
            let (client, peer) =
                (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
            places.push(Self {
                name: format!("m{number}"),
                directory: PathBuf::from(format!("{}-m{number}", directory.display())),
                address: client.local_addr()?,
                peer_port: peer.local_addr()?.port(),
            });
            taken.extend([client, peer]);
        }
        Ok(places)
    }
}

impl Launch {
    fn spawn(&self) -> Result<Child> {
        let Place { name, directory, address, peer_port } = &self.place;
        let log = File::options().create(true).append(true).open(directory.join("log"))?;
        let (client, peer) = (format!("http://{address}"), format!("http://127.0.0.1:{peer_port}"));
        guarded(&self.program)
            .arg(format!("--name={name}"))
            .arg(format!("--data-dir={}", directory.join("data").display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={}", self.cluster))
            .arg(format!("--quota-backend-bytes={QUOTA_BYTES}"))
            .arg("--log-level=error")
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))
    }
}

/// A command whose process dies with the loader, however that dies, where the system can do so.
fn guarded(program: &Path) -> Command {
    let helper = Path::new("/usr/bin/setpriv");
    if !helper.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(helper);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn files_bytes(directory: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => files_bytes(&entry.path()),
        // What a file occupies: one that is preallocated takes its place.
        Ok(metadata) => metadata.blocks() as f64 * 512.0,
        Err(_) => 0.0,
    };
    entries.map(bytes).sum()
}
