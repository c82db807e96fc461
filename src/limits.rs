//! Every bound of the program, by name, with what happens when it is reached.

use std::time::Duration;

/// The newest revision that a state may come with. At a million writes a second it is reached after
/// a hundred thousand years; a row or compaction beyond it is damage, and would leave no room for
/// writes.
pub const REVISION_MAX: i64 = 1 << 62;
/// Default of `--max-request-bytes`: a larger command is refused with `request is too large`.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What a gRPC message may exceed `--max-request-bytes` by; more is refused by the transport.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Default of `--max-txn-ops`: a wider transaction is refused with `too many operations`.
pub const TXN_OPS_MAX: usize = 128;
/// Default of `--quota-backend-bytes`: at the quota, writes raise NOSPACE and are refused.
pub const QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// The most proposals that become one raft message; the rest waits for the driver's next turn.
pub const PROPOSAL_BATCH_MAX: usize = 1024;
/// The most bytes of proposals that become one raft message.
pub const PROPOSAL_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Inputs of clients that wait for the driver, and readers; beyond, clients are told `too many
/// requests`.
pub const DRIVER_INBOX_MAX: usize = 8192;
/// Messages of other members waiting for the driver; more are dropped, and raft repeats them.
pub const PEER_INBOX_MAX: usize = 8192;
/// Bytes of entries kept in memory and in the log for followers that lag; who needs more is sent a
/// snapshot.
pub const CATCHUP_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The same for followers that are heard and catching up.
pub const FOLLOWING_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Proposals held back while there is no leader; more are refused.
pub const PROPOSALS_HELD_MAX: usize = 8192;
/// Bytes of proposals held back while there is no leader; more are refused.
pub const PROPOSALS_HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries committed and not applied; beyond, proposals are refused with `too many requests`.
pub const APPLY_LAG_MAX: u64 = 5000;
/// The longest that applied rows stay out of the engine while nothing else asks for a checkpoint.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of memory for applied rows that make a checkpoint due at once.
pub const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of memory for applied rows at which nothing is applied until the checkpoint is there.
pub const CHECKPOINT_AWAITED_BYTES: u64 = 64 * 1024 * 1024;
/// Connections the kernel holds until they are accepted, if its own limit is not lower; beyond it
/// clients have to try again, and their kernels do so after a second.
pub const LISTEN_BACKLOG: i32 = 4096;
/// TLS handshakes under way on all client listeners; one more, and the oldest is cut off.
pub const TLS_HANDSHAKES_MAX: usize = 512;
/// The longest a TLS handshake may take before the connection is closed.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Descriptors kept for files and threads, as etcd does; clients get the rest of the process's, and
/// when those are taken more of them wait to be accepted.
pub const DESCRIPTORS_RESERVED: u64 = 150;
/// Descriptors that each worker needs for itself.
pub const DESCRIPTORS_PER_WORKER: u64 = 4;
/// Connections to the metrics listeners, out of those kept; for one more, the oldest goes.
pub const METRICS_CONNECTIONS_MAX: usize = 50;
/// Lines about rejected connections in ten seconds; more of them are counted, not logged.
pub const REFUSAL_LINES_MAX: u32 = 10;
/// Bytes a client may send on one HTTP/2 stream before the server reads them.
pub const H2_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes a client may send on one HTTP/2 connection before the server reads them.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// The largest set of request headers; tokens travel there. A request with more is refused.
pub const H2_HEADER_LIST_BYTES_MAX: u32 = 128 * 1024;
/// Requests on one HTTP/2 connection that were cancelled before the server came to them; with more
/// the connection is cut. A client cancels all that it had asked when the server was stalled.
pub const H2_CANCELLED_MAX: usize = 4096;
/// Of a hundred bytes that this process may have, those that are held for its clients' connections:
/// requests under way, answers and events that were not taken. Beyond it the connection that holds
/// the most is closed.
pub const CLIENTS_BYTES_PERCENT: u64 = 35;
/// The same in bytes, where that is not enough to work.
pub const CLIENTS_BYTES_MIN: usize = 128 * 1024 * 1024;
/// What a request under way is taken to cost beside its headers: the tasks that wait for the rest
/// of it, and its buffer.
pub const REQUEST_BYTES: usize = 6 * 1024;
/// What a stream under way is taken to cost beside its headers: its tasks, queues and buffers.
pub const STREAM_BYTES: usize = 16 * 1024;
/// Requests under way on one HTTP/2 connection, unless `--max-concurrent-streams` says; clients
/// hold back more. A connection's requests are read before they are looked at.
pub const H2_STREAMS_MAX: u32 = 4096;
/// How long an HTTP/1.1 client may take to send the head of a request.
pub const HTTP1_HEADER_TIMEOUT: Duration = Duration::from_secs(300);

/// Responses queued for one watch stream; beyond it the stream's watchers lag and catch up later.
pub const WATCH_STREAM_RESPONSES_MAX: usize = 1024;
/// Bytes queued for one watch stream; the response that reaches it is the last one queued.
pub const WATCH_STREAM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests of one watch stream that wait for the hub, and responses that wait for its client; with
/// more, nothing is read from that stream.
pub const WATCH_STREAM_WAITING_MAX: usize = 2 * WATCH_STREAM_RESPONSES_MAX;
/// Revisions in one response to a lagging watcher; the rest comes in further responses.
pub const WATCH_PAGE_REVISIONS_MAX: usize = 1000;
/// Bytes of events after which a response to a lagging watcher ends with its revision.
pub const WATCH_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Rows of history one catch-up job reads before it returns what it has.
pub const WATCH_SCAN_ROWS_MAX: usize = 16 * 1024;
/// Newest revisions kept in memory for lagging watchers; older ones are read from history.
pub const WATCH_RECENT_REVISIONS_MAX: usize = 8 * 1024;
/// Bytes of the newest revisions kept in memory; older ones are read from history.
pub const WATCH_RECENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Catch-up jobs under way at once; further watchers wait their turn.
pub const WATCH_JOBS_MAX: usize = 2;
/// Watchers that share one catch-up job; further ones wait for the next.
pub const WATCH_JOB_WATCHERS_MAX: usize = 4096;
/// Default of `--watch-progress-notify-interval`.
pub const WATCH_PROGRESS_INTERVAL_MS: u64 = 10 * 60 * 1000;

