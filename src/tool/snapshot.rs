//! `snapshot status`: what is in a snapshot file, as `etcdutl` 3.7 says it, byte for byte.
//!
//! The file is checked whole, as etcdutl does, but a damaged one is refused with a sentence where
//! etcdutl may be killed by a fault in its memory mapping. The hash at the end of the file is not
//! checked, for status takes any `db` file; `import::read_snapshot` does that.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use prost::Message as _;
use serde::Serialize;

use super::import::go_error;
use super::rewrite::RowKey;
use crate::bolt::{Error, Item, ReadAt, Reader};
use crate::pb::KeyValue;
use crate::storage::engine::Table;

/// What a snapshot holds. The JSON form is etcdutl's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// CRC-32C over bucket names, keys and values in order.
    pub hash: u32,
    /// The newest revision.
    pub revision: i64,
    /// Keys that are alive at it.
    #[serde(rename = "totalKey")]
    pub total_keys: u64,
    /// Bytes up to the end of the last page, so without the hash of a saved snapshot.
    #[serde(rename = "totalSize")]
    pub total_size_bytes: u64,
    /// The storage version; empty before etcd 3.6.
    pub version: String,
}

/// How to show a [`Status`], by the words of `--write-out`. etcdutl has no `protobuf` for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    Json,
    Table,
    Fields,
}

/// Reads and checks the file at `path`.
pub fn status(path: &Path) -> Result<Status> {
    let file = File::open(path).map_err(|error| go_error("stat", path, &error))?;
    read_status(&file)
}

/// Reads and checks a file.
pub(super) fn read_status(file: &dyn ReadAt) -> Result<Status> {
    let reader = Reader::open(file)?;
    let mut tally = Tally::default();
    let mut walk = reader.walk();
    for item in &mut walk {
        match item.map_err(integrity)? {
            Item::Bucket(name) => tally.bucket(name),
            Item::Row { key, value } => tally.row(&key, value)?,
        }
    }
    walk.finish().map_err(integrity)?;
    Ok(Status {
        hash: tally.hash,
        revision: tally.revision,
        total_keys: tally.alive.len() as u64,
        total_size_bytes: reader.size_bytes(),
        version: tally.version,
    })
}

/// A damaged page, in the words etcdutl has for a failed check. What it is about is in the words
/// already, so it is no source.
#[derive(Debug, thiserror::Error)]
#[error("snapshot file integrity check failed. 1 errors found.\n{0}")]
pub(super) struct NotSound(pub Error);

fn integrity(error: Error) -> anyhow::Error {
    match error {
        damage @ Error::Damaged { .. } => NotSound(damage).into(),
        other => other.into(),
    }
}

/// The status so far.
#[derive(Default)]
struct Tally {
    bucket: Bytes,
    hash: u32,
    revision: i64,
    version: String,
    /// Copies, for a slice would keep its whole page in memory.
    alive: HashSet<Box<[u8]>>,
}

impl Tally {
    fn bucket(&mut self, name: Bytes) {
        self.hash = crc32c::crc32c_append(self.hash, &name);
        self.bucket = name;
    }

    fn row(&mut self, key: &[u8], value: Bytes) -> Result<()> {
        self.hash = crc32c::crc32c_append(self.hash, key);
        self.hash = crc32c::crc32c_append(self.hash, &value);
        if self.bucket == Table::Key.name() {
            self.key_row(key, value).context("error during bucket key iteration, name: \"key\"")?;
        } else if self.bucket == Table::Meta.name() && key == b"storageVersion" {
            self.version = canonical_version(&value).unwrap_or_default();
        }
        Ok(())
    }

    fn key_row(&mut self, key: &[u8], value: Bytes) -> Result<()> {
        let Some(row) = RowKey::decode(key) else {
            bail!("cannot parse revision key: {:?}", Bytes::copy_from_slice(key));
        };
        self.revision = row.main;
        // A restore with --bump-revision leaves a row without a value: it counts as the key "".
        let kv = KeyValue::decode(value).context("cannot unmarshal value")?;
        if row.is_tombstone {
            self.alive.remove(&kv.key[..]);
        } else if !self.alive.contains(&kv.key[..]) {
            self.alive.insert(kv.key.to_vec().into());
        }
        Ok(())
    }
}

impl Status {
    /// What etcdutl prints, final newline included.
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Simple => format!("{}\n", self.cells().join(", ")),
            Format::Json => {
                let json = serde_json::to_string(self);
                format!("{}\n", json.expect("numbers and a string are always JSON"))
            }
            Format::Table => self.table(),
            Format::Fields => {
                let Self { hash, revision, total_keys, total_size_bytes, version } = self;
                format!(
                    "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_keys}\n\
                     \"Size\" : {total_size_bytes}\n\"Version\" : {version}\n"
                )
            }
        }
    }

    fn cells(&self) -> [String; 5] {
        [
            format!("{:x}", self.hash),
            self.revision.to_string(),
            self.total_keys.to_string(),
            humanize(self.total_size_bytes),
            self.version.clone(),
        ]
    }

    fn table(&self) -> String {
        let titles = ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"];
        let cells = self.cells();
        let widths: Vec<usize> =
            titles.iter().zip(&cells).map(|(title, cell)| title.len().max(cell.len())).collect();
        let rule = |left: &str, middle: &str, right: &str| {
            let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
            format!("{left}{}{right}\n", bars.join(middle))
        };
        let mut out = rule("┌", "┬", "┐");
        for (title, width) in titles.iter().zip(&widths) {
            let _ = write!(out, "│ {title:^width$} ");
        }
        out += "│\n";
        out += &rule("├", "┼", "┤");
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(out, "│ {cell:>width$} ");
        }
        out += "│\n";
        out + &rule("└", "┴", "┘")
    }
}

/// A size as etcd's tools print it: powers of a thousand, one decimal below ten.
pub(super) fn humanize(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let power = ((bytes as f64).ln() / 1000f64.ln()).floor();
    let value = bytes as f64 / 1000f64.powf(power);
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let unit = units[power as usize];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A version as etcd's semver type prints it after reading `text`; nothing if it cannot.
pub(super) fn canonical_version(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (text, pre) = text.split_once('-').unwrap_or((text, ""));
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_letter);
    let is_identifier = |text: &str| text.is_empty() || text.split('.').all(is_word);
    if !is_identifier(metadata) || !is_identifier(pre) {
        return None;
    }
    let mut numbers = text.splitn(3, '.').map(str::parse::<i64>);
    let mut number = || numbers.next()?.ok();
    let mut out = format!("{}.{}.{}", number()?, number()?, number()?);
    for (mark, part) in [('-', pre), ('+', metadata)] {
        if !part.is_empty() {
            out.push(mark);
            out += part;
        }
    }
    Some(out)
}
