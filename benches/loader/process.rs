//! What the kernel has counted for a process: CPU time, memory, bytes written.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

/// Counters of a process, and its memory, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of all its threads, also of those that have ended.
    pub cpu_micros: f64,
    /// Bytes it caused to be sent to the disk (`write_bytes`).
    pub written_bytes: f64,
    pub memory: Memory,
}

/// The machine, the loader and a server at one moment: who used the processors since?
#[derive(Clone, Copy)]
pub struct Moment {
    time: Instant,
    /// CPU time of everybody, and what the hypervisor took.
    busy_micros: f64,
    loader_micros: f64,
    server_micros: f64,
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: f64,
    /// The part that is no page of a file: a mapped database is not in it.
    pub anonymous: f64,
    /// The most that was resident since the start, or since `forget_peak`.
    pub peak: f64,
}

impl Usage {
    /// Reads the counters of a process.
    pub fn of(pid: u32) -> Result<Self> {
        let io = read(pid, "io")?;
        let written_bytes = number(&io, "write_bytes:").context("io without write_bytes")?;
        Ok(Self { cpu_micros: cpu_micros(pid)?, written_bytes, memory: memory(pid)? })
    }

    /// Both processes together.
    pub fn plus(self, other: Self) -> Self {
        let memory = Memory {
            resident: self.memory.resident + other.memory.resident,
            anonymous: self.memory.anonymous + other.memory.anonymous,
            peak: self.memory.peak + other.memory.peak,
        };
        Self {
            cpu_micros: self.cpu_micros + other.cpu_micros,
            written_bytes: self.written_bytes + other.written_bytes,
            memory,
        }
    }
}

impl Moment {
    /// Now.
    pub fn now(server: &Usage) -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read the machine's stat")?;
        let line = stat.lines().next().context("an empty stat")?;
        let fields = line.split_whitespace().skip(1).take(8).enumerate();
        // The fourth and the fifth are idle, and idle while a disk works.
        let busy = fields.filter(|(index, _)| *index != 3 && *index != 4);
        let ticks: u64 = busy.filter_map(|(_, field)| field.parse::<u64>().ok()).sum();
        Ok(Self {
            time: Instant::now(),
            busy_micros: micros(ticks),
            loader_micros: cpu_micros(std::process::id())?,
            server_micros: server.cpu_micros,
        })
    }

    /// The share of the processors, in percent, that went to neither server nor loader.
    pub fn others_percent(&self, since: &Self) -> f64 {
        let all = self.busy_micros - since.busy_micros;
        let loader = self.loader_micros - since.loader_micros;
        let server = self.server_micros - since.server_micros;
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let time = (self.time - since.time).as_secs_f64() * 1e6 * processors;
        ((all - loader - server) / time * 100.0).max(0.0)
    }
}

/// User and system time of a process.
pub fn cpu_micros(pid: u32) -> Result<f64> {
    let stat = read(pid, "stat")?;
    // The name, in parentheses, may hold spaces; what is counted comes after it.
    let (_, fields) = stat.rsplit_once(") ").context("stat without a name")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(micros(ticks))
}

fn micros(ticks: u64) -> f64 {
    ticks as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64
}

/// The memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = read(pid, "status")?;
    let bytes = |name| Some(number(&status, name)? * 1024.0);
    let resident = bytes("VmRSS:").context("the process has ended")?;
    Ok(Memory {
        resident,
        anonymous: bytes("RssAnon:").unwrap_or(resident),
        peak: bytes("VmHWM:").unwrap_or(resident),
    })
}

/// Sets a process's peak of resident memory back to what is resident now.
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the peak of memory")
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .with_context(|| format!("cannot read {file} of process {pid}"))
}

fn number(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
