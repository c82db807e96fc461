//! What the operating system says of this process; `http::metrics` reads it when somebody scrapes.

use prometheus::{Counter, Gauge, IntGauge};

use super::Maker;

/// The `process_*` and `os_*` metrics.
pub struct Process {
    pub resident_bytes: IntGauge,
    pub virtual_bytes: IntGauge,
    pub virtual_bytes_max: Gauge,
    pub cpu_seconds: Counter,
    pub open_fds: IntGauge,
    pub max_fds: IntGauge,
    pub start_seconds: Gauge,
    pub threads: IntGauge,
    pub network_received_bytes: Counter,
    pub network_sent_bytes: Counter,
    pub fd_used: IntGauge,
    pub fd_limit: IntGauge,
}

impl Process {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        Self {
            resident_bytes: m.gauge("process_resident_memory_bytes", "Resident memory, in bytes."),
            virtual_bytes: m.gauge("process_virtual_memory_bytes", "Virtual memory, in bytes."),
            virtual_bytes_max: m
                .float("process_virtual_memory_max_bytes", "The limit on virtual memory."),
            cpu_seconds: m
                .float_counter("process_cpu_seconds_total", "User and system CPU seconds spent."),
            open_fds: m.gauge("process_open_fds", "Open file descriptors."),
            max_fds: m.gauge("process_max_fds", "The limit on open file descriptors."),
            start_seconds: m
                .float("process_start_time_seconds", "Start time, in seconds of Unix time."),
            threads: m.gauge("process_threads", "Threads of the process."),
            network_received_bytes: m.float_counter(
                "process_network_receive_bytes_total",
                "Bytes received in the network namespace of the process.",
            ),
            network_sent_bytes: m.float_counter(
                "process_network_transmit_bytes_total",
                "Bytes sent in the network namespace of the process.",
            ),
            fd_used: m.gauge("os_fd_used", "File descriptors in use."),
            fd_limit: m.gauge("os_fd_limit", "The limit on file descriptors."),
        }
    }
}
