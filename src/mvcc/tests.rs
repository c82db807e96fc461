//! Golden scripts and properties of the store.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use goldenscript::Context;
use proptest::prelude::*;

use super::fuzz::fuzz_against_model;
use super::hash::HashJob;
use super::row::Fields;
use super::*;
use crate::error::Failure;
use crate::pb;
use crate::pb::range_request::{SortOrder, SortTarget};
use crate::span::Span;
use crate::storage::engine::{Engine, Table};
use crate::storage::mem::Mem;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1000),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_store_answers_as_its_oracle(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        fuzz_against_model(&bytes);
    }
}

#[test]
fn scripts() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mvcc/testscripts");
    let mut paths: Vec<_> = std::fs::read_dir(scripts)
        .expect("the scripts are there")
        .map(|entry| entry.expect("a directory can be read").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are scripts");
    for path in paths {
        goldenscript::run(&mut Script::new(), &path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// What scripts may say. Keys and values are text.
#[derive(Debug, goldenscript::Command)]
enum Command {
    /// `put a=1 b=2 [lease=7]`: one transaction, published; prints the events.
    Put(#[arg(key, many)] Vec<(String, String)>),
    /// `del a [b]`
    Del {
        key: String,
        end: Option<String>,
    },
    /// `txn "put a 1" "del b" "get a"`: one transaction, published; `lease` as a fourth word.
    Txn(Vec<String>),
    /// `range a [b] [rev=] [limit=] [order=] [target=] [show=keys|count] [min_mod=] ...`
    Range {
        key: String,
        end: Option<String>,
        #[arg(key, optional)]
        rev: i64,
        #[arg(key, optional)]
        limit: i64,
        #[arg(key)]
        order: Option<String>,
        #[arg(key)]
        target: Option<String>,
        #[arg(key)]
        show: Option<String>,
        #[arg(key, optional)]
        min_mod: i64,
        #[arg(key, optional)]
        max_mod: i64,
        #[arg(key, optional)]
        min_create: i64,
        #[arg(key, optional)]
        max_create: i64,
    },
    /// `pages a [b] [size=] [limit=]`: keys of each page.
    Pages {
        key: String,
        end: Option<String>,
        #[arg(key, optional)]
        size: usize,
        #[arg(key, optional)]
        limit: i64,
    },
    /// `fill prefix count`: puts prefix000.. one by one; prints nothing.
    Fill(String, i64),
    /// `history from [max=]`
    History {
        from: i64,
        #[arg(key)]
        max: Option<usize>,
    },
    /// `lose revision [sub]`: the engine does not show a row any more.
    Lose(i64, Option<u32>),
    /// `previous key revision`
    Previous(String, i64),
    /// `compact revision`: accepts and publishes.
    Compact(i64),
    /// `step [budget]`
    Step(Option<usize>),
    /// `job`: takes the job of the newest compaction; `run` runs it.
    Job,
    Run,
    /// `hash [revision]`
    Hash(Option<i64>),
    /// `hashes`: those of compactions by which members can be compared.
    Hashes,
    /// `checkpoint`: moves everything to the engine.
    Checkpoint,
    /// `restart`: opens what the engine holds, losing the rest.
    Restart,
    /// `rows`: what the engine holds.
    Rows,
    /// `status`
    Status,
}

struct Script {
    engine: Mem,
    store: Store,
    reader: Reader,
    jobs: VecDeque<HashJob>,
}

impl Script {
    fn new() -> Self {
        let engine = Mem::new();
        let store = Store::open(Arc::new(engine.clone())).expect("an empty engine opens");
        let reader = store.reader();
        Self { engine, store, reader, jobs: VecDeque::new() }
    }

    fn lose(&self, revision: Revision) -> Result<String, Box<dyn Error>> {
        self.engine.lose(Table::Key, &revision.row_key(false));
        Ok(String::new())
    }

    fn txn(&mut self, ops: &[String]) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        let mut txn = self.store.begin();
        for op in ops {
            let words: Vec<Bytes> = op.split(' ').map(bytes).collect();
            let word = |at: usize| words.get(at).cloned().unwrap_or_default();
            match &words[0][..] {
                b"put" => {
                    let lease = op.split(' ').nth(3).map_or(Ok(0), str::parse)?;
                    txn.put(&word(1), &word(2), lease);
                }
                b"del" => {
                    let deleted = txn.delete_range(&Span::new(word(1), word(2)));
                    writeln!(out, "deleted {deleted}")?;
                }
                b"get" => {
                    let request =
                        pb::RangeRequest { key: word(1), range_end: word(2), ..Default::default() };
                    out += &response(&txn.state().range(&request)?)?;
                }
                _ => return Err("an operation is put, del or get".into()),
            }
        }
        let changes = txn.end();
        self.store.publish();
        out += &events(&changes.events)?;
        writeln!(out, "at {}", changes.revision)?;
        Ok(out)
    }

    fn checkpoint(&mut self) -> Result<(), Box<dyn Error>> {
        let batch = self.store.take_writes();
        let mut writes = Vec::new();
        batch.writes(&mut writes);
        self.engine.commit(&writes)?;
        self.reader.checkpointed(batch.revision());
        Ok(())
    }

    fn rows(&self) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        self.engine.view()?.scan(Table::Key, &[], None, &mut |key, row| {
            let (revision, tombstone) = Revision::from_row_key(key)?;
            let mark = if tombstone { "t" } else { "" };
            let line = format!("{}.{}{mark} {}\n", revision.main, revision.sub, show(row)?);
            out.push_str(&line);
            Ok(ControlFlow::Continue(()))
        })?;
        self.engine.view()?.scan(Table::Meta, &[], None, &mut |key, value| {
            let main = crate::storage::keys::decode_compact_revision(key, value)?;
            out.push_str(&format!("{} {main}\n", key.escape_ascii()));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(out)
    }

    fn status(&self) -> String {
        let view = self.reader.view();
        let (revision, compact, keys) = (view.revision(), view.compact_revision(), view.keys());
        let bytes = self.reader.buffered_bytes();
        format!("revision {revision} compacted {compact} keys {keys} buffered {bytes}\n")
    }

    fn pages(&self, request: &pb::RangeRequest, size: usize) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        let mut pages = self.reader.view().pages(request, size)?;
        while let Some(page) = pages.next_page()? {
            let first = page.kvs.first().map(|row| show(row)).transpose()?.unwrap_or_default();
            let (more, count) = (page.more, page.count);
            let revision = page.header.map(|header| header.revision);
            let rows = page.kvs.len();
            writeln!(out, "{rows} from {first}: more {more} count {count} at {revision:?}")?;
        }
        Ok(out)
    }

    fn history(&self, mut from: i64, max: Option<usize>) -> Result<String, Box<dyn Error>> {
        let (mut out, view) = (String::new(), self.reader.view());
        loop {
            let mut piece = Vec::new();
            let max = max.unwrap_or(usize::MAX);
            let next = view.history(from, i64::MAX, max, &mut |change| piece.push(change))?;
            out += &events(&piece)?;
            let Some(next) = next else { return Ok(out) };
            writeln!(out, "then from {next}")?;
            from = next;
        }
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        match command {
            Command::Put(pairs) => {
                let lease = pairs.iter().find(|(key, _)| key == "lease");
                let lease = lease.map_or("0", |(_, id)| id);
                let puts = pairs.iter().filter(|(key, _)| key != "lease");
                let ops: Vec<_> =
                    puts.map(|(key, value)| format!("put {key} {value} {lease}")).collect();
                self.txn(&ops)
            }
            Command::Del { key, end } => {
                self.txn(&[format!("del {key} {}", end.as_deref().unwrap_or(""))])
            }
            Command::Txn(ops) => self.txn(ops),
            Command::Range { .. } => response(&self.reader.range(&request(command)?)?),
            Command::Pages { key, end, size, limit } => {
                let (key, end) = (bytes(key), bytes(end.as_deref().unwrap_or("")));
                let request =
                    pb::RangeRequest { key, range_end: end, limit: *limit, ..Default::default() };
                self.pages(&request, *size)
            }
            Command::Fill(prefix, count) => {
                for n in 0..*count {
                    self.txn(&[format!("put {prefix}{n:03} {n}")])?;
                }
                Ok(String::new())
            }
            Command::History { from, max } => self.history(*from, *max),
            Command::Lose(main, sub) => self.lose(Revision::new(*main, sub.unwrap_or(0))),
            Command::Previous(key, revision) => {
                let row = self.reader.previous(&bytes(key), *revision)?;
                Ok(row.map(|row| show(&row)).transpose()?.unwrap_or("nothing".into()))
            }
            Command::Compact(revision) => {
                self.store.compact(*revision)?;
                self.store.publish();
                Ok(String::new())
            }
            Command::Step(budget) => {
                Ok(format!("{:?}", self.store.compact_step(budget.unwrap_or(1000))))
            }
            Command::Job => {
                self.jobs.extend(self.store.compaction_job());
                Ok(String::new())
            }
            Command::Run => {
                let job = self.jobs.pop_front().ok_or("no job was taken")?;
                Ok(hash(job.run()?))
            }
            Command::Hash(revision) => Ok(hash(self.reader.hash_kv(revision.unwrap_or(0))?)),
            Command::Hashes => Ok(self
                .reader
                .compaction_hashes()
                .into_iter()
                .map(hash)
                .collect::<Vec<_>>()
                .join("\n")),
            Command::Checkpoint => self.checkpoint().map(|()| String::new()),
            Command::Restart => {
                self.store = Store::open(Arc::new(self.engine.clone()))?;
                self.reader = self.store.reader();
                Ok(self.status())
            }
            Command::Rows => self.rows(),
            Command::Status => Ok(self.status()),
        }
    }
}

fn request(command: &Command) -> Result<pb::RangeRequest, Box<dyn Error>> {
    let Command::Range {
        key,
        end,
        rev,
        limit,
        order,
        target,
        show,
        min_mod,
        max_mod,
        min_create,
        max_create,
    } = command
    else {
        return Err("not a range".into());
    };
    let name = |name: &Option<String>| name.as_deref().unwrap_or("").to_uppercase();
    let order = SortOrder::from_str_name(&name(order)).unwrap_or_default();
    let target = SortTarget::from_str_name(&name(target)).unwrap_or_default();
    Ok(pb::RangeRequest {
        key: bytes(key),
        range_end: bytes(end.as_deref().unwrap_or("")),
        limit: *limit,
        revision: *rev,
        sort_order: order.into(),
        sort_target: target.into(),
        keys_only: show.as_deref() == Some("keys"),
        count_only: show.as_deref() == Some("count"),
        min_mod_revision: *min_mod,
        max_mod_revision: *max_mod,
        min_create_revision: *min_create,
        max_create_revision: *max_create,
        ..Default::default()
    })
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn response(response: &pb::RangeResponse) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    for row in &response.kvs {
        writeln!(out, "{}", show(row)?)?;
    }
    let more = if response.more { " and more" } else { "" };
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    writeln!(out, "count {}{more} at {revision}", response.count)?;
    Ok(out)
}

fn events(events: &[Change]) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    for Change { revision, kind, created, key: _, row } in events {
        let created = if *created { " created" } else { "" };
        let row = show(row)?;
        writeln!(out, "{}.{} {kind:?}{created} {row}", revision.main, revision.sub)?;
    }
    Ok(out)
}

fn show(row: &[u8]) -> Result<String, crate::error::Fault> {
    let Fields { key, create_revision, mod_revision, version, value, lease } = Fields::decode(row)?;
    let lease = if lease == 0 { String::new() } else { format!(" lease {lease}") };
    let (key, value) = (key.escape_ascii(), value.escape_ascii());
    Ok(format!(
        "{key}={value} created {create_revision} modified {mod_revision} version {version}{lease}"
    ))
}

fn hash(hash: HashKv) -> String {
    let HashKv { hash, compact_revision, hash_revision, revision: _ } = hash;
    format!("{hash} compacted {compact_revision} at {hash_revision}")
}

#[test]
fn a_fault_is_not_a_refusal() {
    let engine = Mem::new();
    let mut store = Store::open(Arc::new(engine.clone())).unwrap();
    let mut txn = store.begin();
    txn.put(b"key", b"value", 0);
    txn.end();
    store.publish();
    for n in 0..20 {
        let mut txn = store.begin();
        txn.put(format!("{n}").as_bytes(), b"", 0);
        txn.end();
        store.publish();
    }
    // The checkpointer says it committed what it did not.
    store.reader().checkpointed(Revision::new(20, 0));
    let request = pb::RangeRequest { key: Bytes::from_static(b"key"), ..Default::default() };
    assert!(matches!(store.reader().range(&request), Err(Failure::Fault(_))));
}
