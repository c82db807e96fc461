//! Snapshots and images from end to end: a member saves one or starts on one, and the tools look
//! at both.
//!
//! What the tools make of files is tested in `src/tool`, and against etcd in `tests/interop`; here
//! is what needs a member at work.

mod images;

use std::fs;
use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::etcdserverpb::lease_client::LeaseClient;
use kvorum::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum::pb::{
    AlarmRequest, DeleteRangeRequest, KeyValue, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
    RangeResponse, SnapshotRequest, alarm_request::AlarmAction,
};
use prost::Message as _;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::process::member::{Member, run};

/// A member at work, and a way to talk to it.
struct Server {
    member: Member,
    /// What it said before it was ready.
    log: String,
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Server {
    /// Starts on what is in `data`.
    fn start(directory: &Path) -> Self {
        let mut member = Member::spawn(directory, &[], &[]);
        let (log, ready) = member.read("ready to serve client requests");
        let address = ready["address"].as_str().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = runtime.block_on(endpoint.connect()).expect("it is ready");
        Self { member, log, runtime, channel }
    }

    fn call<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> T {
        self.runtime.block_on(call).expect("it is answered").into_inner()
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<i64, Status> {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_vec().into(),
            ..PutRequest::default()
        };
        let response = self.runtime.block_on(self.kv().put(request))?.into_inner();
        Ok(response.header.expect("an answer has a header").revision)
    }

    fn delete(&self, key: &str) -> Result<i64, Status> {
        let request = DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        Ok(self.runtime.block_on(self.kv().delete_range(request))?.into_inner().deleted)
    }

    /// All keys at a revision; 0 is now.
    fn range(&self, revision: i64) -> Result<RangeResponse, Status> {
        let all = (&b"\0"[..]).into();
        let request = RangeRequest {
            key: all,
            range_end: (&b"\0"[..]).into(),
            revision,
            ..RangeRequest::default()
        };
        self.runtime.block_on(self.kv().range(request)).map(tonic::Response::into_inner)
    }

    /// What a client that saves a snapshot writes into its file.
    fn save(&self) -> Vec<u8> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let mut stream = self.call(client.snapshot(SnapshotRequest {}));
        let mut file = Vec::new();
        while let Some(piece) = self.runtime.block_on(stream.message()).expect("it goes on") {
            file.extend_from_slice(&piece.blob);
        }
        file
    }

    fn end(self, signal: Signal) {
        let Self { member, runtime, channel, .. } = self;
        // A connection that nobody reads would be waited for.
        drop((channel, runtime));
        member.signal(signal);
        assert_eq!(member.ended_by(), Some(signal.as_raw()));
    }
}

