//! The configuration file: etcd's YAML, turned into the flags it stands for.
//!
//! With a file, everything else on the command line and in the environment is ignored, as with
//! etcd. A key is the name of a flag, but for what stands in blocks of its own: certificates, and
//! options of sockets. Values have types: a duration is a number of nanoseconds, a list is a list.
//!
//! What is not known is remarked on and ignored, as etcd ignores it.

use yaml_rust2::{Yaml, YamlLoader};

use super::flag::{Flag, Kind};
use super::notice::Notice;
use super::refusal::Refusal;
use super::table;
use super::values::{Given, Origin, Values};

/// Flags that are lists in the file. Other lists are one text there, with commas.
const LISTS: [&str; 5] = [
    "cipher-suites",
    "client-cert-allowed-hostname",
    "log-outputs",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
];
const CERTIFICATES: [&str; 7] = [
    "auto-tls",
    "cert-file",
    "client-cert-auth",
    "client-cert-file",
    "client-key-file",
    "key-file",
    "trusted-ca-file",
];
const CLIENTS: &str = "client-transport-security";
const PEERS: &str = "peer-transport-security";
const SOCKETS: &str = "socket-options";

/// The settings in the text of a file.
pub fn read(text: &str, notices: &mut Vec<Notice>) -> Result<Values, Refusal> {
    let documents = YamlLoader::load_from_str(text);
    let documents = documents.map_err(|error| Refusal::FileSyntax(error.to_string()))?;
    let mut values = Values::default();
    let settings = match documents.into_iter().next() {
        None | Some(Yaml::Null) => return Ok(values),
        Some(Yaml::Hash(settings)) => settings,
        Some(other) => return Err(mismatch("everything", "settings by name", &other)),
    };
    for (key, value) in &settings {
        let key = scalar(key).ok_or_else(|| mismatch("a key", "a text", key))?;
        match &*key {
            CLIENTS | PEERS | SOCKETS => block(&key, value, &mut values, notices)?,
            "discovery-config" if is_nothing(value) => {}
            "discovery-config" => {
                let advice = "use --initial-cluster, or --discovery-srv";
                return Err(Refusal::Later { given: key, advice });
            }
            _ => {
                let flag = table::find(&key).filter(|flag| !stands_in_a_block(flag.name));
                take(flag, &key, value, &mut values, notices)?;
            }
        }
    }
    Ok(values)
}

/// Whether a flag is none of the file's keys.
fn stands_in_a_block(name: &str) -> bool {
    let name = name.strip_prefix("peer-").unwrap_or(name);
    let others = ["client-crl-file", "crl-file", "config-file", "skip-client-san-verification"];
    let others = others.contains(&name) || name.contains("cert-allowed-");
    CERTIFICATES.contains(&name) || others || name.starts_with("socket-reuse-")
}

/// Takes what stands under a key of its own.
fn block(
    name: &str,
    value: &Yaml,
    values: &mut Values,
    notices: &mut Vec<Notice>,
) -> Result<(), Refusal> {
    let settings = match value {
        Yaml::Null => return Ok(()),
        Yaml::Hash(settings) => settings,
        other => return Err(mismatch(name, "a block of settings", other)),
    };
    for (key, value) in settings {
        let key = scalar(key).ok_or_else(|| mismatch(name, "a block of settings", key))?;
        let whole = format!("{name}.{key}");
        match (name, &*key) {
            (CLIENTS, "allowed-cn") if is_nothing(value) => {}
            (CLIENTS, "allowed-cn") => {
                let advice = "let the CA of trusted-ca-file sign only the clients you allow";
                return Err(Refusal::Later { given: whole, advice });
            }
            _ => take(flag_in(name, &key), &whole, value, values, notices)?,
        }
    }
    Ok(())
}

