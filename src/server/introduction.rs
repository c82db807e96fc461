//! What a member that begins must hear from the others first.
//!
//! One that joins learns its id, which was fixed when it was added. One that founds its cluster
//! asks whether that was done before: then its old data is lost, and with it what it voted for, and
//! it must not come back under its old id. One that was here before asks what the others heard it
//! promise: its directory may be an old copy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{StartError, others};
use crate::config::{ClusterState, Config, resolve_url};
use crate::members::{self, JoinError, Members};
use crate::node::{self, Joined, Told};
use crate::peer::{join, recall};
use crate::tls;

/// How long another member is given to say who the members are.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one is given that may not run yet.
const FOUNDING_PATIENCE: Duration = Duration::from_secs(1);
/// How long the others are given to say what they heard; those that open their state right now take
/// a moment.
const PROMISES_PATIENCE: Duration = Duration::from_secs(2);
/// How long the news that a member was added may take to get around, and how often to ask.
const NEWS_PATIENCE: Duration = Duration::from_secs(3);
const NEWS_POLL: Duration = Duration::from_millis(100);

/// What the others say: to a member that joins them, who they are; to one that was here before,
/// what they heard it promise. Those that do not answer in time are not waited for.
pub(super) async fn introduce(
    config: &Config,
    tls: Option<&Arc<tls::Peers>>,
) -> Result<Told, StartError> {
    let urls = others::named(config);
    if node::is_begun(config) {
        let heard = recall::promises(&urls, tls, PROMISES_PATIENCE).await;
        return Ok(Told { heard, ..Told::default() });
    }
    let joined = join(config, &urls, tls).await?;
    Ok(Told { joined, ..Told::default() })
}

async fn join(
    config: &Config,
    urls: &[String],
    tls: Option<&Arc<tls::Peers>>,
) -> Result<Option<Joined>, StartError> {
    match config.initial_cluster_state {
        ClusterState::Existing => {
            config.verify_joining().map_err(node::BootError::from)?;
            find_oneself(config, urls, tls).await.map(Some)
        }
        ClusterState::New => {
            let founders =
                Members::founding(&config.initial_cluster, &config.initial_cluster_token);
            let own = founders.iter().find(|member| member.name == config.name);
            let known = join::members(urls, tls, FOUNDING_PATIENCE).await;
            match (own, known) {
                (Some(own), Ok((_, remote))) if members::is_bootstrapped(&remote, own.id) => {
                    Err(StartError::Bootstrapped { id: own.id, name: own.name.clone() })
                }
                (_, Ok(_) | Err(_)) => Ok(None),
            }
        }
    }
}

/// The place of a member among those that run. Whoever is asked may not have heard yet that it was
/// added, if that was a moment ago.
async fn find_oneself(
    config: &Config,
    urls: &[String],
    tls: Option<&Arc<tls::Peers>>,
) -> Result<Joined, StartError> {
    let began = Instant::now();
    loop {
        let (cluster_id, remote) = join::members(urls, tls, PATIENCE).await?;
        let (cluster, name) = (&config.initial_cluster, &config.name);
        let max = config.max_learners;
        match members::join(&remote, cluster_id, cluster, name, max, &resolve_url) {
            Ok((member_id, members)) => return Ok(Joined { cluster_id, member_id, members }),
            Err(
                JoinError::NotAdded { .. } | JoinError::OtherUrls { .. } | JoinError::Count { .. },
            ) if began.elapsed() < NEWS_PATIENCE => tokio::time::sleep(NEWS_POLL).await,
            Err(error) => return Err(error.into()),
        }
    }
}
