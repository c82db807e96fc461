//! The marks that seeds have come by, counted.

use std::fmt;
use std::path::Path;

use kvorum::sim::Mark;

/// By how many seeds each mark was met.
pub struct Tally(Vec<u64>);

impl Default for Tally {
    fn default() -> Self {
        Self(vec![0; Mark::ALL.len()])
    }
}

impl Tally {
    /// Counts what one seed has met, as bits.
    pub fn add(&mut self, met: u128) {
        for (place, count) in self.0.iter_mut().enumerate() {
            *count += (met >> place & 1) as u64;
        }
    }

    pub fn missed(&self) -> Vec<Mark> {
        let missed = Mark::ALL.iter().zip(&self.0).filter(|(_, count)| **count == 0);
        missed.map(|(mark, _)| *mark).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missed, all) = (self.missed(), Mark::ALL.len());
        write!(out, "marks: {} of {all}; not met: {missed:?}; seldom:", all - missed.len())?;
        let mut seldom: Vec<_> = self.0.iter().zip(Mark::ALL).collect();
        seldom.sort();
        let seldom = seldom.into_iter().filter(|(count, _)| **count > 0).take(12);
        seldom.into_iter().try_for_each(|(count, mark)| write!(out, " {mark:?} {count}"))
    }
}

/// A mark that stands nowhere could not be met.
#[test]
fn every_mark_stands_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    ["src", "tests/sim"].into_iter().for_each(|dir| read_all(&root.join(dir), &mut text));
    let is_placed = |mark: &Mark| {
        let name = format!("Mark::{mark:?}");
        let whole = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric());
        text.match_indices(&name).any(|(at, _)| whole(&text[at + name.len()..]))
    };
    let absent: Vec<_> = Mark::ALL.iter().filter(|mark| !is_placed(mark)).collect();
    assert!(absent.is_empty(), "marks that stand nowhere: {absent:?}");
}

fn read_all(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source is text"));
        }
    }
}
