//! The binary as a process: what it prints, how it exits, what its parent is told.
//!
//! What flags mean is tested where they are read, in `src/config`; here is what only a process has.

mod embed;
mod health;
pub mod member;
mod metrics;
mod pair;
mod stop;

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use member::{FLAGS, Member, run};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// The exit code, what stdout holds, and what stderr holds.
fn output(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = run(directory().path(), arguments, variables);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn versions_and_help_are_printed() {
    for arguments in [["--version"], ["version"]] {
        let (code, out, err) = output(&arguments, &[]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 4, "{out}");
        assert_eq!(lines[0], format!("etcd Version: {}", kvorum::version::SERVER));
        assert!(lines[1].starts_with("kvorum Version: "), "{out}");
    }
    for arguments in [["--help"], ["-h"], ["help"]] {
        let (code, out, _) = output(&arguments, &[]);
        assert_eq!(code, Some(0));
        assert!(out.contains("\nClustering:\n  --initial-advertise-peer-urls"), "{out}");
    }
}

#[test]
fn what_cannot_be_read_exits_with_2_and_the_usage() {
    for arguments in [&["--nosuch"][..], &["--name"], &["--pre-vote=maybe"]] {
        let (code, out, err) = output(arguments, &[]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.contains("\nUsage:\n"), "{err}");
    }
    for arguments in [&["snapshot"][..], &["snapshot", "status"], &["verify", "--nosuch"]] {
        let (code, _, err) = output(arguments, &[]);
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
    }
}

/// Arguments, environment, and what is said of them.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

#[test]
fn what_cannot_be_done_exits_with_1_and_one_line() {
    let cases: [Case<'_>; 5] = [
        (&["--auto-tls"], &[], "--auto-tls=true is not available"),
        (&["--name=a"], &[("ETCD_NAME", "b")], "conflicting environment variable is shadowed"),
        (&["foo"], &[], "\\\"foo\\\" is not a valid flag"),
        (&["gateway", "start"], &[], "kvorum gateway is not available"),
        (&["--log-outputs=/nonexistent/log"], &[], "open sink"),
    ];
    for (arguments, variables, words) in cases {
        let (code, out, err) = output(arguments, variables);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.starts_with("{\"level\":\"fatal\",") && err.contains(words), "{err}");
    }
}

