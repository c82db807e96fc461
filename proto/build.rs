//! Compiles `proto/*.proto` with protox, so that building needs no `protoc` on the machine.

use std::error::Error;

const FILES: [&str; 7] = [
    "auth.proto",
    "health.proto",
    "kv.proto",
    "lease.proto",
    "membership.proto",
    "raft_internal.proto",
    "rpc.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let mut prost = tonic_prost_build::Config::new();
    prost.bytes(["."]);
    tonic_prost_build::configure()
        .codec_path("crate::pb::codec::Codec")
        .compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
