//! The `kvorum` binary: parse, dispatch, exit code.

use std::process::ExitCode;

use kvorum::cli;

/// tonic allocates for every message; this allocator makes that a tenth cheaper.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("version") => cli::version(),
        Some("snapshot") => cli::snapshot(&arguments[1..]),
        Some("verify") => cli::verify(&arguments[1..]),
        _ => cli::run(&arguments),
    }
}
