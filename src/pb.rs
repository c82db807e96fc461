//! The wire types, generated from `proto/` and used as they are on every floor.
//!
//! Rows and events travel as `Bytes` inside responses (see the head of `proto/rpc.proto`).

#![allow(missing_docs, clippy::all)]

mod codec;

/// The client API and the log's commands.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// Stored rows and events.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users, roles, permissions.
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// Members as log entries carry them.
pub mod membershippb {
    tonic::include_proto!("membershippb");
}

/// Leases as they are stored.
pub mod leasepb {
    tonic::include_proto!("leasepb");
}

/// The standard health service.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

pub use etcdserverpb::*;
pub use mvccpb::{Event, KeyValue, event::EventType};
