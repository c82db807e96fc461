//! What a member says that does not start, and what its log says of clients it does not serve.
//!
//! The binary as a process, because what it says is in its log.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use kvorum::limits;
use rustix::process::Signal;
use serde_json::Value;

use super::client::{Client, PATIENCE};
use super::pki::{Authority, Flaw, Identity, fixture, fixture_text};
use crate::process::member::{FLAGS, Member, run};

const HTTPS: [&str; 2] =
    ["--listen-client-urls=https://127.0.0.1:0", "--advertise-client-urls=https://127.0.0.1:0"];

/// `--name=path` of a fixture or of a file in `directory`.
fn flag(directory: &Path, name: &str, file: &str) -> String {
    let path = if fixture(file).exists() { fixture(file) } else { directory.join(file) };
    format!("--{name}={}", path.display())
}

#[test]
fn certificates_that_cannot_be_used_stop_the_start_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("a writable directory");
    };
    write("garbage", "garbage");
    write("empty", "");
    write("half", &fixture_text("p256.crt")[..200]);
    write("damaged", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let cases = [
        ("absent", "p256.key", "", "cannot read the certificate file DIR/absent: No such file"),
        ("p256.crt", "absent", "", "cannot read the key file DIR/absent: No such file"),
        ("p256.crt", "p256.key", "absent", "cannot read the CA file DIR/absent: No such file"),
        ("garbage", "p256.key", "", "DIR/garbage holds no certificate: it needs PEM blocks"),
        ("p256.key", "p256.key", "", "p256.key holds no certificate: it needs PEM blocks"),
        ("half", "p256.key", "", "the certificate in DIR/half cannot be used: the file ends"),
        ("damaged", "p256.key", "", "the certificate in DIR/damaged cannot be used: invalid"),
        ("p256.crt", "garbage", "", "DIR/garbage holds no private key: it needs a PEM block"),
        ("p256.crt", "p256.crt", "", "p256.crt holds no private key: it needs a PEM block"),
        ("p256.crt", "encrypted.key", "", "encrypted.key is encrypted, and nobody is there"),
        ("p256.crt", "client.key", "", "client.key does not match the public key of the first"),
        ("p521.crt", "rsa.key", "", "rsa.key does not match the public key of the first"),
        ("p256.crt", "p256.key", "empty", "DIR/empty holds no certificate: it needs PEM blocks"),
        ("p256.crt", "p256.key", "damaged", "the certificate in DIR/damaged cannot be used"),
    ];
    for (cert, key, ca, words) in cases {
        let at = |name, file| flag(directory.path(), name, file);
        let mut flags = vec![at("cert-file", cert), at("key-file", key)];
        if !ca.is_empty() {
            flags.push(at("trusted-ca-file", ca));
        }
        assert_refused(directory.path(), &flags, words);
    }
    let flags = ["p256.crt", "p256.key"]
        .map(|file| flag(directory.path(), &format!("{}-file", kind(file)), file));
    let flags = [flags.to_vec(), vec!["--client-cert-auth".to_owned()]].concat();
    assert_refused(directory.path(), &flags, "--client-cert-auth without --trusted-ca-file");
}

fn kind(file: &str) -> &str {
    if file.ends_with(".crt") { "cert" } else { "key" }
}

/// Nothing but the reason, as the last line, and exit code 1; and no data directory is touched.
fn assert_refused(directory: &Path, flags: &[String], words: &str) {
    let flags = flags.iter().map(String::as_str);
    let arguments: Vec<&str> = FLAGS.into_iter().chain(HTTPS).chain(flags).collect();
    let output = run(directory, &arguments, &[]);
    let log = String::from_utf8(output.stderr).expect("the log is text");
    assert_eq!(output.status.code(), Some(1), "{words}: {log}");
    let last: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "fatal", "{log}");
    let error = last["error"].as_str().expect("a reason");
    let error = error.replace(&directory.display().to_string(), "DIR");
    assert!(error.contains(words), "{error}");
    assert!(!directory.join("data").exists(), "{words}");
}

