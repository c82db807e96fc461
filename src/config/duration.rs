//! Durations as etcd's flags take them and its log prints them: `1h30m`, `1.5s`, `300ms`.
//!
//! A duration is whole nanoseconds in an `i64`, negative ones included: whether a flag may be
//! negative is a question for `checks`.

use std::fmt::Write as _;
use std::time::Duration;

/// Why a text is not a duration. The words are those operators know from etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

const SECOND: i64 = 1_000_000_000;
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Nanoseconds of a text such as `-1h2m3.5s`; a bare `0` needs no unit.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        let too_long = !whole.is_empty() && whole.parse::<i64>().is_err();
        if too_long || (whole.is_empty() && fraction.is_empty()) {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let Some(&(_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(DurationError::UnknownUnit { unit: unit.into(), text: text.into() });
        };
        total += amount(whole, fraction, scale).ok_or_else(invalid)?;
        if total > i128::from(i64::MAX) + 1 {
            return Err(invalid());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `whole.fraction` times `scale`, cut to whole nanoseconds.
fn amount(whole: &str, fraction: &str, scale: i64) -> Option<i128> {
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Beyond eighteen digits a fraction is far below a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let parts: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let divisor = 10i128.pow(fraction.len() as u32);
    Some(i128::from(whole) * i128::from(scale) + parts * i128::from(scale) / divisor)
}

/// A duration that is not negative; negative ones become zero.
pub fn from_nanos(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// A duration in etcd's spelling: `1h30m0s`, `2s`, `1.5ms`.
pub fn print(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let second = SECOND as u128;
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < second {
        let (unit, scale) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{}{unit}", decimal(nanos, scale));
    }
    let (hours, minutes) = (nanos / (3600 * second), nanos / (60 * second) % 60);
    let mut out = String::new();
    if hours > 0 {
        let _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(out, "{minutes}m");
    }
    let _ = write!(out, "{}s", decimal(nanos % (60 * second), second));
    out
}

/// `nanos / scale` with as many decimals as it has.
fn decimal(nanos: u128, scale: u128) -> String {
    let digits = scale.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanos / scale, nanos % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
