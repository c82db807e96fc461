//! Repair: another member's state in place of one that is damaged, before a node begins.

use std::sync::Arc;

use super::{StartError, others};
use crate::config::Config;
use crate::node::{self, Damage};
use crate::peer::{self, headers::Identity};
use crate::tls;

/// Puts the state of one of the other members in place of this one's.
pub(super) async fn repair(config: &Config, damage: &Damage) -> Result<(), StartError> {
    let Damage { cluster_id, member_id, fault, .. } = damage;
    tracing::error!(%fault, "the state of this member is damaged: asking the others for theirs");
    let identity = Identity {
        member_id: *member_id,
        cluster_id: *cluster_id,
        peer_urls: config.initial_advertise_peer_urls.clone(),
    };
    let tls = match &config.peer_tls {
        Some(tls) => Some(Arc::new(tls::Peers::new(tls)?)),
        None => None,
    };
    let urls = others::known(config, tls.as_ref()).await;
    let fetched = peer::fetch(&identity, &urls, tls.as_ref(), &damage.file).await;
    let url = fetched.map_err(|error| StartError::Damaged {
        damage: fault.to_string(),
        why: error.to_string(),
    })?;
    tracing::info!(url, "a peer gave its state");
    node::rebuild(config, damage)?;
    Ok(())
}
