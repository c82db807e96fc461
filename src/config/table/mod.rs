//! Every flag kvorum knows, by group. The one list behind parsing, environment, `--help` and the
//! rule that nothing an operator writes is dropped in silence.
//!
//! - All flags of etcd 3.7 are here, those its help shows and those it only reads; so are the older
//!   names that manifests still carry. `tests` compares the list with etcd's own help.
//! - A flag that is not built yet is here too: it is refused by name, with advice.

mod clustering;
mod legacy;
mod member;
mod observing;
mod security;

use super::flag::{Flag, Kind, Status};

/// Flags that belong together in the help.
pub struct Group {
    pub title: &'static str,
    pub flags: &'static [Flag],
}

/// The groups, in the order of the help.
pub static GROUPS: [Group; 12] = [
    Group { title: "Member", flags: &member::MEMBER },
    Group { title: "kvorum", flags: &member::OWN },
    Group { title: "Clustering", flags: &clustering::CLUSTERING },
    Group { title: "Clustering", flags: &clustering::DISCOVERY },
    Group { title: "Security", flags: &security::SECURITY },
    Group { title: "Auth", flags: &security::AUTH },
    Group { title: "Profiling and Monitoring", flags: &observing::MONITORING },
    Group { title: "Logging", flags: &observing::LOGGING },
    Group { title: "Distributed tracing", flags: &observing::TRACING },
    Group { title: "Features", flags: &member::FEATURES },
    Group { title: "Unsafe features", flags: &member::UNSAFE },
    Group { title: LEGACY, flags: &legacy::LEGACY },
];

/// The group whose flags the help leaves out.
pub const LEGACY: &str = "Legacy";

/// Every flag once.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    flags().find(|flag| flag.name == name)
}

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
    status: Status,
) -> Flag {
    Flag { name, kind, default, help, status }
}
