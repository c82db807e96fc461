//! The hub's bounds, with their defaults.

use crate::limits;

/// What the hub keeps to. Tests make them small.
#[derive(Clone, Debug)]
pub struct Limits {
    pub stream_responses: usize,
    pub stream_bytes: usize,
    pub page_revisions: usize,
    pub page_bytes: usize,
    pub scan_rows: usize,
    pub recent_revisions: usize,
    pub recent_bytes: usize,
    pub jobs: usize,
    pub job_watchers: usize,
    /// The size from which a response is fragmented: `--max-request-bytes` and 512 KiB.
    pub fragment_bytes: usize,
    pub progress_interval_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stream_responses: limits::WATCH_STREAM_RESPONSES_MAX,
            stream_bytes: limits::WATCH_STREAM_BYTES_MAX,
            page_revisions: limits::WATCH_PAGE_REVISIONS_MAX,
            page_bytes: limits::WATCH_PAGE_BYTES_MAX,
            scan_rows: limits::WATCH_SCAN_ROWS_MAX,
            recent_revisions: limits::WATCH_RECENT_REVISIONS_MAX,
            recent_bytes: limits::WATCH_RECENT_BYTES_MAX,
            jobs: limits::WATCH_JOBS_MAX,
            job_watchers: limits::WATCH_JOB_WATCHERS_MAX,
            fragment_bytes: limits::REQUEST_BYTES_MAX + limits::GRPC_OVERHEAD_BYTES,
            progress_interval_ms: limits::WATCH_PROGRESS_INTERVAL_MS,
        }
    }
}
