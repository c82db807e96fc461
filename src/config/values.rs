//! What was said: every value an operator gave, by flag, with where it came from.
//!
//! A value is checked against its flag when it comes in, so reading one cannot fail. Reading a flag
//! nobody gave reads its default from the table.

use std::collections::BTreeMap;

use super::duration;
use super::flag::{Flag, Kind, parse_bool};
use super::number;
use super::table;
use super::url::Url;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    CommandLine,
    Environment,
    File,
}

/// One value an operator gave.
#[derive(Clone, Debug)]
pub struct Given {
    pub flag: &'static Flag,
    pub text: String,
    pub origin: Origin,
}

impl Given {
    /// The value as the operator wrote it; a password stays out of messages.
    pub fn print(&self) -> String {
        let secret = matches!(self.flag.name, "discovery-user" | "discovery-password");
        let text = if secret { "***" } else { &*self.text };
        match self.origin {
            Origin::CommandLine => format!("--{}={text}", self.flag.name),
            Origin::Environment => format!("{}={text}", self.flag.variable()),
            Origin::File => format!("{}: {text}", self.flag.name),
        }
    }
}

/// Every value given. The last one on the command line counts.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<&'static str, Given>);

impl Values {
    pub fn insert(&mut self, given: Given) {
        debug_assert!(given.flag.check(&given.text).is_ok(), "values are checked as they come in");
        self.0.insert(given.flag.name, given);
    }

    pub fn remove(&mut self, name: &str) -> Option<Given> {
        self.0.remove(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Given> {
        self.0.values()
    }

    /// Whether anybody said anything about the flag.
    pub fn is_given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether a file says it.
    pub fn is_in_file(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|given| given.origin == Origin::File)
    }

    pub fn text(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(given) => &given.text,
            None => flag(name).default,
        }
    }

    pub fn bool(&self, name: &str) -> bool {
        self.expect_kind(name, Kind::Bool);
        parse_bool(self.text(name)).expect("the value was checked")
    }

    pub fn signed(&self, name: &str) -> i64 {
        self.expect_kind(name, Kind::Signed);
        number::signed(self.text(name)).expect("the value was checked")
    }

    pub fn unsigned(&self, name: &str) -> u64 {
        number::unsigned(self.text(name), u64::MAX).expect("the value was checked")
    }

    /// Nanoseconds, possibly negative.
    pub fn nanos(&self, name: &str) -> i64 {
        self.expect_kind(name, Kind::Duration);
        duration::parse(self.text(name)).expect("the value was checked")
    }

    /// A list of URLs. An empty text leaves the default, as with etcd.
    pub fn urls(&self, name: &str) -> Vec<Url> {
        self.expect_kind(name, Kind::Urls);
        match self.text(name) {
            "" => parse_urls(flag(name).default),
            text => parse_urls(text),
        }
    }

    /// Where web pages may come from, `*` for everywhere.
    pub fn origins(&self, name: &str) -> Vec<String> {
        self.expect_kind(name, Kind::Origins);
        self.text(name).split(',').map(str::to_owned).collect()
    }

    /// A list of words, sorted and without repetitions.
    pub fn words(&self, name: &str) -> Vec<String> {
        self.expect_kind(name, Kind::Words);
        let text = self.text(name);
        let mut words: Vec<String> = match text {
            "" => Vec::new(),
            text => text.split(',').map(|word| word.trim().to_owned()).collect(),
        };
        words.sort();
        words.dedup();
        words
    }

    fn expect_kind(&self, name: &str, kind: Kind) {
        assert_eq!(flag(name).kind, kind, "--{name} is read as what it is");
    }
}

fn parse_urls(text: &str) -> Vec<Url> {
    if text.is_empty() { Vec::new() } else { Url::parse_list(text).expect("the value was checked") }
}

fn flag(name: &str) -> &'static Flag {
    table::find(name).expect("the program reads only flags of its table")
}
