//! Restarts from an image of the index: it is used while it serves, and never believed beyond.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use kvorum::pb::CompactionRequest;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Server, directory, rows};

/// What a member says when an image is of no use to it.
const REFUSED: &str = "is of no use";
/// Smaller states go without an image.
const VALUES: usize = 20;

fn key(at: usize) -> String {
    format!("/registry/{at:02}")
}

/// A directory with a stopped member's state in it, large enough to have an image.
fn with_image() -> (TempDir, PathBuf) {
    let directory = directory();
    let server = Server::start(directory.path());
    for at in 0..VALUES {
        server.put(&key(at), &vec![b'v'; 1 << 20]).expect("it is put");
    }
    server.end(Signal::TERM);
    let image = directory.path().join("data/member/state/index");
    assert!(image.exists(), "a member that stops leaves an image");
    (directory, image)
}

fn keys(server: &Server) -> Vec<String> {
    rows(&server.range(0).expect("it is answered")).iter().map(|row| shortened(row)).collect()
}

/// A row without its value, which is long here.
fn shortened(row: &str) -> String {
    let (key, rest) = row.split_once('=').expect("a row has a value");
    format!("{key} {}", rest.split_once(' ').expect("a row has revisions").1)
}

#[test]
fn a_killed_member_reads_an_image_and_what_came_after_it() {
    let (directory, _) = with_image();
    let server = Server::start(directory.path());
    server.put(&key(1), b"again").expect("it is put");
    server.put("/later", b"new").expect("it is put");
    let before = keys(&server);
    server.end(Signal::KILL);
    let server = Server::start(directory.path());
    assert!(!server.log.contains(REFUSED), "{}", server.log);
    assert_eq!(keys(&server), before);
}

#[test]
fn a_damaged_image_is_told_and_costs_nothing_but_time() {
    let (directory, image) = with_image();
    let file = File::options().read(true).write(true).open(&image).expect("it is there");
    let middle = file.metadata().expect("it has a length").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("it can be read");
    file.write_all_at(&[byte[0] ^ 0x10], middle).expect("it can be written");
    let server = Server::start(directory.path());
    assert!(server.log.contains(REFUSED), "{}", server.log);
    assert_eq!(keys(&server).len(), VALUES);
    server.end(Signal::TERM);
    let server = Server::start(directory.path());
    assert!(!server.log.contains(REFUSED), "the next one is whole: {}", server.log);
    assert_eq!(keys(&server).len(), VALUES);
}

#[test]
fn an_image_from_before_a_compaction_brings_nothing_back() {
    let (directory, image) = with_image();
    let old = directory.path().join("old");
    std::fs::copy(&image, &old).expect("a file can be copied");
    let server = Server::start(directory.path());
    server.delete(&key(3)).expect("it is deleted");
    let revision = server.put(&key(4), b"again").expect("it is put");
    let request = CompactionRequest { revision, physical: true };
    server.call(server.kv().compact(request));
    let before = keys(&server);
    server.end(Signal::TERM);
    // As if the member had been killed before it wrote another one.
    std::fs::rename(&old, &image).expect("a file can be renamed");
    let server = Server::start(directory.path());
    assert_eq!(keys(&server), before);
    assert_eq!(before.len(), VALUES - 1);
}