#[test]
fn a_tool_says_error_as_etcdutl_does() {
    let (code, out, err) = output(&["snapshot", "status", "/nonexistent"], &[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "Error: stat /nonexistent: no such file or directory\n");
}

#[test]
fn a_member_dies_by_the_signal_and_comes_back() {
    let directory = directory();
    for signal in [Signal::TERM, Signal::INT] {
        let mut member = Member::spawn(directory.path(), &[], &[]);
        let ready = member.wait_for("ready to serve client requests");
        assert_eq!(ready["traffic"], "grpc+http");
        let address = ready["address"].as_str().expect("an address");
        std::net::TcpStream::connect(address).expect("a ready member is there");
        member.signal(signal);
        member.wait_for("received signal; shutting down");
        member.wait_for("the member has stopped");
        assert_eq!(member.ended_by(), Some(signal.as_raw()));
    }
}

#[test]
fn a_member_with_data_ignores_what_is_said_about_the_beginning() {
    let directory = directory();
    let other = ["--initial-cluster=other=http://127.0.0.1:9", "--initial-cluster-state=existing"];
    let (arguments, words) = ([&FLAGS[..], &other].concat(), "couldn't find local name");
    let refused = run(directory.path(), &arguments, &[]);
    assert_eq!(refused.status.code(), Some(1));
    let log = String::from_utf8(refused.stderr).expect("the log is text");
    let last = log.lines().last().expect("the log says why");
    assert!(last.starts_with("{\"level\":\"fatal\"") && last.contains(words), "{log}");

    for more in [&[][..], &other] {
        let mut member = Member::spawn(directory.path(), more, &[]);
        member.wait_for("ready to serve client requests");
        member.signal(Signal::TERM);
        member.wait_for("the member has stopped");
    }
}

#[test]
fn a_member_is_told_everything_by_a_file() {
    let directory = directory();
    let settings = [
        "name: m",
        "data-dir: data",
        "listen-client-urls: http://127.0.0.1:0",
        "advertise-client-urls: http://127.0.0.1:0",
        "listen-peer-urls: http://127.0.0.1:0",
    ];
    let settings = settings.join("\n");
    std::fs::write(directory.path().join("member.yml"), settings).expect("room");
    let arguments = ["--config-file=member.yml", "--name=other", "--data-dir=elsewhere"];
    let variables = [("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")];
    let command = member::command(directory.path(), &arguments, &variables);
    let mut member = Member::spawn_command(command);
    let told = "loaded server configuration, other configuration command line flags and \
                environment variables will be ignored if provided";
    assert_eq!(member.wait_for(told)["path"], "member.yml");
    member.wait_for("ready to serve client requests");
    assert!(directory.path().join("data/member").exists());
    assert!(!directory.path().join("elsewhere").exists());
}

#[test]
fn a_foreign_directory_is_left_as_it_is() {
    for (file, words) in [("member/snap/db", "is an etcd data directory"), ("notes", "found notes")]
    {
        let directory = directory();
        let file = directory.path().join("data").join(file);
        std::fs::create_dir_all(file.parent().expect("it is in a directory")).expect("room");
        std::fs::write(&file, b"theirs").expect("room");
        let refused = run(directory.path(), &FLAGS, &[]);
        assert_eq!(refused.status.code(), Some(1));
        let log = String::from_utf8(refused.stderr).expect("the log is text");
        assert!(log.contains(words), "{log}");
        assert!(!directory.path().join("data/lock").exists(), "something was left behind");
    }
}

#[test]
fn a_taken_port_is_a_line_and_exit_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", taken.local_addr().expect("a bound address"));
    let flags = ["--listen-client-urls", &url, "--advertise-client-urls", &url, "--name=m"];
    let (code, _, err) = output(&flags, &[]);
    assert_eq!(code, Some(1), "{err}");
    let last: Value = serde_json::from_str(err.lines().last().unwrap_or("")).expect("JSON");
    assert_eq!(
        (&last["level"], &last["msg"]),
        (&"fatal".into(), &"cannot start the member".into())
    );
    assert!(last["error"].as_str().is_some_and(|error| error.contains(&url)), "{err}");
}

#[test]
fn systemd_is_told_when_the_member_is_ready_and_when_it_goes() {
    let directory = directory();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let path = path.to_str().expect("a path of text");
    let mut member = Member::spawn(directory.path(), &[], &[("NOTIFY_SOCKET", path)]);
    member.wait_for("successfully notified init daemon");
    let mut bytes = [0; 64];
    let count = socket.recv(&mut bytes).expect("a message waits");
    assert_eq!(bytes[..count].trim_ascii(), b"READY=1");
    member.signal(Signal::TERM);
    let count = socket.recv(&mut bytes).expect("another message comes");
    assert_eq!(bytes[..count].trim_ascii(), b"STOPPING=1");
    assert_eq!(member.ended_by(), Some(Signal::TERM.as_raw()));
}

#[test]
fn the_log_goes_where_it_is_told() {
    let directory = directory();
    let path = directory.path().join("log");
    let both = format!("--log-outputs=stderr,{}", path.display());
    let mut member = Member::spawn(directory.path(), &[&both], &[]);
    member.wait_for("ready to serve client requests");
    member.signal(Signal::TERM);
    member.wait_for("the member has stopped");
    assert_eq!(member.ended_by(), Some(Signal::TERM.as_raw()));
    let log = std::fs::read_to_string(&path).expect("the file is there");
    assert!(log.lines().any(|line| line.contains("\"msg\":\"ready to serve client requests\"")));
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}
