//! Histories as lines of a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Compaction, Ended, Event, Heard, History, LeaseOp, Op, Watch};

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Op(Op),
    Log(Event),
    Watch(Watch),
    Heard(Heard),
    Until { watch: u64, revision: i64 },
    Compact(Compaction),
    Lease(LeaseOp),
    Ended(Ended),
    Calm(u64),
}

/// Reads a file of lines.
pub fn read(path: &Path) -> io::Result<History> {
    parse(BufReader::with_capacity(1 << 20, File::open(path)?))
}

/// Reads lines.
pub fn parse(mut lines: impl BufRead) -> io::Result<History> {
    let mut history = History::default();
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut text = String::new();
    let mut number = 0;
    loop {
        text.clear();
        number += 1;
        if lines.read_line(&mut text)? == 0 {
            return Ok(history);
        }
        let wrong = |what: String| io::Error::other(format!("line {number}: {what}"));
        let place = |watch: &u64| {
            places.get(watch).copied().ok_or_else(|| wrong(format!("no watch {watch} yet")))
        };
        match serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))? {
            Line::Op(op) => history.ops.push(op),
            Line::Log(event) => history.log.push(event),
            Line::Heard(heard) => {
                let place = place(&heard.watch)?;
                history.watches[place].heard.push(heard);
            }
            Line::Compact(compaction) => history.compactions.push(compaction),
            Line::Lease(op) => history.leases.push(op),
            Line::Ended(ended) => history.ended.push(ended),
            Line::Calm(at) => history.calm = Some(at),
            Line::Until { watch, revision } => {
                let place = place(&watch)?;
                history.watches[place].until = Some(revision);
            }
            Line::Watch(watch) => {
                if places.insert(watch.id, history.watches.len()).is_some() {
                    return Err(wrong(format!("watch {} again", watch.id)));
                }
                history.watches.push(watch);
            }
        }
    }
}

/// Writes what [`parse`] reads.
pub fn write(history: &History, out: &mut impl io::Write) -> io::Result<()> {
    let mut line = |line: &Line| {
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")
    };
    for watch in &history.watches {
        line(&Line::Watch(watch.clone()))?;
        for heard in &watch.heard {
            line(&Line::Heard(heard.clone()))?;
        }
        if let Some(revision) = watch.until {
            line(&Line::Until { watch: watch.id, revision })?;
        }
    }
    history.compactions.iter().try_for_each(|one| line(&Line::Compact(one.clone())))?;
    history.leases.iter().try_for_each(|op| line(&Line::Lease(op.clone())))?;
    history.ended.iter().try_for_each(|ended| line(&Line::Ended(ended.clone())))?;
    history.calm.map_or(Ok(()), |at| line(&Line::Calm(at)))?;
    history.ops.iter().try_for_each(|op| line(&Line::Op(op.clone())))?;
    history.log.iter().try_for_each(|event| line(&Line::Log(event.clone())))
}