/// A member that serves TLS with files in `directory`, and where.
fn start(directory: &Path, identity: &Identity, more: &[&str]) -> (Member, SocketAddr) {
    std::fs::write(directory.join("crt"), &identity.cert).expect("a writable directory");
    std::fs::write(directory.join("key"), &identity.key).expect("a writable directory");
    let flags = [&HTTPS[..], &["--cert-file=crt", "--key-file=key"], more].concat();
    let mut member = Member::spawn(directory, &flags, &[]);
    let ready = member.wait_for("ready to serve client requests");
    let address = ready["address"].as_str().expect("an address").parse().expect("an address");
    member.wait_for("serving client traffic securely");
    (member, address)
}

const REJECTED: &str = "rejected connection on client endpoint";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_why_a_client_was_turned_away() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    std::fs::write(directory.path().join("ca"), ours.pem()).expect("a writable directory");
    let identity = ours.sign("server", Flaw::None);
    let (mut member, address) = start(directory.path(), &identity, &["--trusted-ca-file=ca"]);

    let nobody = Client::trusting(&ours.pem());
    let refused = nobody.get(address, "/health").await.expect_err("no certificate");
    assert_eq!(refused.to_string(), "received fatal alert: CertificateRequired");
    assert_eq!(error(&member.wait_for(REJECTED)), "tls: peer sent no certificates");
    for (authority, flaw, alert, words) in [
        (&theirs, Flaw::None, "UnknownCA", "UnknownIssuer"),
        (&ours, Flaw::Expired, "CertificateExpired", "certificate expired"),
        (&ours, Flaw::NotYetValid, "CertificateExpired", "certificate not valid yet"),
        (&ours, Flaw::ForServersOnly, "UnsupportedCertificate", "certificate does not allow"),
    ] {
        let client = nobody.clone().with(authority.sign("client", flaw));
        let refused = client.get(address, "/health").await.expect_err(words).to_string();
        assert!(refused.contains(alert), "{refused}");
        let line = member.wait_for(REJECTED);
        assert!(error(&line).contains(words), "{line}");
        assert!(line["remote-addr"].as_str().expect("an address").starts_with("127.0.0.1:"));
    }

    nobody.clone().with(ours.own()).get(address, "/health").await.expect_err("a CA");
    let words = "tls: the client shows the certificate of a CA (CA:TRUE); sign one with it instead";
    assert_eq!(error(&member.wait_for(REJECTED)), words);

    // Who comes and goes without a word leaves none behind: the lines are the next ones' own.
    (0..3).for_each(|_| drop(TcpStream::connect(address).expect("it listens")));
    // Who knows another CA says so, and who speaks plain text is heard, too.
    Client::trusting(&theirs.pem()).get(address, "/health").await.expect_err("another CA");
    assert_eq!(error(&member.wait_for(REJECTED)), "tls: received fatal alert: UnknownCA");
    plain_text(address);
    let words = "tls: first record does not look like a TLS handshake";
    assert_eq!(error(&member.wait_for(REJECTED)), words);

    // Not every one of a flood has a line.
    const FLOOD: usize = 100;
    (0..FLOOD).for_each(|_| plain_text(address));
    member.signal(Signal::TERM);
    let log = member.read_to("the member has stopped");
    // A slow machine may see a second window of ten lines begin, or a third.
    assert!(log.matches(REJECTED).count() <= FLOOD / 2, "{log}");
}

fn error(line: &Value) -> &str {
    assert_eq!(line["level"], "warn");
    line["error"].as_str().expect("a reason")
}

