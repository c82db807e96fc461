//! A member as a process: started from the built binary, watched by its log, ended by signals.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A run of the binary with an environment of nothing but `variables`.
pub fn command(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvorum"));
    command.args(arguments).env_clear().envs(variables.iter().copied()).current_dir(directory);
    command
}

/// Runs to the end.
pub fn run(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(directory, arguments, variables).output().expect("the binary runs")
}

/// A running member. Killed when it is dropped.
pub struct Member {
    child: Child,
    log: BufReader<ChildStderr>,
}

/// The flags of a member on free ports of loopback, with its data in `data`.
pub const FLAGS: [&str; 5] = [
    "--name=m",
    "--data-dir=data",
    "--listen-client-urls=http://127.0.0.1:0",
    "--advertise-client-urls=http://127.0.0.1:0",
    "--listen-peer-urls=http://127.0.0.1:0",
];

impl Member {
    /// Starts one; it need not be ready.
    pub fn spawn(directory: &Path, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments: Vec<&str> = FLAGS.iter().chain(more).copied().collect();
        Self::spawn_command(command(directory, &arguments, variables))
    }

    /// Starts one by another command line.
    pub fn spawn_command(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let log = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        Self { child, log }
    }

    /// Reads the log up to the line with this message and returns that line.
    pub fn wait_for(&mut self, message: &str) -> Value {
        self.read(message).1
    }

    /// Reads the log up to the line with this message and returns what came before it.
    pub fn read_to(&mut self, message: &str) -> String {
        self.read(message).0
    }

    /// Reads the log up to the line with this message and returns both.
    pub fn read(&mut self, message: &str) -> (String, Value) {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let count = self.log.read_line(&mut line).expect("the log can be read");
            assert!(count > 0, "the log ended without {message:?}:\n{seen}");
            let entry: Value = serde_json::from_str(&line).expect("a line of the log is JSON");
            if entry["msg"] == message {
                return (seen, entry);
            }
            seen += &line;
        }
    }

    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).expect("a child can be signalled");
    }

    /// Waits for the end; the signal it died by, or nothing.
    pub fn ended_by(mut self) -> Option<i32> {
        let status = self.child.wait().expect("a child can be waited for");
        status.signal()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
