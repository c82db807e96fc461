//! The corpora of the fuzz targets, replayed: what was found once is never found again.
//!
//! `fuzz/run.sh` looks for new inputs with coverage, which takes a nightly compiler and time. What
//! it came upon, and what it began with, lies in `fuzz/corpus`, a folder per target; here every
//! file goes through its target's body once more.

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What one input may take. The fuzzer's own limit is two seconds, of a faster build.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);
/// The corpora come along with every copy of the project.
const CORPORA_BYTES_MAX: u64 = 1 << 20;

struct Target {
    name: &'static str,
    /// The body, as the target's file names it.
    path: &'static str,
    body: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident => $body:path,)*) => {
        const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), path: stringify!($body), body: $body }),*];
    };
}

targets! {
    bolt_file => kvorum::bolt::fuzz_read,
    certificates => kvorum::tls::fuzz_certificates,
    config_file => kvorum::config::fuzz_file,
    dns_answer => kvorum::server::fuzz_dns,
    entry_apply => kvorum::machine::fuzz_entries,
    flags => kvorum::config::fuzz_flags,
    http_path => kvorum::http::fuzz_path,
    index_model => kvorum::mvcc::index::fuzz::fuzz_index,
    lease_model => kvorum::lease::model::exercise,
    member_files => kvorum::node::fuzz_files,
    mvcc_model => kvorum::mvcc::fuzz::fuzz_against_model,
    peer_answer => kvorum::peer::fuzz_answer,
    peer_hello => kvorum::peer::headers::fuzz_hello,
    peer_request => kvorum::peer::fuzz_request,
    peer_stream => kvorum::peer::codec::fuzz_stream,
    raft_step => kvorum::raft::fuzz_step,
    request_decode => kvorum::api::fuzz_request,
    span => kvorum::span::fuzz_span,
    state_rows => kvorum::tool::fuzz_rows,
    wal_open => kvorum::storage::wal::fuzz_open,
    watch_model => kvorum::watch::world::exercise,
}

fn fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

/// What is in a folder of the project.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

/// A target that is not in the list would never be replayed, a folder of no target neither.
#[test]
fn targets_and_corpora_are_one_list() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let built: BTreeSet<String> =
        list(&fuzz("fuzz_targets")).iter().map(|path| stem(path)).collect();
    assert_eq!(built, listed, "fuzz/fuzz_targets and this file");
    let kept: BTreeSet<String> = list(&fuzz("corpus")).iter().map(|path| stem(path)).collect();
    assert_eq!(kept, listed, "fuzz/corpus and this file");
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).expect("the targets have a manifest");
    for Target { name, path, .. } in TARGETS {
        let source = fuzz(&format!("fuzz_targets/{name}.rs"));
        let source = fs::read_to_string(source).expect("it was listed");
        let call = format!("libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {path}(bytes));");
        assert!(source.contains(&call), "{name} does not say {call}");
        let bin = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&bin), "fuzz/Cargo.toml does not have {name}");
    }
}

#[test]
fn corpora_are_replayed() {
    let mut failed = Vec::new();
    let mut bytes_of_all = 0;
    for Target { name, body, .. } in TARGETS {
        let files = list(&fuzz("corpus").join(name));
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let input = fs::read(&file).expect("an input is a file");
            bytes_of_all += input.len() as u64;
            let began = Instant::now();
            let outcome = panic::catch_unwind(|| body(&input));
            let took = began.elapsed();
            if outcome.is_err() {
                failed.push(format!("{name} panics at {}", file.display()));
            } else if took > INPUT_TIME_MAX {
                failed.push(format!("{name} takes {took:?} for {}", file.display()));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(bytes_of_all < CORPORA_BYTES_MAX, "{bytes_of_all} bytes of corpora; see fuzz/keep.sh");
}

/// The corpora with random changes, without a nightly compiler and without coverage:
/// `TARGET=raft_step SECONDS=60 SEED=1 cargo test --test tests fuzz::changed -- --ignored`.
#[test]
#[ignore = "takes as long as it is given"]
fn changed_corpora_are_survived() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("SECONDS").unwrap_or(1));
    let mut dice = Dice(number("SEED").unwrap_or(1));
    let wanted = std::env::var("TARGET").unwrap_or_default();
    let mut failed = Vec::new();
    for Target { name, body, .. } in TARGETS.iter().filter(|target| target.name.contains(&wanted)) {
        let files = list(&fuzz("corpus").join(name));
        let inputs: Vec<_> = files.iter().map(|file| fs::read(file).expect("an input")).collect();
        let (began, mut runs) = (Instant::now(), 0_u64);
        while began.elapsed() < time {
            let input = dice.change(&inputs);
            runs += 1;
            if panic::catch_unwind(|| body(&input)).is_err() {
                let folder = fuzz("artifacts").join(name);
                fs::create_dir_all(&folder).expect("a folder for what was found");
                let file = folder.join(format!("changed-{:016x}", dice.0));
                fs::write(&file, &input).expect("what was found is kept");
                failed.push(format!("{name} panics at {}", file.display()));
                break;
            }
        }
        println!("{name}: {runs} inputs");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Chance, from a seed.
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn roll(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    /// One of the inputs, with some of its bytes changed, or others' in their place.
    fn change(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.roll(inputs.len())].clone();
        for _ in 0..=self.roll(8) {
            let (at, other) = (self.roll(input.len() + 1), &inputs[self.roll(inputs.len())]);
            match self.roll(6) {
                0 => drop(input.splice(at.., [])),
                1 => {
                    let from = self.roll(other.len());
                    let to = from + self.roll(other.len() - from);
                    input.splice(at..at, other[from..to].iter().copied());
                }
                2 => input.insert(at, self.roll(256) as u8),
                3 => {
                    let end = (at + self.roll(16)).min(input.len());
                    input.drain(at..end);
                }
                _ if at < input.len() => input[at] = self.roll(256) as u8,
                _ => input.push(self.roll(256) as u8),
            }
        }
        input.truncate(1 << 16);
        input
    }
}
