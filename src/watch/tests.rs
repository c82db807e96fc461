//! The hub, by script and against its model.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

use bytes::Bytes;
use goldenscript::{Argument, Command, Context};
use proptest::prelude::*;

use crate::pb;

use super::delivery::StreamId;
use super::intervals::{Intervals, Reach};
use super::limits::Limits;
use super::world::{World, exercise};

/// Runs `testscripts/*`. What the hub hands out is printed as `s<stream>/w<watch id> @<header>`.
///
/// - `limits <name>=<n>...`: before anything else.
/// - `open`, `close <s>`: streams, numbered from 1.
/// - `create <s> <key> [<range end>] [start= id= filters=] [prev] [progress] [fragment]`
/// - `refuse <s> <reason>`, `cancel <s> <id>`, `ask <s>`: the last is a progress request.
/// - `put <key>=<value>... <deleted key>...`: one revision, applied and told.
/// - `write ...`: the same, applied only. `tell`: the hub hears of one more thing.
/// - `compact <revision>`, `restore <key>=<value>...`: applied only.
/// - `load`: the oldest job is read; `page`: the oldest page read is returned.
/// - `read <s> [<n>]`: the reader takes n responses, or all.
/// - `pass <ms>`: time goes by. `counts`: how many are behind. `rest`: everything settles.
struct Script {
    world: World,
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        if command.name == "limits" {
            self.world = World::new(limits(&command.args)?);
        }
        self.world.journal = Some(Vec::new());
        let said = self.act(command)?;
        let mut lines = self.world.journal.take().expect("it was put there");
        lines.extend(said);
        Ok(lines.join("\n"))
    }
}

