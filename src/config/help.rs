//! The texts of `--help`, printed from the table.

use std::fmt::Write as _;

use super::flag::{Flag, Kind, Status};
use super::table::{GROUPS, LEGACY};

/// What a wrong command line is answered with, and how `--help` begins.
pub const USAGE: &str = "\
Usage:

  kvorum [flags]
    Run a member of an etcd cluster. Every flag is also a variable: --data-dir is ETCD_DATA_DIR.

  kvorum --help
    Show the flags.

  kvorum --version
    Show the versions.

  kvorum snapshot status FILE
    Show what is in a snapshot.

  kvorum snapshot restore FILE --data-dir DIR
    Make a member's data directory from a snapshot.

  kvorum verify DIR
    Check a data directory that no process uses.
";

/// Usage and all flags.
pub fn text() -> String {
    let mut out = USAGE.to_owned();
    let mut title = "";
    for group in GROUPS.iter().filter(|group| group.title != LEGACY) {
        if group.title != title {
            title = group.title;
            let _ = write!(out, "\n{title}:\n");
        }
        for flag in group.flags {
            out += &entry(flag);
        }
    }
    out += "\nOlder names (--experimental-... and others) are taken, with a word in the log.\n";
    out
}

fn entry(flag: &Flag) -> String {
    let mut out = format!("  --{} '{}'\n    {}", flag.name, flag.default, flag.help);
    if let Kind::Choice(words) = flag.kind {
        let _ = write!(out, " One of: {}.", words.join(", "));
    }
    match flag.status {
        Status::Built | Status::Renamed(_) | Status::Gate(_) => {}
        Status::Idle(reason) => {
            let _ = write!(out, "\n    No effect: {reason}.");
        }
        Status::Later(advice) => {
            let _ = write!(out, "\n    Not available in this version: {advice}.");
        }
    }
    out.push('\n');
    out
}