/// Asks in plain text, and is answered in it.
fn plain_text(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_what_became_of_new_certificates() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new("authority");
    let (first, second) = (authority.sign("first", Flaw::None), authority.sign("2", Flaw::None));
    let (mut member, address) = start(directory.path(), &first, &[]);
    let client = Client::trusting(&authority.pem());

    std::fs::write(directory.path().join("crt"), &second.cert[..100]).expect("writable");
    for _ in 0..3 {
        client.get(address, "/health").await.expect("the old certificate serves");
    }
    let line = member.wait_for("cannot load the new certificate; the one before stays in use");
    assert!(error(&line).starts_with("the certificate in crt cannot be used"), "{line}");
    std::fs::write(directory.path().join("crt"), &second.cert).expect("writable");
    client.get(address, "/health").await.expect("the old certificate serves");
    let line = member.wait_for("cannot load the new certificate; the one before stays in use");
    assert!(error(&line).starts_with("the private key in key does not match"), "{line}");
    std::fs::write(directory.path().join("key"), &second.key).expect("writable");
    client.get(address, "/health").await.expect("the new certificate serves");
    let line = member.wait_for("a new certificate is in use");
    assert_eq!(line["cert-file"], "crt");
}

/// A member whose process may open `descriptors` files; `limit` is `-n`, or `-Sn` if it may ask for
/// more.
fn bounded(directory: &Path, limit: &str, descriptors: u64, more: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit} {descriptors} && exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_kvorum"));
    command.args(FLAGS).arg("--worker-threads=1").args(more).current_dir(directory);
    command.env_clear().stdin(Stdio::null());
    command
}

#[test]
fn clients_do_not_take_the_descriptors_that_files_need() {
    const SEATS: usize = 20;
    const WAITING: usize = 500;
    let reserved = limits::DESCRIPTORS_RESERVED + limits::DESCRIPTORS_PER_WORKER;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let metrics = ["--listen-metrics-urls=http://127.0.0.1:0"];
    let command = bounded(directory.path(), "-n", reserved + SEATS as u64, &metrics);
    let mut member = Member::spawn_command(command);
    let address = |line: Value| line["address"].as_str().expect("an address").to_owned();
    let metrics = address(member.wait_for("serving metrics and health"));
    let clients = address(member.wait_for("ready to serve client requests"));

    let clients: SocketAddr = clients.parse().expect("an address");
    let mut crowd: Vec<TcpStream> = (0..SEATS + WAITING)
        .map(|_| {
            // The kernel holds those who wait, and does not send them away to try again.
            let mut stream = TcpStream::connect_timeout(&clients, PATIENCE).expect("a queue");
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").expect("it reads");
            stream
        })
        .collect();
    let rest = crowd.split_off(SEATS);
    let hear = |stream: &mut TcpStream| {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
    };
    crowd.iter_mut().for_each(hear);
    // Probes find a place; and while they do, nobody of the rest does.
    for _ in 0..20 {
        let mut probe = TcpStream::connect(&metrics).expect("it listens");
        let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        probe.write_all(request).expect("it reads");
        hear(&mut probe);
    }
    for stream in &rest {
        stream.set_nonblocking(true).expect("a socket");
        let heard = (&*stream).read(&mut [0]).expect_err("no seat, no answer");
        assert_eq!(heard.kind(), std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).expect("a socket");
    }
    // Each that goes makes room for another.
    drop(crowd);
    for mut stream in rest {
        hear(&mut stream);
    }
}

#[test]
fn too_few_descriptors_are_a_reason_not_to_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = bounded(directory.path(), "-n", limits::DESCRIPTORS_RESERVED, &[]).output();
    let output = output.expect("the binary runs");
    let log = String::from_utf8(output.stderr).expect("the log is text");
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.lines().last().expect("a line").contains("may open 150 files"), "{log}");
    // What may be raised is no reason.
    let few = bounded(directory.path(), "-Sn", limits::DESCRIPTORS_RESERVED, &[]);
    Member::spawn_command(few).wait_for("ready to serve client requests");
}
