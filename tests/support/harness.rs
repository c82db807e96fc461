//! Runs the scripts of a folder, each against a server of its own, and compares or records.

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::line::Outcome;
use super::session::Runner;
use super::target::{self, Target};

/// Scripts of one folder that run at once. Most of the time they wait for a server to start.
const SCRIPTS_AT_ONCE: usize = 3;
/// Lines of a difference that are shown.
const DIFFERENCE_LINES_MAX: usize = 12;

/// Runs every script of `tests/scripts/<folder>`; `SCRIPT=text` narrows to names that contain it.
pub fn run_folder(folder: &str) {
    let outcomes = outcomes(folder);
    let failures: Vec<String> = outcomes
        .iter()
        .filter_map(|(script, failure)| {
            Some(format!("{}: {}", script.display(), failure.as_ref()?))
        })
        .collect();
    let (failed, all) = (failures.len(), outcomes.len());
    assert!(failures.is_empty(), "{failed} of {all} scripts differ:\n{}", failures.join("\n"));
}

/// How each script of a folder differs, if it does, by name.
fn outcomes(folder: &str) -> Vec<(PathBuf, Option<String>)> {
    let scripts = scripts(folder);
    let program = target::program();
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SCRIPTS_AT_ONCE {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let failure = run_script(&program, script).err();
                    let outcome = (script.clone(), failure.map(|failure| failure.to_string()));
                    outcomes.lock().expect("no holder panics").push(outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("no holder panics");
    outcomes.sort();
    outcomes
}

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let wanted = std::env::var("SCRIPT").unwrap_or_default();
    let entries = fs::read_dir(&folder).expect("the folder of scripts is there");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut scripts: Vec<PathBuf> = paths
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().contains(&wanted))
        })
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty() || !wanted.is_empty(), "{} has no scripts", folder.display());
    scripts
}

/// Runs one script; an error says how its answers differ.
fn run_script(program: &Path, script: &Path) -> Outcome<()> {
    let expected = fs::read_to_string(script)?;
    let mut runner = Runner::new(Target::start(program, &flags(&expected))?)?;
    let run = AssertUnwindSafe(|| goldenscript::generate(&mut runner, &expected));
    let actual = catch_unwind(run).map_err(|_| "it panicked")??;
    if target::recording() {
        fs::write(script, actual)?;
    } else if actual != expected {
        return Err(difference(&expected, &actual).into());
    }
    Ok(())
}

/// Flags of the server, from the comments at the head: `# flags: --one=1 --two=2`.
fn flags(script: &str) -> Vec<String> {
    let head = script.lines().take_while(|line| line.starts_with('#'));
    let flags = head.filter_map(|line| line.strip_prefix("# flags:"));
    flags.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The lines between the first difference and the last.
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) =
        (expected.lines().collect(), actual.lines().collect());
    let same = |(one, other): &(&&str, &&str)| one == other;
    let head = expected.iter().zip(&actual).take_while(same).count();
    let tail = expected[head..].iter().rev().zip(actual[head..].iter().rev());
    let tail = tail.take_while(same).count();
    let mut out = format!("from line {}", head + 1);
    for (sign, lines) in [('-', &expected), ('+', &actual)] {
        for line in lines[head..lines.len() - tail].iter().take(DIFFERENCE_LINES_MAX) {
            let _ = write!(out, "\n    {sign} {line}");
        }
    }
    out
}
