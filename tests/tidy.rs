//! The house rules, as tests: sizes, module docs, floors, words that do not belong.
//!
//! Nobody argues about these in review. A rule that turns out wrong is changed here, with a reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// Functions that are one long list, which would not read better in pieces.
const TABLES: [(&str, &str); 2] =
    [("src/metrics.rs", "fn new(extensive: bool)"), ("src/storage/engine/conformance.rs", "fn ")];

/// Rooms by floor, bottom up. A room imports from floors below its own, never from a sibling.
const FLOORS: [&[&str]; 11] = [
    &["pb", "error", "input", "limits", "marks", "planted", "span"],
    &["storage", "version"],
    &["mvcc", "lease", "members", "alarm"],
    &["machine", "raft", "watch", "bolt"],
    &["node"],
    &["api", "peer"],
    &["http"],
    &["server", "tool"],
    &["serve"],
    &["cli"],
    &["main"],
];

/// Rooms that any floor from the driver's up may use, and what they may use themselves.
const SERVICES: [&str; 4] = ["config", "tls", "metrics", "logging"];

/// Floors 0 to 3 are pure: functions of their inputs.
const PURE_FLOORS: usize = 4;

/// Words that would make a pure floor depend on the world.
const IMPURE: [&str; 7] =
    ["Instant::now", "SystemTime", "rand::", "tokio", "std::net", "std::env", "thread::spawn"];

/// Libraries and the rooms that may name them.
const ONE_ROOM: [(&str, &[&str]); 6] = [
    ("redb::", &["storage"]),
    ("sled::", &["storage"]),
    (" ::raft::", &["raft"]),
    ("tonic::", &["api", "pb", "server", "node"]),
    ("clap::", &["config"]),
    ("yaml_rust2::", &["config"]),
];

pub struct Source {
    pub path: PathBuf,
    /// The first folder or file name under `src/`.
    pub room: String,
    pub text: String,
}

pub fn sources(root: &str) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![top.join(root)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(top).expect("found under the top").to_owned();
                let room = relative.components().nth(1).expect("it lies under a folder");
                let room = room.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).expect("a source file is text");
                found.push(Source { path: relative, room, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn everything() -> Vec<Source> {
    ["src", "tests", "benches"].into_iter().flat_map(sources).collect()
}

fn is_test(source: &Source) -> bool {
    source.path.components().any(|part| {
        matches!(
            part.as_os_str().to_str(),
            Some("tests" | "tests.rs" | "fuzz.rs" | "world.rs" | "conformance.rs")
        )
    })
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut broken = Vec::new();
    for source in everything() {
        let path = source.path.display();
        let lines: Vec<&str> = source.text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            broken.push(format!("{path}: {} lines", lines.len()));
        }
        for (number, line) in lines.iter().enumerate() {
            let is_table = line.trim_start().starts_with("//! |");
            if line.chars().count() > LINE_CHARS_MAX && !is_table {
                broken.push(format!("{path}:{}: a line too long", number + 1));
            }
        }
        for (start, length) in functions(&lines) {
            let is_table = TABLES
                .iter()
                .any(|(file, text)| source.path == Path::new(file) && lines[start].contains(text));
            if length > FUNCTION_LINES_MAX && !is_table {
                broken.push(format!("{path}:{}: a function of {length} lines", start + 1));
            }
        }
    }
    report("too long", &broken);
}

/// Where each function starts and how many lines it has, by rustfmt's indentation.
fn functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let words = code.split('(').next().unwrap_or_default();
        let is_function = words.split_whitespace().any(|word| word == "fn");
        // A field of a function type, or prose, names no function.
        if !is_function || words.contains(':') || code.starts_with("//") {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[start..].iter().position(|line| *line == end) {
            found.push((start, length + 1));
        }
    }
    found
}

#[test]
fn every_module_says_what_it_is() {
    let broken: Vec<String> = everything()
        .iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| source.path.display().to_string())
        .collect();
    report("no //! at the head", &broken);
}

#[test]
fn imports_go_down() {
    let mut floor_of = BTreeMap::new();
    for (floor, rooms) in FLOORS.iter().enumerate() {
        for room in *rooms {
            floor_of.insert(*room, floor);
        }
    }
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|source| source.room != "lib") {
        let Some(&floor) = floor_of.get(source.room.as_str()) else {
            if !SERVICES.contains(&source.room.as_str()) {
                broken.push(format!("{}: a room without a floor", source.path.display()));
            }
            continue;
        };
        for (number, line) in source.text.lines().enumerate() {
            let Some(rest) = line.trim_start().strip_prefix("use crate::") else { continue };
            let room: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let allowed = room == source.room
                || SERVICES.contains(&room.as_str()) && floor >= PURE_FLOORS
                || floor_of.get(room.as_str()).is_some_and(|below| *below < floor)
                || is_test(source);
            if !room.is_empty() && !allowed {
                broken.push(format!("{}:{}: {line}", source.path.display(), number + 1));
            }
        }
    }
    report("an import that does not go down", &broken);
}

#[test]
fn pure_floors_are_pure() {
    let pure: Vec<&str> =
        FLOORS[..PURE_FLOORS].iter().flat_map(|rooms| rooms.iter().copied()).collect();
    let broken = lines_with(&IMPURE, |source| {
        // The disk seam's real side is where the world begins; generated code is not ours.
        pure.contains(&source.room.as_str())
            && !is_test(source)
            && source.path != Path::new("src/storage/disk/real.rs")
            && source.room != "pb"
    });
    report("the world on a pure floor", &broken);
}

#[test]
fn no_word_that_gives_up() {
    let broken = lines_with(&[".unwrap()", "todo!(", "unimplemented!(", "dbg!("], |source| {
        source.path.starts_with("src") && !is_test(source)
    });
    report("a word that gives up", &broken);
}

#[test]
fn libraries_stay_in_their_room() {
    let mut broken = Vec::new();
    for (library, rooms) in ONE_ROOM {
        broken.extend(lines_with(&[library], |source| {
            source.path.starts_with("src") && !rooms.contains(&source.room.as_str())
        }));
    }
    report("a library outside its room", &broken);
}

/// Lines of code, not of comment, that hold one of the words.
fn lines_with(words: &[&str], wanted: impl Fn(&Source) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| wanted(source)) {
        for (number, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", source.path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn the_rules_see_what_they_forbid() {
    let long = ["fn long() {", "    body();", "}"];
    assert_eq!(functions(&long), [(0, 3)]);
    assert!(functions(&["// fn no()", "}"]).is_empty());
}
