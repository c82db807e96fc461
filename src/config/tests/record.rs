//! Putting the scripts to a real etcd, to record what it answers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::script::{Answer, Asked, COMPARED, print};

/// The etcd to record from, if there shall be recording.
pub fn etcd() -> Option<PathBuf> {
    std::env::var_os("RECORD_FROM").map(PathBuf::from)
}

/// The names of the flags its help shows, one per line.
pub fn help_flags(etcd: &Path) -> String {
    let output = Command::new(etcd).arg("--help").output().expect("etcd runs");
    let text = String::from_utf8(output.stdout).expect("help is text");
    let flags = text.lines().filter_map(|line| line.strip_prefix("  --"));
    let mut names: Vec<&str> = flags.filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names.join("\n") + "\n"
}

/// Starts etcd in a directory of its own and waits until it serves or is gone.
pub fn ask(etcd: &Path, start: &Asked) -> Answer {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut process = Command::new(etcd)
        .args(&start.arguments)
        .env_clear()
        .envs(start.variables.iter().map(|(name, value)| (name, value)))
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcd runs");
    let lines = BufReader::new(process.stderr.take().expect("stderr is a pipe")).lines();
    let (mut first, mut why, mut host) = (None, None, None);
    let mut settings = BTreeMap::new();
    for line in lines.map_while(Result::ok) {
        let Ok(Value::Object(entry)) = serde_json::from_str::<Value>(&line) else {
            first.get_or_insert(line);
            continue;
        };
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        match &*text("msg") {
            "starting an etcd server" => {
                for name in COMPARED {
                    settings.insert(name.to_owned(), print(&entry[name]));
                }
            }
            "detected default host for advertise" => host = Some(text("host")),
            // What comes later waits for other members.
            "now serving peer/client/metrics" => {
                process.kill().expect("etcd can be killed");
                break;
            }
            message if text("level") == "fatal" || message == "failed to verify flags" => {
                why.get_or_insert(match &*text("error") {
                    "" => format!("{message}: {}", text("environment-variable")),
                    error => error.to_owned(),
                });
            }
            _ => {}
        }
    }
    let status = process.wait().expect("etcd ends");
    match status.code() {
        Some(code) => Answer::Exit { code, why: why.or(first).unwrap_or_default() },
        None => {
            let named = |(name, value): (String, String)| match &host {
                Some(host) => (name, value.replace(host, "HOST")),
                None => (name, value),
            };
            Answer::Starts(settings.into_iter().map(named).collect())
        }
    }
}
