//! `--auto-compaction-mode` and `--auto-compaction-retention`: one number, two meanings.
//!
//! | mode | retention | keeps |
//! |---|---|---|
//! | any | `0`, or nothing | everything |
//! | periodic | `5` | five hours |
//! | periodic | `30m` | thirty minutes |
//! | revision | `1000` | a thousand revisions |
//!
//! etcd takes three texts more, in ways nobody can want, which are refused here: a negative
//! duration, so many hours that they overflow, and a duration in revision mode, where etcd counts
//! its nanoseconds as revisions.

use std::time::Duration;

use super::AutoCompaction;
use super::duration::{self, DurationError};
use super::refusal::Refusal;

/// What the two texts mean together.
pub fn parse(mode: &str, retention: &str) -> Result<AutoCompaction, Refusal> {
    let periodic = match mode {
        "" => return Err(Refusal::NoCompactionMode),
        "periodic" => true,
        "revision" => false,
        other => return Err(Refusal::CompactionMode(other.to_owned())),
    };
    match retention.parse::<i64>() {
        _ if retention.is_empty() => Ok(AutoCompaction::Off),
        Ok(0) => Ok(AutoCompaction::Off),
        Ok(count) if count > 0 && periodic => hours(count, retention),
        Ok(count) if count > 0 => Ok(AutoCompaction::Revision(count)),
        Ok(_) | Err(_) => time(periodic, retention),
    }
}

fn hours(count: i64, text: &str) -> Result<AutoCompaction, Refusal> {
    // The longest time that fits etcd's nanoseconds, some 292 years.
    let nanos = count.checked_mul(3_600_000_000_000);
    let nanos = nanos.ok_or_else(|| Refusal::LongRetention(text.to_owned()))?;
    Ok(AutoCompaction::Periodic(duration::from_nanos(nanos)))
}

fn time(periodic: bool, text: &str) -> Result<AutoCompaction, Refusal> {
    let nanos = duration::parse(text).map_err(|error: DurationError| Refusal::Retention(error))?;
    if !periodic {
        return Err(Refusal::RevisionRetention(text.to_owned()));
    }
    match u64::try_from(nanos) {
        Err(_) => {
            Err(Refusal::Negative { flag: "auto-compaction-retention", value: text.to_owned() })
        }
        Ok(0) => Ok(AutoCompaction::Off),
        Ok(nanos) => Ok(AutoCompaction::Periodic(Duration::from_nanos(nanos))),
    }
}
