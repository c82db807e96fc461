//! Every bound of the program, by name, with what happens when it is reached.

/// Default of `--max-request-bytes`: a larger command is refused with `request is too large`.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What a gRPC message may exceed `--max-request-bytes` by; more is refused by the transport.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Default of `--max-txn-ops`: a wider transaction is refused with `too many operations`.
pub const TXN_OPS_MAX: usize = 128;
/// Default of `--quota-backend-bytes`: at the quota, writes raise NOSPACE and are refused.
pub const QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
