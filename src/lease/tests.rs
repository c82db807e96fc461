//! The book and the deadlines, by script and against their model.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use bytes::Bytes;
use goldenscript::{Command, Context};
use proptest::prelude::*;
use prost::Message;

use crate::limits::LEASE_EXPIRED_MAX;
use crate::pb::leasepb;
use crate::storage::engine::Write;

use super::book::{Book, clamp, minimum_ttl};
use super::deadlines::Deadlines;
use super::model::exercise;

/// Runs `testscripts/*`. One member; what is proposed is applied when the script says so.
///
/// - `grant <id> <ttl>`, `revoke <id>`, `checkpoint <id> <remaining>`: applied; prints the row.
/// - `attach <key> <id>`, `detach <key>`, `lease <id>`, `holder <key>`, `list`.
/// - `reload`: a new book from the rows written and the attachments there are.
/// - `load <key bytes in hex> <id> <ttl>`: a row, as a damaged table may have it.
/// - `promote <extend ms>`, `demote`, `pass <ms>`, `renew <id>`, `left <id>`, `order`.
/// - `tick [<max>]`: what to revoke and to checkpoint. `retry <id>`: revoking was not proposed.
/// - `grants <first> <count> <ttl>`: many; prints nothing. `expiries <ms>`: how many each tick.
/// - `minimum <election ticks> <heartbeat ms>`, `clamp <ttl> <minimum>`.
#[derive(Default)]
struct Script {
    now_ms: u64,
    book: Book,
    deadlines: Deadlines,
    rows: BTreeMap<Bytes, Bytes>,
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let words: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
        args.reject_next()?;
        let number = |index: usize| -> Result<i64, Box<dyn Error>> {
            Ok(words.get(index).ok_or("an argument is missing")?.parse()?)
        };
        match command.name.as_str() {
            "grant" => self.grant(number(0)?, number(1)?),
            "revoke" => self.revoke(number(0)?),
            "checkpoint" => {
                let (id, remaining) = (number(0)?, number(1)?);
                let Some(write) = self.book.checkpoint(id, remaining) else {
                    return Ok("nothing".into());
                };
                self.deadlines.checkpointed(id, remaining, self.now_ms);
                self.write(write)
            }
            "attach" => {
                let key = Bytes::from(words[0].to_owned());
                Ok(match self.book.attach(key, number(1)?) {
                    Ok(()) => String::new(),
                    Err(error) => error.to_string(),
                })
            }
            "detach" => {
                self.book.detach(words[0].as_bytes());
                Ok(String::new())
            }
            "lease" => Ok(self.describe(number(0)?)),
            "holder" => Ok(format!("{:?}", self.book.holder(words[0].as_bytes()))),
            "list" => {
                let ids: Vec<i64> = self.book.leases().map(|(id, _)| id).collect();
                Ok(ids.iter().map(|id| self.describe(*id)).collect::<Vec<_>>().join("\n"))
            }
            "reload" => self.reload(),
            "load" => self.load(words[0], number(1)?, number(2)?),
            "minimum" => {
                Ok(minimum_ttl(number(0)?.try_into()?, number(1)?.try_into()?).to_string())
            }
            "clamp" => Ok(clamp(number(0)?, number(1)?).to_string()),
            _ => self.time(&command.name, &words),
        }
    }
}

