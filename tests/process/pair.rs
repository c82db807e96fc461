//! Two members as processes: one that waits for the other, one that is held up.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::directory;
use super::member::{Member, command};
use crate::support::http::{self, Reply};
use crate::support::port::Port;

/// For machines however slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where two members find each other.
struct Pair {
    ports: [Port; 2],
    directory: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let ports = [0; 2].map(|_| Port::hold().expect("a free port"));
        Self { ports, directory: directory() }
    }

    fn url(&self, n: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[n].number)
    }

    /// Starts one of them.
    fn start(&self, n: usize, more: &[&str]) -> Member {
        let directory: &Path = self.directory.path();
        let [name, data] = [format!("--name=m{n}"), format!("--data-dir=data{n}")];
        let founders = format!("--initial-cluster=m0={},m1={}", self.url(0), self.url(1));
        let [listen, advertise] = ["--listen-peer-urls", "--initial-advertise-peer-urls"]
            .map(|flag| format!("{flag}={}", self.url(n)));
        let flags = [
            &*name,
            &data,
            &founders,
            &listen,
            &advertise,
            "--listen-client-urls=http://127.0.0.1:0",
            "--advertise-client-urls=http://127.0.0.1:0",
            "--listen-metrics-urls=http://127.0.0.1:0",
        ];
        Member::spawn_command(command(directory, &[&flags, more].concat(), &[]))
    }
}

fn address(line: Value) -> String {
    line["address"].as_str().expect("an address").to_owned()
}

fn get(address: &str, path: &str) -> Reply {
    http::request(address, "GET", path, b"").expect("it answers")
}

/// The only series of a name.
fn number(address: &str, name: &str) -> u64 {
    let text = get(address, "/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect("it is there").trim().parse().expect("a number")
}

#[test]
fn a_member_that_waits_for_the_others_says_what_it_lacks() {
    let pair = Pair::new();
    // A read barrier gives up after five seconds and two election timeouts.
    let hurry = ["--heartbeat-interval=10", "--election-timeout=100"];
    let mut member = pair.start(0, &hurry);
    let metrics = address(member.wait_for("serving metrics and health"));
    assert_eq!(number(&metrics, "etcd_server_has_leader"), 0);
    let live = get(&metrics, "/livez");
    assert_eq!((live.status, live.body.as_str()), (200, "ok\n"));
    let health = get(&metrics, "/health");
    let said = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
    assert_eq!((health.status, health.body.as_str()), (503, said));
    let ready = get(&metrics, "/readyz");
    assert_eq!(ready.status, 503);
    let said = "[-]linearizable_read failed: etcdserver: request timed out\n";
    assert!(ready.body.contains(said), "{}", ready.body);

    let _other = pair.start(1, &hurry);
    member.wait_for("ready to serve client requests");
    assert_eq!(get(&metrics, "/readyz").status, 200);
    assert_eq!(get(&metrics, "/health").status, 200);
}

#[test]
fn a_leader_that_is_held_up_counts_late_heartbeats() {
    let pair = Pair::new();
    let often = ["--heartbeat-interval=10", "--election-timeout=2000"];
    let mut members = [0, 1].map(|n| pair.start(n, &often));
    let metrics = members.each_mut().map(|one| address(one.wait_for("serving metrics and health")));
    for member in &mut members {
        member.wait_for("ready to serve client requests");
    }
    let began = Instant::now();
    let late = |n: usize| number(&metrics[n], "etcd_server_heartbeat_send_failures_total");
    // On a busy machine a heartbeat may be late without our doing.
    let before = [late(0), late(1)];
    while [late(0), late(1)] == before {
        assert!(began.elapsed() < PATIENCE, "no heartbeat was late");
        for member in &members {
            member.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(50));
            member.signal(Signal::CONT);
        }
    }
}
