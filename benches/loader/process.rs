//! What the kernel has counted for a process: CPU time, memory, bytes written.

use std::fs;

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
}

/// User and system time of a process.
pub fn cpu_micros(pid: u32) -> Result<f64> {
    let stat = read(pid, "stat")?;
    // The name, in parentheses, may hold spaces; what is counted comes after it.
    let (_, fields) = stat.rsplit_once(") ").context("stat without a name")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(ticks as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64)
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
