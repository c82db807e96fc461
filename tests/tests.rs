//! Integration tests, one binary.
//!
//! - `checker`: the judge of recorded histories.
//! - `clusters`: members among each other, and a network that can be cut.
//! - `fuzz`: the corpora of the fuzz targets, replayed.
//! - `listener`: TLS, and who is let in, on the client listener.
//! - `process`: the binary as a process, its exit codes, signals and log.
//! - `snapshots`: the tools on a snapshot or a directory, and members that start on what they made.
//! - `tidy`: the house rules.
//! - `settings`: every setting is read.
//! - `scripts`: one test per folder of `tests/scripts/`, goldens recorded from a real etcd; the
//!   language and the way to record are explained in [`support`].

mod checker;
mod clusters;
mod fuzz;
mod listener;
mod process;
mod settings;
mod snapshots;
mod support;
mod tidy;

/// Makes each folder of scripts a test of its own.
macro_rules! folders {
    ($($folder:ident)*) => {
        mod scripts {
            $(#[test]
            fn $folder() {
                crate::support::harness::run_folder(stringify!($folder));
            })*
        }
    };
}

folders! {
    range
    range_stream
    put
    delete
    txn
    compact
    watch
    lease
    maintenance
    cluster
    limits
    http
    wire
    restart
}