/// Keys of a range that is answered between two others; a longer one waits for its turn.
pub const SHORT_RANGE_KEYS_MAX: i64 = 10_000;
/// Bytes of a range that is answered between two others; a longer one waits for its turn.
pub const SHORT_RANGE_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Long ranges that are being made at a time; others wait, and are refused with `too many requests`
/// if that takes as long as a request may.
pub const LARGE_RANGES_MAX: usize = 2;
/// Keys that the ranges of one transaction may answer together, which is made at once; with more
/// it is refused with `too many operations`.
pub const TXN_KEYS_MAX: i64 = 100_000;
/// Snapshots that clients take in at once; others wait for their turn.
pub const SNAPSHOTS_MAX: usize = 8;
/// The longest that a client may take nothing of a snapshot; then it is broken off.
pub const SNAPSHOT_STALL: Duration = Duration::from_secs(30);

/// The longest time to live; a longer one is refused with `too large lease TTL`.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;
/// Leases revoked per expiry tick of 500 ms; the others wait for the next tick.
pub const LEASE_EXPIRED_MAX: usize = 500;
/// Leases that may expire in one second after a promotion; the others expire later.
pub const LEASE_EXPIRIES_PER_SECOND_MAX: usize = 750;
/// Checkpoints in one proposal; the others go into the next.
pub const LEASE_CHECKPOINTS_MAX: usize = 1000;
/// Memory the state engine may use for pages it has read.
pub const ENGINE_CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Memory for rows that were read; the ones asked for least make room for others.
pub const ROW_CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// Free space on the state's disk below which no checkpoint is begun and NOSPACE is raised.
pub const DISK_RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of each posted message that need no room; beyond, all that are being read may have as many
/// together as the longest of them, and who finds no room is refused.
pub const PEER_POST_BYTES_FREE: usize = 64 * 1024;
/// The longest message of another member, and the most bytes of entries in one; a longer one ends
/// the stream. etcd allows 512 MiB, and sends one request and 1 MiB at the most.
pub const PEER_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most entries in one message of another member: as many of the smallest as fit into the
/// 1 MiB that etcd fills one with; more end the stream.
pub const PEER_MESSAGE_ENTRIES_MAX: u64 = 256 * 1024;
/// The longest conf state, index and term of a snapshot; a longer one ends the stream.
pub const PEER_SNAPSHOT_METADATA_BYTES_MAX: usize = 64 * 1024;
/// Messages queued for one stream to another member, as in etcd; more are dropped, and raft told.
pub const PEER_STREAM_MESSAGES_MAX: usize = 4096;
/// Messages written to a stream at once; the others follow in the next turn.
pub const PEER_STREAM_BATCH_MAX: usize = 64;
/// Messages queued to be posted to another member, as in etcd; more are dropped, and raft told.
pub const PEER_POSTS_MAX: usize = 64;
/// Connections to the peer listener; more of them wait to be accepted.
pub const PEER_CONNECTIONS_MAX: usize = 512;
/// TLS handshakes of members under way; one more, and the oldest is cut off.
pub const PEER_HANDSHAKES_MAX: usize = 128;
/// How often a stream says that it is alive, as in etcd.
pub const PEER_LINK_HEARTBEAT: Duration = Duration::from_millis(1667);
/// The longest that a member may keep silent on a stream, take nothing of what is sent, or leave a
/// request without an answer; then the connection is closed, as in etcd.
pub const PEER_IO_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest a posted message may take to arrive; then it is refused.
pub const PEER_POST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest it may take to connect to a member; then it is tried again.
pub const PEER_DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The shortest time between two requests for a stream that is heard and ends again and again.
pub const PEER_REDIAL_APART: Duration = Duration::from_millis(100);
/// The pause before a stream is asked for again that could not be had, doubled each time.
pub const PEER_REDIAL_MIN: Duration = Duration::from_millis(10);
/// The longest pause before a stream is asked for again.
pub const PEER_REDIAL_MAX: Duration = Duration::from_secs(1);
/// How often a member is probed, as in etcd.
pub const PEER_PROBE_PERIOD: Duration = Duration::from_secs(4);
/// By how much a member's clock may differ until the log says so, as in etcd.
pub const PEER_CLOCK_DRIFT_MAX: Duration = Duration::from_secs(1);
/// Members that are answered before the cluster is known to have them; others wait until it is.
pub const PEER_GUESTS_MAX: usize = 16;
/// Snapshots of other members that are taken in at once; another is refused, and comes again.
pub const PEER_SNAPSHOTS_MAX: usize = 1;
/// Pieces of an arriving snapshot that wait to be written; its sender waits for the next.
pub const PEER_SNAPSHOT_PIECES_MAX: usize = 16;
/// The longest that a snapshot may not move, for want of bytes or of room for them.
pub const PEER_SNAPSHOT_STALL: Duration = Duration::from_secs(30);
/// The longest that a member may need to take over a snapshot it has received.
pub const PEER_SNAPSHOT_ANSWER: Duration = Duration::from_secs(300);
/// Connections to another member kept for questions beside raft.
pub const PEER_IDLE_MAX: usize = 8;
/// The longest that a question beside raft may take to be answered; then the asker gives up.
pub const PEER_QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
