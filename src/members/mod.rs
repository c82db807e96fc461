//! The members of the cluster: who they are, where they listen, how their ids come about.
//!
//! Ids are etcd's: a founding member's is a hash of its peer URLs and the cluster token, the
//! cluster's a hash of its members'. Rows are etcd's JSON in the buckets `members` and
//! `members_removed`.
//!
//! Invariants:
//! - An id that was removed never comes back.
//! - The book changes only through the log.

mod change;
mod join;
mod quorum;
mod urls;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::{Digest, Sha1};

use crate::storage::engine::{Table, Write};

pub use change::Change;
pub use join::{JoinError, is_bootstrapped, join};
pub use quorum::Contact;
pub use urls::{Difference, Resolve, difference};

#[cfg(test)]
mod tests;

/// A member, in the form of its stored row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: u64,
    /// An update may leave a member without any; etcd then stores `null`.
    #[serde(
        rename = "peerURLs",
        default,
        serialize_with = "empty_is_null",
        deserialize_with = "null_is_empty"
    )]
    pub peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(
        rename = "clientURLs",
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
}

impl Member {
    /// A founding member; its id follows from its URLs and the token.
    pub fn founding(name: &str, mut peer_urls: Vec<String>, token: &str) -> Self {
        peer_urls.sort();
        let id = member_id(&peer_urls, token);
        Self { id, peer_urls, name: name.to_owned(), ..Self::default() }
    }

    /// Whether it counts as started where members are counted: it was founded under a name, or its
    /// process told one.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// Whether its process ever was at work: the first thing it does is to tell its client URLs.
    pub fn was_at_work(&self) -> bool {
        !self.client_urls.is_empty()
    }

    /// The row of this member in the `members` table.
    pub fn row(&self) -> Write {
        let json = serde_json::to_string(self).expect("a member has only strings and numbers");
        Write::Put { table: Table::Members, key: row_key(self.id), value: as_go(json).into() }
    }
}

/// JSON as Go writes it, which escapes what HTML or JavaScript could mistake for their own. All of
/// these stand within strings only.
fn as_go(json: String) -> String {
    let special = ['<', '>', '&', '\u{2028}', '\u{2029}'];
    if !json.contains(special) {
        return json;
    }
    let escaped = json.chars().map(|char| match special.contains(&char) {
        true => format!("\\u{:04x}", u32::from(char)),
        false => char.to_string(),
    });
    escaped.collect()
}

fn empty_is_null<S: Serializer>(list: &[String], to: S) -> Result<S::Ok, S::Error> {
    Some(list).filter(|list| !list.is_empty()).serialize(to)
}

fn null_is_empty<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_default())
}

/// The first eight bytes of SHA-1 over the sorted peer URLs and the cluster token.
pub fn member_id(sorted_peer_urls: &[String], token: &str) -> u64 {
    let mut hash = Sha1::new();
    for url in sorted_peer_urls {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    first_eight(&hash.finalize())
}

/// The first eight bytes of SHA-1 over the sorted member ids.
pub fn cluster_id(members: &[Member]) -> u64 {
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

fn first_eight(digest: &[u8]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 digest has twenty bytes"))
}

/// The key of a member's row: its id in lower-case hex, not padded.
fn row_key(id: u64) -> Bytes {
    format!("{id:x}").into()
}

/// Who is in the cluster and who was removed from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    by_id: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
}

impl Members {
    /// The founding members named by `--initial-cluster`.
    pub fn founding(initial_cluster: &[(String, String)], token: &str) -> Self {
        let mut urls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, url) in initial_cluster {
            urls.entry(name).or_default().push(url.clone());
        }
        let mut members = Self::default();
        for (name, urls) in urls {
            members.add(Member::founding(name, urls, token));
        }
        members
    }

    /// Members in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// The member with this id.
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.by_id.get(&id)
    }

    /// Whether this id was removed and is spent.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The cluster id a founding configuration implies.
    pub fn founding_cluster_id(&self) -> u64 {
        cluster_id(&self.by_id.values().cloned().collect::<Vec<_>>())
    }

    /// Adds a member or replaces what is known of it.
    pub fn add(&mut self, member: Member) {
        assert!(!self.removed.contains(&member.id), "a removed member id never comes back");
        self.by_id.insert(member.id, member);
    }

    /// Records a member's name and client URLs; the row to store, if the member is known.
    pub fn set_attributes(
        &mut self,
        id: u64,
        name: String,
        client_urls: Vec<String>,
    ) -> Option<Write> {
        let member = self.by_id.get_mut(&id)?;
        member.name = name;
        member.client_urls = client_urls;
        Some(member.row())
    }

    /// Takes in one stored row of the tables `members` or `members_removed`.
    pub fn load(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(key).map_err(|_| "a member id that is not hex")?;
        let id = u64::from_str_radix(text, 16).map_err(|_| "a member id that is not hex")?;
        if table == Table::MembersRemoved {
            self.removed.insert(id);
            return Ok(());
        }
        let member: Member = serde_json::from_slice(value)
            .map_err(|error| format!("the row of member {id:x}: {error}"))?;
        if member.id != id {
            return Err(format!("the row of member {id:x} names member {:x}", member.id));
        }
        self.by_id.insert(id, member);
        Ok(())
    }
}
