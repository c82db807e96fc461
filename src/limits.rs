//! Every bound of the program, by name, with what happens when it is reached.

use std::time::Duration;

/// Default of `--max-request-bytes`: a larger command is refused with `request is too large`.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What a gRPC message may exceed `--max-request-bytes` by; more is refused by the transport.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Default of `--max-txn-ops`: a wider transaction is refused with `too many operations`.
pub const TXN_OPS_MAX: usize = 128;
/// Default of `--quota-backend-bytes`: at the quota, writes raise NOSPACE and are refused.
pub const QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// The longest lease.
pub const LEASE_TTL_MAX_SECONDS: i64 = 9_000_000_000;
/// The most proposals that become one raft message; the rest waits for the driver's next turn.
pub const PROPOSAL_BATCH_MAX: usize = 1024;
/// The most bytes of proposals that become one raft message.
pub const PROPOSAL_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Inputs that wait for the driver; when it is full, clients are told `too many requests`.
pub const DRIVER_INBOX_MAX: usize = 8192;
/// Entries committed and not applied; beyond, proposals are refused with `too many requests`.
pub const APPLY_LAG_MAX: u64 = 5000;
/// The longest that applied rows stay out of the engine while nothing else asks for a checkpoint.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of rows in memory that make a checkpoint due at once.
pub const CHECKPOINT_BYTES: usize = 16 * 1024 * 1024;
/// TLS handshakes under way on a listener; more connections wait to be accepted.
pub const TLS_HANDSHAKES_MAX: usize = 512;
/// The longest a TLS handshake may take before the connection is closed.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes a client may send on one HTTP/2 stream before the server reads them.
pub const H2_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes a client may send on one HTTP/2 connection before the server reads them.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// The largest set of request headers.
pub const H2_HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// How long an HTTP/1.1 client may take to send the head of a request.
pub const HTTP1_HEADER_TIMEOUT: Duration = Duration::from_secs(300);