/// A tool's exit code, output and errors.
fn tool(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(directory, arguments, &[]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Makes `data` of a file, for the member that will run there.
fn restore(directory: &Path, file: &Path, more: &[&str]) {
    let file = file.to_str().expect("a path of text");
    let url = "http://127.0.0.1:2380";
    let (cluster, peers) = (format!("m={url}"), url);
    let flags = ["snapshot", "restore", file, "--data-dir", "data", "--name", "m"];
    let founding = ["--initial-cluster", &cluster, "--initial-advertise-peer-urls", peers];
    let (code, out, err) = tool(directory, &[&flags[..], &founding, more].concat());
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bolt").join(name)
}

/// Keys and values with the revisions they were made and changed at.
fn rows(response: &RangeResponse) -> Vec<String> {
    let row = |row: &bytes::Bytes| {
        let kv = KeyValue::decode(&row[..]).expect("a row is a message");
        let (key, value) = (kv.key.escape_ascii(), kv.value.escape_ascii());
        let (created, changed) = (kv.create_revision, kv.mod_revision);
        format!("{key}={value} {created}..{changed} v{} lease {}", kv.version, kv.lease)
    };
    response.kvs.iter().map(row).collect()
}

fn revision(response: &RangeResponse) -> i64 {
    response.header.as_ref().expect("an answer has a header").revision
}

#[test]
fn a_member_starts_on_a_snapshot_of_etcd() {
    let directory = directory();
    restore(directory.path(), &fixture("tables.db"), &[]);
    let server = Server::start(directory.path());
    let now = server.range(0).expect("all is there");
    let expected = [
        "bin\\x01\\xff=\\xff\\x01 6..6 v1 lease 0",
        "fruit/apple=brown 2..10 v3 lease 0",
        "fruit/banana=yellow 4..4 v1 lease 101",
        "fruit/damson=blue 7..7 v1 lease 0",
        "fruit/elder=black 7..7 v1 lease 0",
    ];
    assert_eq!((revision(&now), rows(&now)), (10, expected.map(str::to_owned).to_vec()));
    // History is there from the compaction on.
    let before = server.range(8).expect("it is not compacted");
    assert!(rows(&before).contains(&"fruit/apple=green 2..3 v2 lease 0".to_owned()));
    assert!(rows(&before).contains(&"gone=soon 8..8 v1 lease 0".to_owned()));
    assert_eq!(server.range(3).expect_err("it is compacted").code(), Code::OutOfRange);

    let request = LeaseTimeToLiveRequest { id: 101, keys: true };
    let lease = server.call(LeaseClient::new(server.channel.clone()).lease_time_to_live(request));
    assert_eq!((lease.granted_ttl, &lease.keys[..]), (1_000_000, &["fruit/banana".into()][..]));

    // The alarm came along, and is in force until it is taken off, as it would be in etcd.
    assert_eq!(server.put("new", b"").expect_err("no space").code(), Code::ResourceExhausted);
    let mut client = MaintenanceClient::new(server.channel.clone());
    let alarms = server.call(client.alarm(AlarmRequest::default())).alarms;
    assert_eq!(alarms.len(), 1);
    server.call(client.alarm(AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        member_id: alarms[0].member_id,
        alarm: alarms[0].alarm,
    }));
    assert_eq!(server.put("new", b"").expect("there is space"), 11);

    server.end(Signal::TERM);
    let (code, out, err) = tool(directory.path(), &["verify", "data"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("\nrevision    11, compacted 4\nkeys        6\n"), "{out}");
}

#[test]
fn a_saved_snapshot_brings_back_the_store_under_higher_revisions() {
    let from = directory();
    let server = Server::start(from.path());
    for n in 0..50 {
        let value = vec![b'v'; n * n * 10];
        assert_eq!(server.put(&format!("k{n:02}"), &value).expect("there is space"), n as i64 + 2);
    }
    let file = from.path().join("saved.db");
    fs::write(&file, server.save()).expect("a file");
    server.put("late", b"").expect("there is space");
    let saved = server.range(51).expect("it is not compacted");
    server.end(Signal::TERM);

    let (code, out, err) = tool(from.path(), &["snapshot", "status", "saved.db", "-w", "json"]);
    let status: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!(code, Some(0), "{err}");
    assert_eq!((&status["revision"], &status["totalKey"]), (&51.into(), &50.into()));
    let size_bytes = fs::metadata(&file).expect("it was written").len();
    assert_eq!(status["totalSize"], size_bytes - 32);

    let to = directory();
    restore(to.path(), &file, &["--bump-revision", "1000", "--mark-compacted"]);
    let server = Server::start(to.path());
    let now = server.range(0).expect("all is there");
    assert_eq!((revision(&now), rows(&now)), (1051, rows(&saved)));
    // Whoever saw a revision that is lost is told so, instead of being shown another one.
    for revision in [51, 52, 1050] {
        assert_eq!(server.range(revision).expect_err("compacted").code(), Code::OutOfRange);
    }
    assert_eq!(server.put("late", b"").expect("there is space"), 1052);
    server.end(Signal::TERM);
}

#[test]
fn a_directory_is_verified_when_nobody_uses_it() {
    let directory = directory();
    let server = Server::start(directory.path());
    for n in 0..20 {
        server.put(&format!("k{n}"), &[b'v'; 1000]).expect("there is space");
    }
    let (code, out, err) = tool(directory.path(), &["verify", "data"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("Error: data is in use by another process"), "{err}");
    server.put("after", b"").expect("nothing was disturbed");
    // A member that was killed left the rest of its state in the log.
    server.end(Signal::KILL);
    let (code, out, err) = tool(directory.path(), &["verify", "data"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("data is whole\n") && !out.contains("cut short"), "{out}");

    let log = fs::read_dir(directory.path().join("data/member/wal")).expect("it is there");
    let names = log.map(|entry| entry.expect("it can be listed").path());
    let mut segments = names.filter(|path| path.extension().is_some_and(|e| e == "wal"));
    let segment = segments.next().expect("there is a log");
    let file = fs::File::options().read(true).write(true).open(segment).expect("it is there");
    let mut bytes = vec![0; 16 * 1024];
    file.read_exact_at(&mut bytes, 0).expect("it is longer");
    let first = bytes.windows(100).position(|bytes| bytes == [b'v'; 100]).expect("a value");
    file.write_all_at(b"x", first as u64).expect("it can be written");
    let (code, out, err) = tool(directory.path(), &["verify", "data"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(" is damaged at offset "), "{err}");
}