/// The flag that a key of a block stands for.
fn flag_in(block: &str, key: &str) -> Option<&'static Flag> {
    let name = match (block, key) {
        (SOCKETS, key) => format!("socket-{key}"),
        (CLIENTS, key) if CERTIFICATES.contains(&key) => key.to_owned(),
        (CLIENTS, "allowed-hostname") => "client-cert-allowed-hostname".to_owned(),
        (PEERS, "allowed-cn" | "allowed-hostname") => format!("peer-cert-{key}"),
        (PEERS, key) if CERTIFICATES.contains(&key) => format!("peer-{key}"),
        (PEERS, "skip-client-san-verification") => format!("peer-{key}"),
        _ => return None,
    };
    table::find(&name)
}

/// Adds one setting. What is empty leaves the default.
fn take(
    flag: Option<&'static Flag>,
    key: &str,
    value: &Yaml,
    values: &mut Values,
    notices: &mut Vec<Notice>,
) -> Result<(), Refusal> {
    let Some(flag) = flag else {
        notices.push(Notice::UnknownKey(key.to_owned()));
        return Ok(());
    };
    if matches!(value, Yaml::Null) {
        return Ok(());
    }
    let text = text(flag, key, value)?;
    let bad = |why| Refusal::BadKey { key: key.to_owned(), value: text.clone(), why };
    flag.check(&text).map_err(bad)?;
    values.insert(Given { flag, text, origin: Origin::File });
    Ok(())
}

/// A value in the spelling of the command line.
fn text(flag: &Flag, key: &str, value: &Yaml) -> Result<String, Refusal> {
    let text = match (flag.kind, value) {
        (Kind::Bool | Kind::Dropped, value) => bool(value).map(|on| on.to_string()),
        (Kind::Signed | Kind::Unsigned | Kind::Unsigned32, Yaml::Integer(number)) => {
            Some(number.to_string())
        }
        (Kind::Duration, Yaml::Integer(nanos)) => Some(format!("{nanos}ns")),
        (Kind::Signed | Kind::Unsigned | Kind::Unsigned32 | Kind::Duration, _) => None,
        (_, Yaml::Array(list)) if LISTS.contains(&flag.name) => {
            let words: Option<Vec<String>> = list.iter().map(scalar).collect();
            words.map(|words| words.join(","))
        }
        (_, _) if LISTS.contains(&flag.name) => None,
        (_, value) => scalar(value),
    };
    text.ok_or_else(|| mismatch(key, wanted(flag), value))
}

/// True or false, in the words of YAML 1.1 that etcd reads.
fn bool(value: &Yaml) -> Option<bool> {
    match value {
        Yaml::Boolean(on) => Some(*on),
        Yaml::String(word) => match &*word.to_ascii_lowercase() {
            "y" | "yes" | "on" => Some(true),
            "n" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A single value as a text: where a text is wanted, a number is one.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(on) => Some(on.to_string()),
        _ => None,
    }
}

fn is_nothing(value: &Yaml) -> bool {
    match value {
        Yaml::Null => true,
        Yaml::Hash(settings) => settings.iter().all(|(_, value)| is_nothing(value)),
        Yaml::Array(list) => list.is_empty(),
        Yaml::String(text) => text.is_empty(),
        Yaml::Boolean(on) => !on,
        Yaml::Integer(number) => *number == 0,
        _ => false,
    }
}

fn mismatch(key: &str, wanted: &'static str, found: &Yaml) -> Refusal {
    let found = match found {
        Yaml::String(text) => format!("the text {text:?}"),
        Yaml::Integer(_) | Yaml::Real(_) => {
            format!("the number {}", scalar(found).unwrap_or_default())
        }
        Yaml::Boolean(on) => on.to_string(),
        Yaml::Array(_) => "a list".to_owned(),
        Yaml::Hash(_) => "a block of settings".to_owned(),
        Yaml::Null | Yaml::Alias(_) | Yaml::BadValue => "nothing".to_owned(),
    };
    Refusal::FileType { key: key.to_owned(), wanted, found }
}

fn wanted(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Bool | Kind::Dropped => "true or false",
        Kind::Signed | Kind::Unsigned | Kind::Unsigned32 => "a whole number",
        Kind::Duration => "a number of nanoseconds",
        _ if LISTS.contains(&flag.name) => "a list",
        _ => "a text",
    }
}
