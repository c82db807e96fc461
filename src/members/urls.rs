//! Peer URLs compared: two lists are the same if they name the same addresses.

use std::fmt;

/// Puts an address in place of the name in a URL; gives the URL back if it has no name, or none
/// that can be looked up. It stands for DNS, which this floor does not know.
pub type Resolve<'a> = &'a dyn Fn(&str) -> String;

/// How two lists of URLs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    Length(Vec<String>, Vec<String>),
    Url(String, String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |urls: &[String]| {
            let urls: Vec<String> = urls.iter().map(|url| format!("{url:?}")).collect();
            urls.join(" ")
        };
        match self {
            Self::Length(ours, theirs) => {
                write!(f, "len([{}]) != len([{}])", quote(ours), quote(theirs))
            }
            Self::Url(ours, theirs) => write!(f, "resolved urls: {ours:?} != {theirs:?}"),
        }
    }
}

/// How two lists differ, in whatever order they are; nothing if they name the same addresses.
/// Names are looked up only if the lists differ as texts.
pub fn difference(ours: &[String], theirs: &[String], resolve: Resolve<'_>) -> Option<Difference> {
    let (ours, theirs) = (sorted(ours.to_vec()), sorted(theirs.to_vec()));
    if ours == theirs {
        return None;
    }
    if ours.len() != theirs.len() {
        return Some(Difference::Length(ours, theirs));
    }
    let addresses = |urls: Vec<String>| sorted(urls.iter().map(|url| resolve(url)).collect());
    let (ours, theirs) = (addresses(ours), addresses(theirs));
    let (ours, theirs) = ours.into_iter().zip(theirs).find(|(ours, theirs)| ours != theirs)?;
    Some(Difference::Url(ours, theirs))
}

fn sorted(mut urls: Vec<String>) -> Vec<String> {
    urls.sort();
    urls
}
