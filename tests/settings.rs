//! Every setting is read: a field of `Config` that nothing looks at would be a promise not kept.

use std::collections::BTreeMap;
use std::path::Path;

use crate::tidy::sources;

/// Fields that only `src/config` knows, and why.
const UNREAD: [(&str, &str); 1] = [("snapshot_count", "docs/differences.md argues it")];

#[test]
fn every_setting_is_read_or_named_here() {
    let sources = sources("src");
    let config = sources.iter().find(|source| source.path.ends_with("src/config/mod.rs"));
    let config = &config.expect("the configuration is there").text;
    let (_, fields) = config.split_once("pub struct Config {").expect("the configuration is there");
    let (fields, _) = fields.split_once("\n}").expect("it ends");
    let fields = fields.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let mut uses: BTreeMap<&str, usize> =
        fields.filter_map(|field| field.split_once(':')).map(|(name, _)| (name, 0)).collect();
    assert!(uses.len() > 30, "the fields are found: {uses:?}");

    let is_test = |path: &Path| path.components().any(|part| part.as_os_str() == "tests");
    for source in sources.iter().filter(|source| source.room != "config") {
        if is_test(&source.path.with_extension("")) {
            continue;
        }
        for (name, count) in &mut uses {
            *count += mentions(&source.text, &format!("config.{name}"));
        }
    }
    let unread: Vec<&str> =
        uses.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    assert_eq!(unread, UNREAD.map(|(name, _)| name));
}

/// How often `text` has the words, not as the beginning of a longer one.
fn mentions(text: &str, words: &str) -> usize {
    let follows = |rest: &str| rest.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(words).filter(|(at, _)| !follows(&text[at + words.len()..])).count()
}