impl Script {
    fn act(&mut self, command: &Command) -> Result<Option<String>, Box<dyn Error>> {
        let world = &mut self.world;
        let mut args = command.consume_args();
        match command.name.as_str() {
            "limits" => {}
            "open" => return Ok(Some(format!("s{}", world.open().0))),
            "close" => world.close(stream(args.next_pos())?),
            "create" => self.create(command)?,
            "refuse" => {
                let stream = stream(args.next_pos())?;
                world.refuse(stream, args.next_pos().ok_or("no reason")?);
            }
            "cancel" => {
                let stream = stream(args.next_pos())?;
                world.cancel(stream, args.next_pos().ok_or("no id")?.parse()?);
            }
            "ask" => world.ask_progress(stream(args.next_pos())?),
            "put" => {
                world.write(&operations(&command.args));
                world.tell();
            }
            "write" => world.write(&operations(&command.args)),
            "tell" => {
                world.tell();
            }
            "compact" => world.compact(args.next_pos().ok_or("no revision")?.parse()?),
            "restore" => world.restore(&operations(&command.args)),
            "load" => {
                world.read_history(0);
            }
            "page" => {
                world.return_page(0);
            }
            "read" => {
                let stream = stream(args.next_pos())?;
                let wanted = args.next_pos().map_or(Ok(usize::MAX), str::parse)?;
                let read = (0..wanted).map_while(|_| world.read(stream)).count();
                world.journal.as_mut().expect("it was put there").push(format!("{read} read"));
            }
            "pass" => world.pass(args.next_pos().ok_or("no time")?.parse()?),
            "counts" => {
                let counts = world.hub.counts();
                return Ok(Some(format!("{} watchers, {} behind", counts.watchers, counts.slow)));
            }
            "rest" => world.rest(),
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(None)
    }

    fn create(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        let mut args = command.consume_args();
        let stream = stream(args.next_pos())?;
        let key = unescape(args.next_pos().ok_or("no key")?);
        let mut request = pb::WatchCreateRequest { key, ..Default::default() };
        request.start_revision = args.take_key("start").map_or(Ok(0), str::parse)?;
        request.watch_id = args.take_key("id").map_or(Ok(0), str::parse)?;
        for filter in args.take_key("filters").unwrap_or("").split_terminator(',') {
            let filter = pb::watch_create_request::FilterType::from_str_name(filter);
            request.filters.push(filter.ok_or("no such filter")?.into());
        }
        while let Some(word) = args.next_pos() {
            match word {
                "prev" => request.prev_kv = true,
                "progress" => request.progress_notify = true,
                "fragment" => request.fragment = true,
                range_end => request.range_end = unescape(range_end),
            }
        }
        args.reject_next()?;
        self.world.create(stream, request);
        Ok(())
    }
}

fn stream(word: Option<&str>) -> Result<StreamId, Box<dyn Error>> {
    let number = word.and_then(|word| word.strip_prefix('s')).ok_or("no stream")?;
    Ok(StreamId(number.parse()?))
}

/// A single zero byte is written `0`.
fn unescape(word: &str) -> Bytes {
    if word == "0" { Bytes::from_static(b"\0") } else { Bytes::from(word.to_owned()) }
}

fn operations(args: &[Argument]) -> Vec<(Bytes, Option<Bytes>)> {
    let operation = |arg: &Argument| match arg.clone() {
        Argument::KeyValue(key, value) => (key.into(), Some(value.into())),
        Argument::Positional(key) => (key.into(), None),
        other => panic!("unexpected argument {other}"),
    };
    args.iter().map(operation).collect()
}

fn limits(args: &[Argument]) -> Result<Limits, Box<dyn Error>> {
    let mut limits = Limits::default();
    for arg in args {
        let Argument::KeyValue(name, value) = arg else { return Err("limits are named".into()) };
        let limit = match name.as_str() {
            "stream_responses" => &mut limits.stream_responses,
            "stream_bytes" => &mut limits.stream_bytes,
            "page_revisions" => &mut limits.page_revisions,
            "recent_revisions" => &mut limits.recent_revisions,
            "fragment_bytes" => &mut limits.fragment_bytes,
            "jobs" => &mut limits.jobs,
            "job_watchers" => &mut limits.job_watchers,
            other => return Err(format!("unknown limit {other}").into()),
        };
        *limit = value.parse()?;
    }
    Ok(limits)
}

#[test]
fn scripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/watch/testscripts");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("the scripts are there")
        .map(|entry| entry.expect("the directory can be read").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let mut script = Script { world: World::new(Limits::default()) };
        goldenscript::run(&mut script, &path).expect("the script runs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The nine guarantees hold whatever the order of events. See `model::Client`.
    #[test]
    fn guarantees(steps in prop::collection::vec(any::<[u8; 4]>(), 0..300)) {
        exercise(&steps.concat());
    }

    /// The tree finds what a look at every range finds, and stays balanced.
    #[test]
    fn intervals(steps in prop::collection::vec((any::<bool>(), 0..12u8, 0..14u8), 0..200)) {
        let mut tree = Intervals::default();
        let mut naive: BTreeMap<u32, (Bytes, Reach)> = BTreeMap::new();
        for (number, (add, start, end)) in (0u32..).zip(steps) {
            if add {
                let start = Bytes::from(vec![start]);
                let end = if end > 12 { Reach::Open } else { Reach::Before(vec![end].into()) };
                tree.insert(&start, &end, number);
                naive.insert(number, (start, end));
            } else if let Some((number, (start, end))) = naive.pop_first() {
                tree.remove(&start, &end, number);
            }
            let distinct: BTreeSet<_> = naive.values().cloned().collect();
            prop_assert_eq!(tree.checked_len(), distinct.len());
        }
        for key in 0..14u8 {
            let mut found = Vec::new();
            tree.around(&[key], &mut |number| found.push(number));
            found.sort_unstable();
            let covers = |(start, end): &(Bytes, Reach)| {
                start[..] <= [key][..] && *end > Reach::Before(vec![key].into())
            };
            let expected: Vec<u32> =
                naive.iter().filter(|(_, range)| covers(range)).map(|(n, _)| *n).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
