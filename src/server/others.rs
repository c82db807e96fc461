//! The other members, as far as this one can tell before it has begun.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, resolve_url};
use crate::members;
use crate::peer::join;
use crate::tls;

/// How long each may take to say who the members are.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Those that `--initial-cluster` names.
pub(super) fn named(config: &Config) -> Vec<String> {
    let others = config.initial_cluster.iter().filter(|(name, _)| *name != config.name);
    others.map(|(_, url)| url.clone()).collect()
}

/// Those, and whom the first of them that answers knows: members come and go, and nobody changes
/// what the others were started with.
pub(super) async fn known(config: &Config, tls: Option<&Arc<tls::Peers>>) -> Vec<String> {
    let mut urls = named(config);
    let Ok((_, told)) = join::members(&urls, tls, PATIENCE).await else { return urls };
    let own = &config.initial_advertise_peer_urls;
    for member in told {
        if members::difference(&member.peer_urls, own, &resolve_url).is_some() {
            urls.extend(member.peer_urls);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    urls.retain(|url| seen.insert(url.clone()));
    urls
}