impl Script {
    fn time(&mut self, name: &str, words: &[&str]) -> Result<String, Box<dyn Error>> {
        let number = |index: usize| -> Result<i64, Box<dyn Error>> {
            Ok(words.get(index).ok_or("an argument is missing")?.parse()?)
        };
        let now_ms = self.now_ms;
        match name {
            "promote" => {
                self.deadlines.promote(now_ms, number(0)?.try_into()?, self.book.leases());
            }
            "demote" => self.deadlines.demote(),
            "pass" => self.now_ms += u64::try_from(number(0)?)?,
            "renew" => return Ok(format!("{:?}", self.deadlines.renewed(number(0)?, now_ms))),
            "left" => return Ok(format!("{:?}", self.deadlines.remaining(number(0)?, now_ms))),
            "order" => return Ok(format!("{:?}", self.deadlines.by_expiry())),
            "retry" => self.deadlines.retry(number(0)?, now_ms),
            "tick" => {
                let max = words.first().map_or(Ok(LEASE_EXPIRED_MAX), |word| word.parse())?;
                let expired = self.deadlines.expired(now_ms, max);
                let mut lines: Vec<String> =
                    expired.iter().map(|id| format!("revoke {id}")).collect();
                for due in self.deadlines.checkpoints(now_ms, max) {
                    lines.push(format!("checkpoint {} {}", due.id, due.remaining));
                }
                return Ok(lines.join("\n"));
            }
            "grants" => {
                for id in number(0)?..number(0)? + number(1)? {
                    self.grant(id, number(2)?)?;
                }
            }
            "expiries" => return self.expiries(number(0)?.try_into()?),
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(String::new())
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<String, Box<dyn Error>> {
        match self.book.grant(id, ttl) {
            Ok(write) => {
                self.deadlines.granted(id, ttl, self.now_ms);
                self.write(write)
            }
            Err(error) => Ok(error.to_string()),
        }
    }

    fn revoke(&mut self, id: i64) -> Result<String, Box<dyn Error>> {
        match self.book.revoke(id) {
            Ok(revoked) => {
                self.deadlines.revoked(id);
                Ok(format!("keys {:?}, {}", revoked.keys, self.write(revoked.write)?))
            }
            Err(error) => Ok(error.to_string()),
        }
    }

    /// Applies a write to the rows and says what it was.
    fn write(&mut self, write: Write) -> Result<String, Box<dyn Error>> {
        match write {
            Write::Put { table, key, value } => {
                let row = leasepb::Lease::decode(&value[..])?;
                let said = format!("put {} {key:x} {row:?}", table.name());
                self.rows.insert(key, value);
                Ok(said)
            }
            Write::Delete { table, key } => {
                self.rows.remove(&key);
                Ok(format!("delete {} {key:x}", table.name()))
            }
        }
    }

    fn describe(&self, id: i64) -> String {
        match self.book.lease(id) {
            Some(lease) => {
                format!("{id}: ttl={} left={} keys={:?}", lease.ttl, lease.remaining, lease.keys)
            }
            None => format!("{id}: none"),
        }
    }

    fn reload(&mut self) -> Result<String, Box<dyn Error>> {
        let mut book = Book::default();
        for (key, value) in &self.rows {
            book.load(key, value)?;
        }
        for (id, lease) in self.book.leases() {
            for key in &lease.keys {
                book.attach(key.clone(), id)?;
            }
        }
        self.book = book;
        Ok(String::new())
    }

    fn load(&mut self, key: &str, id: i64, ttl: i64) -> Result<String, Box<dyn Error>> {
        let row = leasepb::Lease { id, ttl, remaining_ttl: 0 };
        let key: Result<Vec<u8>, _> = key
            .as_bytes()
            .chunks(2)
            .map(|hex| u8::from_str_radix(str::from_utf8(hex)?, 16).map_err(Box::<dyn Error>::from))
            .collect();
        let loaded = self.book.load(&key?, &row.encode_to_vec());
        Ok(loaded.err().map_or_else(String::new, |fault| fault.to_string()))
    }

    /// Lets time pass in ticks, applying each revocation; how many there were in each second.
    fn expiries(&mut self, ms: u64) -> Result<String, Box<dyn Error>> {
        let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 500;
            for id in self.deadlines.expired(self.now_ms, LEASE_EXPIRED_MAX) {
                *seconds.entry((self.now_ms - 1) / 1000).or_default() += 1;
                self.revoke(id)?;
            }
        }
        Ok(format!("{seconds:?}"))
    }
}

#[test]
fn scripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lease/testscripts");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("the scripts are there")
        .map(|entry| entry.expect("the directory can be read").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        goldenscript::run(&mut Script::default(), &path).expect("the script runs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Never early, never late, the same everywhere. See `model`.
    #[test]
    fn promises(steps in prop::collection::vec(any::<[u8; 3]>(), 0..400)) {
        exercise(&steps.concat());
    }
}
