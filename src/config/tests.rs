//! Tests of the configuration: scripts, and facts about the table.
//!
//! - `testscripts/etcd/`: what etcd answers, recorded from it by `RECORD_FROM=/path/to/etcd cargo
//!   test --lib config`. kvorum must answer the same.
//! - `testscripts/kvorum/`: where kvorum differs by intent, with what it tells the log. Rewritten
//!   by `UPDATE_GOLDENFILES=1`.

mod properties;
mod record;
mod script;

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::flag::{Kind, Status};
use super::{Config, Intent, Outside, Refusal, Start, help, read, table, tool};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn read_words(line: &str) -> Result<Intent, Refusal> {
    read(&Outside {
        arguments: &words(line),
        variables: &[],
        default_host: &|| None,
        read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
    })
}

fn start(line: &str) -> Start {
    match read_words(line).expect("the script's words are taken") {
        Intent::Start(start) => *start,
        Intent::Help | Intent::Version => panic!("{line} asks for no start"),
    }
}

#[test]
fn etcd_answers() {
    script::run_folder("etcd", false);
}

#[test]
fn kvorum_answers() {
    script::run_folder("kvorum", true);
}

#[test]
fn no_arguments_are_the_default_configuration() {
    let read = format!("{:#?}", start("").config);
    assert_eq!(read, format!("{:#?}", Config::default()));
}

#[test]
fn the_table_has_every_flag_of_etcd() {
    let path = script::folder().join("etcd_help_flags");
    if let Some(etcd) = record::etcd() {
        std::fs::write(&path, record::help_flags(&etcd)).expect("the fixture is writable");
    }
    let text = std::fs::read_to_string(&path).expect("the fixture is there");
    let missing: Vec<&str> = text.lines().filter(|name| table::find(name).is_none()).collect();
    assert!(missing.is_empty(), "etcd has flags kvorum does not know: {missing:?}");
    assert!(text.lines().count() > 100, "the fixture holds the flags of a whole help");
}

#[test]
fn the_table_is_consistent() {
    let mut names = BTreeSet::new();
    let mut variables = BTreeSet::new();
    for flag in table::flags() {
        assert!(names.insert(flag.name), "--{} is there twice", flag.name);
        assert!(variables.insert(flag.variable()), "{} is there twice", flag.variable());
        let is_legacy = flag.help.is_empty();
        assert!(is_legacy || flag.help.ends_with('.'), "--{}: help is sentences", flag.name);
        match flag.status {
            Status::Renamed(name) => {
                let successor = table::find(name).expect("a successor is in the table");
                assert_eq!(flag.kind, successor.kind, "--{name} takes what it took before");
            }
            Status::Gate(gate) => {
                assert!(super::gates::parse(&format!("{gate}=true")).is_ok(), "{gate} is a gate");
                assert_eq!(flag.kind, Kind::Bool);
            }
            Status::Built | Status::Idle(_) | Status::Later(_) => {
                assert_eq!(flag.check(flag.default), Ok(()), "--{}: its default", flag.name);
                let is_default = flag.is_default(flag.default);
                assert_eq!(is_default, flag.kind != Kind::Dropped, "--{}", flag.name);
            }
        }
    }
}

/// The flags a section of docs/differences.md names.
fn documented(heading: &str) -> BTreeSet<&'static str> {
    let text = include_str!("../../docs/differences.md");
    let (_, section) =
        text.split_once(&format!("\n### {heading}\n")).expect("the section is there");
    let section = section.split("\n#").next().unwrap_or_default();
    // A flag that a reason mentions is not in the first column.
    let first = |line: &'static str| match line.strip_prefix("| ") {
        Some(row) => row.split(" | ").next().unwrap_or(row),
        None => line,
    };
    let quoted = section.lines().flat_map(|line| first(line).split('`').skip(1).step_by(2));
    quoted.filter_map(|word| word.strip_prefix("--")).collect()
}

