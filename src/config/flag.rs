//! What a flag is: its name, what it takes, what it means here. The flags themselves are in
//! [`table`](super::table).

use super::duration;
use super::gates::{self, GateError};
use super::number::{self, NumberError};
use super::url::{Url, UrlError};

/// One flag of the command line, which is one `ETCD_*` variable too.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    /// What it is when nobody says anything, in the spelling of the command line.
    pub default: &'static str,
    pub help: &'static str,
    pub status: Status,
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Takes no separate argument: `--x` is true, `--x=false` is not.
    Bool,
    Signed,
    Unsigned,
    /// As `Unsigned`, up to 32 bits; etcd words its errors in another way.
    Unsigned32,
    Duration,
    Urls,
    /// URLs as a browser states where a page is from, or `*`.
    Origins,
    /// Comma-separated words; a repetition counts once.
    Words,
    Choice(&'static [&'static str]),
    Gates,
    /// etcd itself reads it and drops it; like `Bool`, it takes no separate argument.
    Dropped,
}

/// What a flag means to kvorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// What etcd's documentation says.
    Built,
    /// Nothing. Another value than the default earns a warning with this reason.
    Idle(&'static str),
    /// Only the default is taken. Another value is refused, with this advice.
    Later(&'static str),
    /// The older name of another flag.
    Renamed(&'static str),
    /// The older name of a feature gate.
    Gate(&'static str),
}

/// Why a value is not one the flag takes. The words are those operators know from etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("parse error")]
    Syntax,
    #[error("value out of range")]
    Range,
    #[error("strconv.ParseUint: parsing {0:?}: invalid syntax")]
    Unsigned32Syntax(String),
    #[error("strconv.ParseUint: parsing {0:?}: value out of range")]
    Unsigned32Range(String),
    #[error("invalid value")]
    Choice,
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Gate(#[from] GateError),
}

impl From<NumberError> for ValueError {
    fn from(error: NumberError) -> Self {
        match error {
            NumberError::Syntax => Self::Syntax,
            NumberError::Range => Self::Range,
        }
    }
}

impl Flag {
    /// The variable that says the same.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// Whether the flag may stand alone, which then means true.
    pub fn stands_alone(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Dropped)
    }

    /// Whether the flag takes `text`.
    pub fn check(&self, text: &str) -> Result<(), ValueError> {
        match self.kind {
            Kind::Text | Kind::Words | Kind::Dropped => Ok(()),
            Kind::Bool => parse_bool(text).map(drop).ok_or(ValueError::Syntax),
            Kind::Signed => Ok(number::signed(text).map(drop)?),
            Kind::Unsigned => Ok(number::unsigned(text, u64::MAX).map(drop)?),
            Kind::Unsigned32 => match number::unsigned(text, u64::from(u32::MAX)) {
                Ok(_) => Ok(()),
                Err(NumberError::Syntax) => Err(ValueError::Unsigned32Syntax(text.into())),
                Err(NumberError::Range) => Err(ValueError::Unsigned32Range(text.into())),
            },
            Kind::Duration => duration::parse(text).map(drop).map_err(|_| ValueError::Syntax),
            // An empty list leaves the flag as it was, so it is no list that could be wrong.
            Kind::Urls if text.is_empty() => Ok(()),
            Kind::Origins if text == "*" => Ok(()),
            Kind::Urls | Kind::Origins => Ok(Url::parse_list(text).map(drop)?),
            Kind::Choice(words) if words.contains(&text) => Ok(()),
            Kind::Choice(_) => Err(ValueError::Choice),
            Kind::Gates => Ok(gates::parse(text).map(drop)?),
        }
    }

    /// Whether `text`, which the flag takes, says what the default says.
    pub fn is_default(&self, text: &str) -> bool {
        match self.kind {
            Kind::Text | Kind::Origins | Kind::Words | Kind::Choice(_) | Kind::Gates => {
                text == self.default
            }
            Kind::Dropped => false,
            Kind::Bool => parse_bool(text) == parse_bool(self.default),
            Kind::Signed => number::signed(text) == number::signed(self.default),
            Kind::Unsigned | Kind::Unsigned32 => {
                number::unsigned(text, u64::MAX) == number::unsigned(self.default, u64::MAX)
            }
            Kind::Duration => duration::parse(text) == duration::parse(self.default),
            Kind::Urls => text.is_empty() || Url::parse_list(text) == Url::parse_list(self.default),
        }
    }
}

/// The spellings of true and false.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
