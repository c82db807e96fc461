//! The language of the scripts.
//!
//! A line `> [ETCD_X=y]... [--flag...]...` is a start; quotes hold blanks. Its answer follows:
//!
//! ```text
//! exit 1: <why>            it does not start
//! starts                   it does; then one line per setting that differs from no words at all
//!   name x
//! ! warn <message> {…}     what the log is told, in the scripts of kvorum alone
//! ```
//!
//! A `--config-file` is one of the folder `files`.
//!
//! Every start gets ports and a data directory of its own unless its words name them, so that the
//! same script can be put to a real etcd.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::{ClusterState, Config, Intent, Outside, Refusal, Start, read};
use super::record;
use crate::logging;

/// Flags every start has unless its words name them.
const BASE: [(&str, &str); 4] = [
    ("listen-client-urls", "http://127.0.0.1:0"),
    ("advertise-client-urls", "http://127.0.0.1:0"),
    ("listen-peer-urls", "http://127.0.0.1:0"),
    ("data-dir", "base.etcd"),
];
/// The settings that are compared: those etcd shows when it starts.
pub const COMPARED: [&str; 21] = [
    "name",
    "data-dir",
    "wal-dir-dedicated",
    "heartbeat-interval",
    "election-timeout",
    "snapshot-count",
    "snapshot-catchup-entries",
    "initial-advertise-peer-urls",
    "listen-peer-urls",
    "advertise-client-urls",
    "listen-client-urls",
    "listen-metrics-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "quota-backend-bytes",
    "max-request-bytes",
    "max-concurrent-streams",
    "pre-vote",
    "auto-compaction-mode",
    "auto-compaction-retention",
];

/// What a start came to.
pub enum Answer {
    Exit { code: i32, why: String },
    Starts(BTreeMap<String, String>),
}

/// Arguments and variables of one start.
pub struct Asked {
    pub arguments: Vec<String>,
    pub variables: Vec<(String, String)>,
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/testscripts")
}

/// Runs every script of a folder and compares, or rewrites, its answers.
pub fn run_folder(name: &str, with_log: bool) {
    let etcd = record::etcd().filter(|_| !with_log);
    let rewrite = etcd.is_some() || std::env::var_os("UPDATE_GOLDENFILES").is_some();
    let mut count = 0;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder().join(name))
        .expect("the folder is there")
        .map(|entry| entry.expect("the folder is readable").path())
        .collect();
    paths.sort();
    for path in paths {
        let before = std::fs::read_to_string(&path).expect("a script is text");
        let mut after = String::new();
        for line in before.lines() {
            let is_answer =
                ["exit ", "starts", "  ", "! "].iter().any(|head| line.starts_with(head));
            if is_answer {
                continue;
            }
            after = after + line + "\n";
            if let Some(words) = line.strip_prefix("> ") {
                after += &answer(words, with_log, etcd.as_deref());
                count += 1;
            }
        }
        if rewrite {
            std::fs::write(&path, &after).expect("a script is writable");
        } else {
            assert_eq!(before, after, "{}", path.display());
        }
    }
    assert!(count > 10, "the folder {name} has scripts");
}

fn answer(line: &str, with_log: bool, etcd: Option<&Path>) -> String {
    let start = Asked::new(line, with_log);
    let mut log = String::new();
    let answer = match etcd {
        Some(etcd) => record::ask(etcd, &start),
        None => ask(&start, &mut log),
    };
    let mut out = match answer {
        Answer::Exit { code, why } => format!("exit {code}: {why}\n"),
        Answer::Starts(settings) => {
            let mut out = "starts\n".to_owned();
            let nothing = Asked::new("", with_log);
            let base = match etcd {
                Some(etcd) => record::ask(etcd, &nothing),
                None => ask(&nothing, &mut String::new()),
            };
            let Answer::Starts(base) = base else { panic!("a start without words starts") };
            for (name, value) in &settings {
                if base.get(name) != Some(value) && (with_log || COMPARED.contains(&&**name)) {
                    let _ = writeln!(out, "  {name} {value}");
                }
            }
            out
        }
    };
    if with_log {
        out += &log;
    }
    out
}

impl Asked {
    fn new(line: &str, with_log: bool) -> Self {
        let (mut arguments, mut variables) = (Vec::new(), Vec::new());
        for word in split(line) {
            match word.split_once('=') {
                Some((name, value)) if word.starts_with("ETCD_") && arguments.is_empty() => {
                    variables.push((name.to_owned(), value.to_owned()));
                }
                Some(_) | None => arguments.push(word),
            }
        }
        // Where peers listen is remarked on, which only a real etcd needs to be told.
        let base = BASE.iter().filter(|(flag, _)| !(with_log && *flag == "listen-peer-urls"));
        for (flag, value) in base {
            let variable = format!("ETCD_{}", flag.to_uppercase().replace('-', "_"));
            let named = |word: &String| {
                let word = word.trim_start_matches('-');
                word == *flag || word.starts_with(&format!("{flag}="))
            };
            if !arguments.iter().any(named) && !variables.iter().any(|(name, _)| *name == variable)
            {
                arguments.insert(0, format!("--{flag}={value}"));
            }
        }
        Self { arguments, variables }
    }
}

/// Words of a line; double quotes hold blanks together.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Puts a start to kvorum.
fn ask(start: &Asked, log: &mut String) -> Answer {
    let default_host = || Some(std::net::Ipv4Addr::new(192, 0, 2, 2).into());
    let outside = Outside {
        arguments: &start.arguments,
        variables: &start.variables,
        default_host: &default_host,
        read_file: &|path| std::fs::read_to_string(folder().join("files").join(path)),
    };
    match read(&outside) {
        Ok(Intent::Start(start)) => {
            let Start { config, notices, .. } = *start;
            *log = logging::tests::capture(|| notices.iter().for_each(super::super::Notice::log));
            let verified = match config.initial_cluster_state {
                _ if config.discovery.is_some() => Ok(()),
                ClusterState::New => config.verify_founding(),
                ClusterState::Existing => config.verify_joining(),
            };
            match verified {
                Ok(()) => Answer::Starts(settings(&config)),
                Err(error) => Answer::Exit { code: 1, why: error.to_string() },
            }
        }
        Ok(Intent::Help | Intent::Version) => Answer::Exit { code: 0, why: "help".into() },
        Err(refusal) => {
            let mut why = refusal.to_string();
            if let Refusal::Shadowed { variable } = &refusal {
                why = format!("{why}: {variable}");
            }
            Answer::Exit { code: if refusal.is_usage() { 2 } else { 1 }, why }
        }
    }
}

fn settings(config: &Config) -> BTreeMap<String, String> {
    config.fields().into_iter().map(|(name, value)| (name.to_owned(), print(&value))).collect()
}

/// A setting of the log as a word; this machine's address has a name of its own.
pub fn print(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(print).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    text.replace("192.0.2.2", "HOST")
}