#[test]
fn the_docs_tell_of_every_flag_that_is_not_built() {
    let current = || table::GROUPS.iter().filter(|group| group.title != table::LEGACY);
    let with = |wanted: fn(Status) -> bool| -> BTreeSet<&'static str> {
        let flags = current().flat_map(|group| group.flags);
        flags.filter(|flag| wanted(flag.status)).map(|flag| flag.name).collect()
    };
    let idle = with(|status| matches!(status, Status::Idle(_)));
    assert_eq!(documented("Taken, and nothing changes"), idle);
    let later = with(|status| matches!(status, Status::Later(_)));
    assert_eq!(documented("Refused, with advice"), later);
}

#[test]
fn help_shows_every_flag_that_is_not_legacy() {
    let text = help::text();
    for flag in table::flags() {
        let shown = text.contains(&format!("  --{} '", flag.name));
        assert_eq!(shown, !flag.help.is_empty(), "--{}", flag.name);
    }
    assert!(text.lines().all(|line| line.len() <= 130), "help fits a wide terminal");
}

#[test]
fn help_and_version_are_asked_for() {
    assert!(matches!(read_words("-h"), Ok(Intent::Help)));
    assert!(matches!(read_words("--name x --help --nonsense"), Ok(Intent::Help)));
    assert!(matches!(read_words("--version --name=x"), Ok(Intent::Version)));
    assert!(matches!(read_words("--version=false"), Ok(Intent::Start(_))));
}

#[test]
fn paths_and_peers_reach_the_configuration() {
    let config = start(
        "--wal-dir /w --cert-file c --key-file k --trusted-ca-file ca --client-cert-auth \
         --listen-client-urls https://127.0.0.1:1 --advertise-client-urls https://a:1 \
         --peer-cert-file pc --peer-key-file pk --peer-cert-allowed-cn b,a \
         --tls-min-version TLS1.3 --storage-engine sled --worker-threads 3",
    )
    .config;
    let client = config.client_tls.expect("an https listener has certificates");
    assert_eq!(client.trusted_ca_file, Some(PathBuf::from("ca")));
    assert!(client.client_cert_auth);
    assert_eq!(client.versions, super::TlsVersions::Only13);
    let peer = config.peer_tls.expect("peer certificates are kept");
    assert_eq!(peer.allowed_cn, ["a", "b"]);
    assert_eq!(config.wal_dir, Some(PathBuf::from("/w")));
    assert_eq!(config.storage_engine, super::StorageEngine::Sled);
    assert_eq!(config.worker_threads, 3);
}

#[test]
fn restore_takes_the_flags_of_etcdutl() {
    let line = "snapshot restore f --name m --initial-cluster m=http://127.0.0.1:1 --timeout 1s \
                --initial-advertise-peer-urls http://127.0.0.1:1 --data-dir d --skip-hash-check \
                --bump-revision 7 --mark-compacted --initial-memory-map-size 5";
    let Ok(tool::Tool::Snapshot(tool::Snapshot::Restore(restore))) = tool::parse(&words(line))
    else {
        panic!("a restore was asked for");
    };
    assert_eq!((restore.bump_revision, restore.mark_compacted), (7, true));
    let config = restore.config().expect("the member is in its cluster");
    assert_eq!(config.initial_cluster, [("m".into(), "http://127.0.0.1:1".into())]);
    assert_eq!(config.data_dir(), PathBuf::from("d"));

    let Ok(tool::Tool::Snapshot(tool::Snapshot::Restore(restore))) =
        tool::parse(&words("snapshot restore f --name x"))
    else {
        panic!("a restore was asked for");
    };
    let error = restore.config().expect_err("x is not in the default cluster").to_string();
    assert_eq!(error, "couldn't find local name \"x\" in the initial cluster configuration");
}

#[test]
fn tools_are_told_apart_from_flags() {
    for word in ["version", "snapshot", "verify", "help"] {
        assert!(tool::is_tool(word), "{word}");
    }
    assert!(!tool::is_tool("--name") && !tool::is_tool("foo"));
    assert!(tool::parse(&words("help")).is_err_and(|usage| usage.is_help));
    assert!(tool::parse(&words("snapshot status")).is_err_and(|usage| !usage.is_help));
}
